"""The planning table: energies, dynamics models and reinforcement learning beside the oracle.

`python -m experiments.planning [--quick] [--seeds N] [--out DIR] [--parts ...]` writes `DIR/planning.json`, run by run,
and with `--resume` goes on where it was stopped. Rows of `python -m experiments.planning.reinforcement`, which takes
hours, are taken from `DIR/reinforcement/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
import tyro

from ebm_control.checks import require_number
from ebm_control.statistics import half_interval
from experiments.planning.jobs import COSTLY, COSTLY_SEEDS, JOBS, timings
from experiments.planning.report import table
from experiments.processes import as_program
from experiments.runs import Experiment, Runs, carry_out, chosen

NOT_QUICK = ("changes", "ablations", "ensemble")


@dataclass
class Planning(Runs):
    """Every planning problem, every method; quick: fewer episodes, shorter trainings, the main rows."""

    parts: tuple[str, ...] = ("maze", "particle", "arm", "reacher", "changes", "ablations", "ensemble")
    """Problems to run; a quick run leaves out the last three."""
    timing: tuple[int, ...] = (1, 64)
    """Start states of the plans that are timed at the end, on one thread (`quick`: 1 alone); none: nothing is timed."""


@dataclass(frozen=True)
class Job:
    """A part of the table for one seed."""

    name: str
    seed: int
    quick: bool


def jobs_of(parts: Iterable[str], seeds: Iterable[int], quick: bool) -> Iterator[Job]:
    """Seed by seed, so that a run that is stopped has whole seeds."""
    for seed, part in product(seeds, parts):
        if not (part in NOT_QUICK if quick else part in COSTLY and seed >= COSTLY_SEEDS):
            yield Job(part, seed, quick)


def run(job: Job) -> list[dict[str, Any]]:
    """Rows of a part and seed."""
    return JOBS[job.name](job.seed, job.quick)


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a problem and method: mean over seeds, 95 % interval of the mean by Student's t."""
    merged = []
    rows = sorted(rows, key=lambda row: (row["env"], row["seed"]))
    for key in dict.fromkeys((row["env"], row["method"], row["planner"]) for row in rows):
        group = [row for row in rows if (row["env"], row["method"], row["planner"]) == key]
        means = np.array([row["return"] for row in group])
        n = len(means)
        oracles = [row["oracle"] for row in group if row["oracle"] is not None]
        merged.append(
            {
                "env": key[0],
                "method": key[1],
                "planner": key[2],
                "data": group[0]["data"],
                "seeds": n,
                "episodes": sum(row["episodes"] for row in group),
                "return_mean": float(means.mean()),
                "return_ci95": half_interval(means),
                "oracle": float(np.mean(oracles)) if oracles else None,
                "success": float(
                    np.average([row["success"] for row in group], weights=[r["episodes"] for r in group])
                ),
                "env_steps": group[0]["env_steps"],
                "train_seconds": float(np.mean([row["train_seconds"] for row in group])),
                "returns_by_seed": means.tolist(),
                "batch_plan_ms_p50": float(np.mean([row["batch_plan_ms_p50"] for row in group])),
            }
        )
        for name in group[0].get("extra", {}):
            merged[-1][name] = float(np.mean([row["extra"][name] for row in group]))
    return merged


def timed(rows: list[dict[str, Any]], timing: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the times of a plan from one start, where it was measured."""
    names = ("env", "method", "planner")
    times = {tuple(t[name] for name in names): t for t in timing if t["starts"] == 1}
    shown = ("plan_ms_p50", "plan_ms_p95")
    found = [times.get(tuple(row[name] for name in names)) for row in rows]
    return [
        row | {name: None if time is None else time[name] for name in shown}
        for row, time in zip(rows, found, strict=True)
    ]


def main() -> None:
    settings = tyro.cli(Planning)
    parts = chosen("parts", settings.parts, JOBS)
    for starts in settings.timing:
        require_number("timing", starts, 1, whole=True)
    jobs = list(jobs_of(parts, settings.seed_range, settings.quick))

    def measured() -> list[dict[str, Any]]:
        torch.set_num_threads(1)
        return timings(tuple(n for n in settings.timing if n == 1 or not settings.quick))

    flags = f" --parts {' '.join(parts)}"
    carry_out(
        settings, Experiment("planning", jobs, run, summarised, table, flags, timing=measured, joined=timed)
    )


if __name__ == "__main__":
    as_program(main)
