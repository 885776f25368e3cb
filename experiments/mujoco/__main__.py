"""Control from nothing in few steps, and of mazes from data, on environments of Gymnasium and Gymnasium-Robotics.

`python -m experiments.mujoco [--quick] [--seeds N] [--out DIR] [--envs ...] [--methods ...]` writes `DIR/mujoco.json`
after every run; `--resume` continues a stopped one. Quick: one seed of 500 steps on three environments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tyro

from experiments.mujoco.jobs import QUICK, jobs_of, run
from experiments.mujoco.problems import PROBLEMS
from experiments.mujoco.report import summarised, table
from experiments.processes import as_program
from experiments.runs import Experiment, MethodRuns, carry_out, chosen


@dataclass
class Mujoco(MethodRuns):
    """All environments, methods and seeds."""

    envs: tuple[str, ...] | None = None
    """Run only these environments; default: all, and in a quick run three cheap ones."""
    seeds: int = 3
    """Runs per method and environment."""

    def wants(self, job: Any) -> bool:
        """Whether the job's method is selected; pairs that take long need both their names."""
        return super().wants(job) and not (job.optional and not (self.methods and self.envs))


def main() -> None:
    settings = tyro.cli(Mujoco)
    default = QUICK if settings.quick else tuple(PROBLEMS)
    envs = default if settings.envs is None else chosen("envs", settings.envs, PROBLEMS)
    jobs = list(jobs_of(envs, settings.seed_range, settings.quick))
    flags = "" if settings.envs is None else f" --envs {' '.join(envs)}"
    carry_out(settings, Experiment("mujoco", jobs, run, summarised, table, flags))


if __name__ == "__main__":
    as_program(main)
