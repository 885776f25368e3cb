"""Image energies with the sampler of trajectories: generate, restore, detect outliers, resist attacks, compose.

`python -m experiments.images [--quick] [--seeds N] [--out DIR] [--parts ...]` writes `DIR/images.json` after every run;
`--resume` continues a stopped one. Without `--quick` (scikit-learn's digits) it reads MNIST and Fashion-MNIST from
`--data-dir` or the folder in EBM_CONTROL_DATA. Trained energies and pictures are stored in `--runs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.images.jobs import PARTS, jobs_of, run
from experiments.images.report import summarised, table
from experiments.processes import as_program
from experiments.runs import Experiment, MethodRuns, carry_out, chosen


@dataclass
class Images(MethodRuns):
    """All parts, methods and seeds."""

    seeds: int = 3
    """Runs per method."""
    parts: tuple[str, ...] = PARTS
    """Parts in this order."""
    runs: Path = Path("runs/images")
    """Folder of checkpoints and pictures."""
    data_dir: Path | None = None
    """Folder of idx files; default: the environment variable EBM_CONTROL_DATA."""
    device: str = "cpu"
    """Device for training and sampling, such as "cuda"."""


def main() -> None:
    settings = tyro.cli(Images)
    parts = chosen("parts", settings.parts, PARTS)
    given = (settings.runs, settings.data_dir, settings.device)
    jobs = list(jobs_of(parts, settings.seed_range, settings.quick, *given))
    flags = f" --parts {' '.join(parts)} --device {settings.device}"
    carry_out(settings, Experiment("images", jobs, run, summarised, table, flags))


if __name__ == "__main__":
    as_program(main)
