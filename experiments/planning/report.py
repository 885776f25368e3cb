"""The table, for the terminal and for the documentation.

`python -m experiments.planning.report` prints what `experiments/results/` holds, reinforcement learning included,
as Markdown.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ebm_control.statistics import half_interval
from experiments import tables
from experiments.processes import as_program

Row = dict[str, Any]
EXTRAS = {
    "steps_over_limit": "share of steps over the limit",
    "jerkiness": "mean squared second difference of positions",
}
COLUMNS = ("problem", "method", "planner", "return", "oracle", "success", "seeds", "training, s")


def cells(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """Text of each row, in the order of `COLUMNS`."""
    for row in sorted(rows, key=lambda row: row["env"]):
        spread = "" if row["return_ci95"] is None else f" ± {row['return_ci95']:.2f}"
        oracle = row["oracle"]
        yield (
            row["env"],
            row["method"],
            row["planner"],
            f"{row['return_mean']:.2f}{spread}",
            "" if oracle is None else f"{oracle:.2f}",
            f"{row['success']:.2f}",
            str(row["seeds"]),
            f"{row['train_seconds']:.0f}",
        )


def table(rows: list[Row]) -> Table:
    """For the terminal."""
    made = Table(*COLUMNS, title="Planning, 100,000 random transitions")
    for line in cells(rows):
        made.add_row(*line)
    return made


def markdown(rows: list[Row], timing: list[Row]) -> str:
    """Tables for the documentation."""
    lines = tables.lines(COLUMNS, cells(rows))
    if timing:
        lines += ["", "| problem | starts | p50, ms | p95, ms | plans/s |", "|---|---|---|---|---|"]
        lines += [
            f"| {t['env']} | {t['starts']} | {t['plan_ms_p50']:.1f} | {t['plan_ms_p95']:.1f} "
            f"| {t['plans_per_second']:.0f} |"
            for t in timing
        ]
    for name, title in EXTRAS.items():
        having = [row for row in rows if name in row]
        if having:
            lines += ["", f"| problem | method | planner | {title} | seeds |", "|---|---|---|---|---|"]
            lines += [
                f"| {r['env']} | {r['method']} | {r['planner']} | {r[name]:.3g} | {r['seeds']} |"
                for r in having
            ]
    return "\n".join(lines) + "\n"


def diverse(rows: list[Row]) -> str:
    """Table of the share of problems with plans of both classes."""
    lines = ["| problem | both classes | worst seed | problems | seeds |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['env']} | {r['share']:.2f} | {r['share_worst_seed']:.2f} | {r['problems']} | {r['seeds']} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def budgets(rows: list[Row]) -> str:
    """Table of plan time against return."""
    lines = [
        "| problem | method | planner | updates | p50, ms | return | success |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        spread = "" if r["return_ci95"] is None else f" ± {r['return_ci95']:.2f}"
        lines.append(
            f"| {r['env']} | {r['method']} | {r['planner']}, {r['engine']} | {r['updates']} "
            f"| {r['plan_ms_p50']:.0f} | {r['return_mean']:.2f}{spread} | {r['success']:.2f} |"
        )
    return "\n".join(lines) + "\n"


NAMES = {
    "particle": "Particle",
    "reacher": "Reacher",
    "maze-bend": "Maze, one bend",
    "maze-s": "Maze, S",
    "arm7": "Arm7",
}


def learned(folder: Path, oracles: dict[str, float]) -> list[Row]:
    """Rows of the reinforcement-learning runs in `folder`, in the shape of the others."""
    groups: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for file in sorted(folder.glob("*.json")):
        found = json.loads(file.read_text())["results"]
        learner = file.stem.split("-seed")[0].removeprefix(found["problem"] + "-").split("-")[0]
        groups[found["problem"], learner, found["env_steps"]].append(found)
    return [
        {
            "env": NAMES[problem],
            "method": "PPO" if learner == "ppo" else "SAC",
            "planner": f"none; {steps:,} steps of its own",
            "return_mean": float(np.mean([run["return_mean"] for run in runs])),
            "return_ci95": half_interval([run["return_mean"] for run in runs]),
            "oracle": oracles.get(NAMES[problem]),
            "success": float(np.mean([run["success"] for run in runs])),
            "seeds": len(runs),
            "train_seconds": float(np.mean([run["train_cpu_seconds"] for run in runs])),
        }
        for (problem, learner, steps), runs in groups.items()
    ]


def main() -> None:
    folder = Path("experiments/results")
    results = json.loads((folder / "planning.json").read_text())["results"]
    known = [row for row in results["rows"] if row["oracle"] is not None]
    oracles = {row["env"]: row["oracle"] for row in sorted(known, key=lambda row: row["seeds"])}
    print(markdown(results["rows"] + learned(folder / "reinforcement", oracles), results["timing"]))
    for name, shown in (("diversity", diverse), ("budget", budgets)):
        file = folder / f"{name}.json"
        if file.exists():
            print(shown(json.loads(file.read_text())["results"]["rows"]))


if __name__ == "__main__":
    as_program(main)
