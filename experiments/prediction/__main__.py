"""Multi-step prediction: energies by objective and regression baselines, scored as distributions.

`python -m experiments.prediction [--quick] [--seeds N] [--out DIR] [--cases ...]` writes `DIR/prediction.json` after
every run; `--resume` continues a stopped one. Datasets are collected, and policies trained, on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.prediction import data
from experiments.prediction.jobs import CASES, jobs_of, run
from experiments.prediction.report import summarised, table
from experiments.processes import as_program
from experiments.runs import Experiment, MethodRuns, carry_out, chosen


@dataclass
class Prediction(MethodRuns):
    """All cases, methods and seeds; quick: two datasets, a tenth of the data, a twentieth of the training."""

    data: Path = data.FOLDER
    """Folder of the datasets."""
    cases: tuple[str, ...] = tuple(CASES)
    """Cases in this order."""


def main() -> None:
    settings = tyro.cli(Prediction)
    cases = chosen("cases", settings.cases, CASES)
    jobs = list(jobs_of(cases, settings.seed_range, settings.quick, settings.data))
    flags = "" if cases == tuple(CASES) else " --cases" + "".join(f" '{name}'" for name in cases)
    carry_out(settings, Experiment("prediction", jobs, run, summarised, table, flags))


if __name__ == "__main__":
    as_program(main)
