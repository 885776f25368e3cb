"""Tables of the planning page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ebm_control.statistics import half_interval
from experiments.pages.sources import sources
from experiments.records import load
from experiments.tables import markdown, number, spread

Row = dict[str, Any]
RESULTS = Path("experiments/results")
RECORDS = ("planning", "budget", "diversity", "reacher")
COLUMNS = ("problem", "method", "planner", "return", "oracle", "success", "seeds", "training, s")
EXTRAS = {
    "steps_over_limit": "share of steps over the limit",
    "jerkiness": "mean squared second difference of positions",
}
BUDGET = ("problem", "method", "planner", "engine", "updates", "plan, ms", "return", "success", "seeds")
DIVERSITY = ("problem", "both classes", "worst seed", "problems", "seeds")
REACHER = ("energy", "planner", "return", "oracle", "success", "RMSE, 1 step", "RMSE, 20 steps", "seeds")
NAMES = {
    "particle": "Particle",
    "reacher": "Reacher",
    "maze-bend": "Maze, one bend",
    "maze-s": "Maze, S",
    "arm7": "Arm7",
}


def page_tables(root: Path) -> dict[str, str]:
    """The page's tables by slot."""
    results = root / RESULTS
    found = {name: load(results / f"{name}.json")["results"]["rows"] for name in RECORDS}
    rows = found["planning"]
    known = sorted((row for row in rows if row["oracle"] is not None), key=lambda row: row["seeds"])
    oracles = {row["env"]: row["oracle"] for row in known}
    shown = sorted([*rows, *reinforcement(results, oracles)], key=lambda row: row["env"])
    return {
        "returns": markdown(COLUMNS, map(cells, shown)),
        "extras": "\n\n".join(extra(rows, name, title) for name, title in EXTRAS.items()),
        "diversity": markdown(DIVERSITY, map(diverse, found["diversity"])),
        "budget": markdown(BUDGET, map(budget, found["budget"])),
        "reacher": markdown(REACHER, map(reacher, found["reacher"])),
        "sources": sources(
            root, (*(f"{RESULTS}/{name}.json" for name in RECORDS), f"{RESULTS}/reinforcement/")
        ),
    }


def returned(row: Row) -> str:
    """The return and its interval."""
    of_seeds = {
        "return": row["return_mean"],
        "return_ci95": row["return_ci95"],
        "return_by_seed": row.get("returns_by_seed"),
    }
    return spread(of_seeds, "return", ".2f", ".2f")


def cells(row: Row) -> list[str]:
    """Of the main table."""
    return [
        row["env"],
        row["method"],
        row["planner"],
        returned(row),
        "–" if row["oracle"] is None else f"{row['oracle']:.2f}",
        f"{row['success']:.2f}",
        str(row["seeds"]),
        f"{row['train_seconds']:.0f}",
    ]


def extra(rows: list[Row], name: str, title: str) -> str:
    """A table of a measure that some rows have."""
    having = [row for row in rows if row.get(name) is not None]
    body = [
        [row["env"], row["method"], row["planner"], number(row[name]), str(row["seeds"])] for row in having
    ]
    return markdown(("problem", "method", "planner", title, "seeds"), body)


def diverse(row: Row) -> list[str]:
    """Of plans of both homotopy classes."""
    shares = [f"{row[name]:.2f}" for name in ("share", "share_worst_seed")]
    return [row["env"], *shares, str(row["problems"]), str(row["seeds"])]


def budget(row: Row) -> list[str]:
    """Of plan time against return."""
    return [
        row["env"],
        row["method"],
        row["planner"],
        row["engine"],
        str(row["updates"]),
        f"{row['plan_ms_p50']:.0f}",
        returned(row),
        f"{row['success']:.2f}",
        str(row["seeds"]),
    ]


def reacher(row: Row) -> list[str]:
    """Of energies against samplers."""
    errors = [spread(row, name, ".4f", ".4f") for name in ("rmse_1", "rmse_20")]
    figures = [spread(row, "return", ".2f", ".2f"), f"{row['oracle']:.2f}", f"{row['success']:.2f}"]
    return [row["energy"], row["planner"], *figures, *errors, str(row["seeds"])]


def learning_runs(results: Path) -> Iterator[Row]:
    """Results of the reinforcement-learning runs, a dictionary each."""
    for file in sorted((results / "reinforcement").glob("*.json")):
        yield load(file)["results"]


def reinforcement(results: Path, oracles: dict[str, float]) -> list[Row]:
    """Rows of the reinforcement-learning runs, in the shape of the others."""
    groups: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for run in learning_runs(results):
        groups[run["problem"], run["method"], run["env_steps"]].append(run)
    return [
        {
            "env": NAMES[problem],
            "method": "PPO" if learner == "ppo" else "SAC",
            "planner": f"none; {steps:,} steps of its own",
            "return_mean": float(np.mean([run["return_mean"] for run in runs])),
            "return_ci95": half_interval([run["return_mean"] for run in runs]),
            "returns_by_seed": [run["return_mean"] for run in runs],
            "oracle": oracles.get(NAMES[problem]),
            "success": float(np.mean([run["success"] for run in runs])),
            "seeds": len(runs),
            "train_seconds": float(np.mean([run["train_cpu_seconds"] for run in runs])),
        }
        for (problem, learner, steps), runs in groups.items()
    ]
