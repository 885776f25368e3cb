"""Continual learning: classes arrive one task at a time, with and without task boundaries and replay memory.

`python -m experiments.continual [--quick] [--seeds N] [--out DIR] [--streams ...]` writes `DIR/continual.json` after
every run; `--resume` continues a stopped one. Without `--quick` (scikit-learn's digits) it reads MNIST and
Fashion-MNIST from `--data-dir` or the folder in EBM_CONTROL_DATA.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.continual.jobs import KNOWN_STREAMS, QUICK_STREAMS, STREAMS, jobs_of, run
from experiments.continual.report import summarised, table
from experiments.processes import as_program
from experiments.runs import Experiment, MethodRuns, carry_out, chosen


@dataclass
class Continual(MethodRuns):
    """All streams, methods and seeds; quick: digits, a tenth of the updates."""

    seeds: int = 10
    """Runs per method."""
    streams: tuple[str, ...] = ()
    """Streams in this order; default: those of the table."""
    data_dir: Path | None = None
    """Folder of idx files; default: the environment variable EBM_CONTROL_DATA."""
    held_out: bool = False
    """Test on a held-out tenth of the training images, for choosing settings."""


def main() -> None:
    settings = tyro.cli(Continual)
    streams = settings.streams or (QUICK_STREAMS if settings.quick else STREAMS)
    streams = chosen("streams", streams, KNOWN_STREAMS)
    jobs = list(jobs_of(streams, settings.seed_range, settings.quick, settings.data_dir, settings.held_out))
    flags = f" --streams {' '.join(settings.streams)}" if settings.streams else ""
    flags += " --held-out" if settings.held_out else ""
    experiment = Experiment("continual", jobs, run, summarised, table, flags, alike=("--held-out",))
    carry_out(settings, experiment)


if __name__ == "__main__":
    as_program(main)
