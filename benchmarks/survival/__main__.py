"""What the library survives: kills, damaged files, disks that are full, calls that make no sense.

python -m benchmarks.survival [--quick] [--out FILE] [--kinds kills damage disks fuzz] [--seed N]

Every try is drawn from the seed and can be done again. It ends with status 1 unless no exception but the library's own,
no wrong result and no lost work was found.
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
    """What is tried."""

    quick: bool = False
    """Some of the tries: five minutes on two busy cores."""
    out: Path | None = None
    """File for the figures, as JSON: `tries`, `clear`, `right`, `tracebacks`, `silent`, `lost`, in all and by kind."""
    kinds: tuple[Kinds, ...] = ("kills", "damage", "disks", "fuzz")
    """Of tries."""
    seed: int = 0
    """Of moments, damage and arguments."""


def main(settings: Settings, sizes: Sizes | None = None) -> int:
    """Exit status; `sizes` are those of the settings without."""
    sizes = sizes or (QUICK if settings.quick else FULL)
    torch.set_num_threads(1)  # before anything is computed, so that processes may be forked
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
