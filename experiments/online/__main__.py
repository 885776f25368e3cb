"""Online learning from nothing: energies, and the models they have to beat, in one loop.

`python -m experiments.online [--quick] [--seeds N] [--out DIR] [--parts ...]` writes `DIR/online.json`, run by run, and
with `--resume` goes on where it was stopped.
"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from experiments.online.jobs import PARTS, jobs_of, run
from experiments.online.report import summarised, table
from experiments.runs import Runs, carry_out


@dataclass
class Online(Runs):
    """Every part, every method, every seed."""

    parts: tuple[str, ...] = PARTS
    """In this order."""


def main() -> None:
    settings = tyro.cli(Online)
    jobs = jobs_of(settings.parts, settings.seed_range, settings.quick)
    flags = f" --parts {' '.join(settings.parts)}"
    carry_out(settings, "online", jobs, run, summarised, table, flags)


if __name__ == "__main__":
    main()
