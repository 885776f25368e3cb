"""Online learning from nothing: energies, and the models they have to beat, in one loop.

`python -m experiments.online [--quick] [--seeds N] [--out DIR] [--parts ...]` writes `DIR/online.json`, run by run, and
with `--resume` goes on where it was stopped.
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
    """Every part, every method, every seed."""

    parts: tuple[str, ...] = tuple(PARTS)
    """In this order."""


def main() -> None:
    settings = tyro.cli(Online)
    parts = chosen("parts", settings.parts, PARTS)
    jobs = list(jobs_of(parts, settings.seed_range, settings.quick))
    flags = f" --parts {' '.join(repr(part) for part in parts)}"
    carry_out(settings, Experiment("online", jobs, run, summarised, table, flags))


if __name__ == "__main__":
    as_program(main)
