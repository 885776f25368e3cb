"""The planning table: energies, dynamics models and reinforcement learning beside the oracle.

`python -m experiments.planning [--quick] [--seeds N] [--out DIR]` writes `DIR/planning.json`. Rows of
`python -m experiments.planning.reinforcement`, which takes hours, are taken from `DIR/reinforcement/`.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console

from ebm_control.provenance import provenance, usable_cores, write_record
from ebm_control.statistics import half_interval
from experiments.planning.jobs import JOBS, timings
from experiments.planning.report import table


@dataclass
class Planning:
    """Every planning problem, every method."""

    seeds: int = 5
    """Data sets, trainings and evaluations of each method."""
    quick: bool = False
    """One seed, fewer episodes, shorter trainings: the main rows."""
    out: Path = Path("experiments/results")
    """Folder of planning.json."""
    parts: tuple[str, ...] = ("maze", "particle", "arm", "reacher", "changes", "ablations", "ensemble")
    """Problems to run; a quick run leaves out the last three."""
    resume: bool = False
    """Keep the parts and seeds that planning.json holds already, whatever commit they ran from (each row says).
    Not with `quick`."""
    timing: tuple[int, ...] = (1, 64)
    """Start states of the plans that are timed at the end, on one thread (`quick`: 1 alone)."""


def one(job: tuple[str, int, bool]) -> list[dict[str, Any]]:
    """Rows of one part and seed."""
    part, seed, quick = job
    torch.set_num_threads(1)
    return JOBS[part](seed, quick)


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
                "plan_ms_p50": None,
                "plan_ms_p95": None,
            }
        )
        for name in group[0].get("extra", {}):
            merged[-1][name] = float(np.mean([row["extra"][name] for row in group]))
    return merged


def main() -> None:
    settings, console, started = tyro.cli(Planning), Console(), time.perf_counter()
    seeds = range(1 if settings.quick else settings.seeds)
    flags = " --quick" if settings.quick else f" --seeds {settings.seeds}"
    flags += f" --parts {' '.join(settings.parts)}" + (" --resume" if settings.resume else "")
    origin = provenance("python -m experiments.planning" + flags, seeds, 0.0)
    if settings.quick and settings.resume:
        raise SystemExit("--resume: expected without --quick, whose rows are not those of a full run")
    found = settings.out / "planning.json"
    rows: list[dict[str, Any]] = []
    if settings.resume and found.exists():
        rows = json.loads(found.read_text())["results"]["by_seed"]
    kept = {(row["part"], row["seed"]) for row in rows}
    work = [
        (part, seed, settings.quick)
        for seed, part in product(seeds, settings.parts)
        if (part, seed) not in kept and not (settings.quick and part in ("changes", "ablations", "ensemble"))
    ]

    def write(speed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """All that is known so far: a run that is stopped loses nothing."""
        summary = summarised(rows)
        for row, timed in product(summary, speed):
            same = all(row[name] == timed[name] for name in ("env", "method", "planner"))
            if same and timed["starts"] == 1:
                row |= {name: timed[name] for name in ("plan_ms_p50", "plan_ms_p95")}
        took = origin | {"seconds": round(time.perf_counter() - started, 3)}
        write_record(found, {"rows": summary, "timing": speed, "by_seed": rows}, took)
        return summary

    with ProcessPoolExecutor(usable_cores()) as pool:
        jobs = {pool.submit(one, job): job for job in work}
        for done in as_completed(jobs):
            part, seed, _ = jobs[done]
            console.print(f"{time.perf_counter() - started:6.0f} s  {part}, seed {seed}")
            rows += [{"part": part, **row, "commit": origin["commit"]} for row in done.result()]
            write([])
    torch.set_num_threads(1)
    starts = tuple(n for n in settings.timing if n == 1) if settings.quick else settings.timing
    summary = write(timings(starts))
    console.print(table(summary))


if __name__ == "__main__":
    main()
