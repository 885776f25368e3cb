"""Robustness of the library: kills, damaged files, full disks, invalid calls.

python -m benchmarks.survival [--quick] [--out FILE] [--kinds kills damage disks fuzz] [--seed N]

Every try is drawn from the seed and can be repeated. The exit status is 1 if there was an exception other than the
library's own, a wrong result or lost work.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from benchmarks.survival.outcomes import sound
from benchmarks.survival.tries import FULL, QUICK, Sizes, survive, table_of
from ebm_control.provenance import provenance

Kinds = Literal["kills", "damage", "disks", "fuzz"]


@dataclass(frozen=True)
class Settings:
    """Settings of the tries."""

    quick: bool = False
    """Fewer tries: five minutes on two busy cores."""
    out: Path | None = None
    """JSON file for the counts: `tries`, `clear`, `right`, `tracebacks`, `silent`, `lost`, in total and by kind."""
    kinds: tuple[Kinds, ...] = ("kills", "damage", "disks", "fuzz")
    """Kinds of tries."""
    seed: int = 0
    """Seed of moments, damage and arguments."""


def main(settings: Settings, sizes: Sizes | None = None) -> int:
    """Run all tries; returns the exit status. `sizes` defaults to those of the settings."""
    sizes = sizes or (QUICK if settings.quick else FULL)
    torch.set_num_threads(1)  # before any computation, so that processes can be forked
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="survival-") as place:
        tally = survive(sizes, settings.kinds, settings.seed, Path(place), show=print)
    command = "python -m benchmarks.survival" + " --quick" * settings.quick + f" --seed {settings.seed}"
    command += f" --kinds {' '.join(settings.kinds)}"
    tally["provenance"] = provenance(command, [settings.seed], time.perf_counter() - started)
    table_of(tally)
    if settings.out is not None:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        settings.out.write_text(json.dumps(tally, indent=2) + "\n")
    return 0 if sound(tally) else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
