"""Image energies through the sampler of trajectories: generate, restore, tell outliers, resist, compose.

`python -m experiments.images [--quick] [--seeds N] [--out DIR] [--parts ...]` writes `DIR/images.json`, run by run, and
with `--resume` goes on where it was stopped. Without `--quick` (scikit-learn's digits) it reads MNIST and Fashion-MNIST
from `--data-dir` or the folder that EBM_CONTROL_DATA names. Trained energies are kept in `--runs`, pictures too.
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
    """Every part, every method, every seed."""

    seeds: int = 3
    """Runs of each method."""
    parts: tuple[str, ...] = PARTS
    """In this order."""
    runs: Path = Path("runs/images")
    """Folder of checkpoints and pictures."""
    data_dir: Path | None = None
    """Folder of idx files; EBM_CONTROL_DATA without."""
    device: str = "cpu"
    """Where everything is trained and drawn: "cuda" where there is a GPU."""


def main() -> None:
    settings = tyro.cli(Images)
    parts = chosen("parts", settings.parts, PARTS)
    given = (settings.runs, settings.data_dir, settings.device)
    jobs = list(jobs_of(parts, settings.seed_range, settings.quick, *given))
    flags = f" --parts {' '.join(parts)} --device {settings.device}"
    carry_out(settings, Experiment("images", jobs, run, summarised, table, flags))


if __name__ == "__main__":
    as_program(main)
