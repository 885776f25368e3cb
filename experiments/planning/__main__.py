"""The planning table: energies, dynamics models and reinforcement learning, compared with the oracle.

`python -m experiments.planning [--quick] [--seeds N] [--out DIR] [--parts ...]` writes `DIR/planning.json` after every
run; `--resume` continues a stopped one. Reinforcement learning, which takes hours, is
`python -m experiments.planning.reinforcement`; `python -m experiments.report` puts both in one table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import tyro

from ebm_control.checks import require_number
from experiments.planning.jobs import PARTS, jobs_of, run, timings
from experiments.planning.report import COLUMNS, summarised, timed
from experiments.planning.rows import Row
from experiments.processes import as_program
from experiments.runs import Experiment, Runs, carry_out, chosen


@dataclass
class Planning(Runs):
    """All planning problems and methods; quick: fewer episodes, shorter trainings, only the main rows."""

    parts: tuple[str, ...] = tuple(PARTS)
    """Problems to run; a quick run leaves out the last three."""
    timing: tuple[int, ...] = (1, 64)
    """Numbers of start states of the plans timed at the end, on one thread (`quick`: only 1); empty for no timing."""


def main() -> None:
    settings = tyro.cli(Planning)
    parts = chosen("parts", settings.parts, PARTS)
    for starts in settings.timing:
        require_number("timing", starts, 1, whole=True)
    jobs = list(jobs_of(parts, settings.seed_range, settings.quick))

    def measured() -> list[Row]:
        torch.set_num_threads(1)
        return timings(tuple(n for n in settings.timing if n == 1 or not settings.quick))

    flags = f" --parts {' '.join(parts)}"
    experiment = Experiment(
        "planning", jobs, run, summarised, COLUMNS.table, flags, timing=measured, joined=timed
    )
    carry_out(settings, experiment)


if __name__ == "__main__":
    as_program(main)
