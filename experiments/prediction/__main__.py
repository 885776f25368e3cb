"""Multi-step prediction: energies by objective, and the regressions beside them, scored as distributions.

`python -m experiments.prediction [--quick] [--seeds N] [--out DIR] [--cases ...]` writes `DIR/prediction.json`, run by
run, and with `--resume` goes on where it was stopped. Datasets are collected on first use, and policies trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.prediction import data
from experiments.prediction.jobs import CASES, jobs_of, run
from experiments.prediction.report import summarised, table
from experiments.runs import Runs, carry_out


@dataclass
class Prediction(Runs):
    """Every case, every method, every seed; quick: two datasets, a tenth of the data, a twentieth of the training."""

    data: Path = data.FOLDER
    """Folder of the datasets."""
    cases: tuple[str, ...] = tuple(CASES)
    """In this order."""


def main() -> None:
    settings = tyro.cli(Prediction)
    jobs = jobs_of(settings.cases, settings.seed_range, settings.quick, settings.data)
    flags = (
        " --cases" + "".join(f" '{name}'" for name in settings.cases)
        if settings.cases != tuple(CASES)
        else ""
    )
    carry_out(settings, "prediction", jobs, run, summarised, table, flags)


if __name__ == "__main__":
    main()
