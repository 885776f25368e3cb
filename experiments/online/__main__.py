"""Online learning from scratch: energies and baseline models in the same loop.

`python -m experiments.online [--quick] [--seeds N] [--out DIR] [--parts ...]` writes `DIR/online.json` after every run;
`--resume` continues a stopped one.
"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from experiments.online.jobs import PARTS, jobs_of, run
from experiments.online.report import summarised, table
from experiments.processes import as_program
from experiments.runs import Experiment, MethodRuns, carry_out, chosen


@dataclass
class Online(MethodRuns):
    """All parts, methods and seeds."""

    parts: tuple[str, ...] = tuple(PARTS)
    """Parts in this order."""


def main() -> None:
    settings = tyro.cli(Online)
    parts = chosen("parts", settings.parts, PARTS)
    jobs = list(jobs_of(parts, settings.seed_range, settings.quick))
    flags = f" --parts {' '.join(repr(part) for part in parts)}"
    carry_out(settings, Experiment("online", jobs, run, summarised, table, flags))


if __name__ == "__main__":
    as_program(main)
