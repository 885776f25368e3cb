"""Tables of online learning for the terminal and the page of results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from experiments import tables
from experiments.pages.sources import RESULTS, sources
from experiments.planning.problems import PROBLEMS
from experiments.planning.report import trained
from experiments.records import load

Row = dict[str, Any]
KEYS = ("part", "env", "method", "stage", "checkpoint")
CONTROL = ("problem", "method", "steps", "return", "oracle", "success", "return while learning", "seeds")
SWITCH = (
    "method",
    "stage",
    "return 400 steps on",
    "800 steps on",
    "2,000 steps on",
    "5,000 steps on",
    "20,000 steps on",
    "other regime, then",
    "seeds",
)
SEQUENTIAL = ("method", "each transition 100 times, in order", "as often, shuffled", "seeds")
REACHED = ("problem", "level", "method", "steps until all seeds are there", "until training episodes are")
SAC_SHOWN = (1000, 5000, 10_000, 20_000, 50_000)  # steps of the shown evaluations of SAC, out of every 1,000
EXPLORATION = ("place", "method", "steps to 95 %", "seeds that got there", "visited at the end")
LEVELS = {"Particle": -5.5, "Reacher": -7.5, "Maze, one bend": -28.55 * 1.3, "Maze, S": -73.82 * 1.3}
WITHIN = 0.75  # share of Arm7's goals reached within 5 cm, mean over seeds
PLACES = {"exploration, maze": "Maze", "exploration, arm7": "Arm7"}


def summarised(rows: list[Row]) -> list[Row]:
    """One row per combination of `KEYS`."""
    return tables.summarised(rows, KEYS, ("return", "steps_to_95"))


def spread(row: Row, name: str = "return", digits: int = 2) -> str:
    """Text of the mean ± the half-width of its interval."""
    return tables.spread(row, name, *[f",.{digits}f"] * 2)


def control(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Cells of the rows that have an oracle."""
    shown = [
        row
        for row in rows
        if row.get("oracle") and (row["method"] != "SAC" or row["checkpoint"] in SAC_SHOWN)
    ]
    for row in sorted(shown, key=lambda r: (r["env"], r["checkpoint"], r["method"])):
        yield (
            row["env"],
            row["method"],
            f"{row['env_steps']:,.0f}",
            spread(row),
            f"{row['oracle']:.2f}",
            f"{row['success']:.2f}",
            spread({"return": row.get("acting_return")}),
            str(row["seeds"]),
        )


def switch(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Cells of the part "switch"."""
    found = [row for row in rows if row["part"] == "switch"]
    for method, stage in dict.fromkeys((row["method"], row["stage"]) for row in found):
        group = [row for row in found if (row["method"], row["stage"]) == (method, stage)]
        by_time = {int(row["since_change"]): row for row in group}
        last = by_time[max(by_time)]
        other = last.get("return_other")
        yield (
            method,
            stage,
            *(spread(by_time[t]) if t in by_time else "–" for t in (400, 800, 2000, 5000, 20_000)),
            "–" if other is None else f"{other:.2f}",
            str(last["seeds"]),
        )


def sequential(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Cells of the part "sequential"."""
    found = [row for row in rows if row["part"] == "sequential"]
    for method in dict.fromkeys(row["method"] for row in found):
        by_order = {row["stage"]: row for row in found if row["method"] == method}
        seeds = str(min(row["seeds"] for row in by_order.values()))
        yield method, spread(by_order["in order"]), spread(by_order["shuffled"]), seeds


def exploration(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Cells of the parts "exploration"."""
    for row in (row for row in rows if row["part"] in PLACES):
        reached = row.get("steps_to_95_by_seed", [])
        seen = f"{row['visited']:.2f}" if row["visited"] <= 1 else f"{row['visited']:,.0f} voxels"
        yield (
            PLACES[row["part"]],
            row["method"],
            spread(row, "steps_to_95", 0),
            f"{len(reached)} of {row['seeds']}",
            f"{seen} after {row['env_steps']:,.0f} steps",
        )


def levels(rows: Sequence[Row], others: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """First checkpoint at which every seed of a method reaches a level, in evaluations and in training episodes.

    `others` are reinforcement-learning runs; if SAC was not evaluated during training, its training curve is used.
    """
    for env, level in LEVELS.items():
        here = [row for row in rows if row["env"] == env and row["part"] in ("control", "maze")]
        for method in dict.fromkeys(row["method"] for row in here):
            group = [row for row in here if row["method"] == method]
            there = [row["env_steps"] for row in group if min(row["return_by_seed"]) >= level]
            acting = [row["env_steps"] for row in group if (row.get("acting_return") or -np.inf) >= level]
            last = max(row["env_steps"] for row in group)
            yield (
                env,
                f"{level:.1f}",
                method,
                first(there, last),
                "–" if env.startswith("Maze") else first(acting, last),
            )
        if any(row["method"] == "SAC" for row in here):
            continue
        for run in others:
            if (PROBLEMS[run["problem"]].name, run["method"]) == (env, "sac"):
                curve = run["training_curve"]
                when = [step for step, value in curve if value >= level]
                yield env, f"{level:.1f}", f"SAC, seed {run['seed']}", "–", first(when, curve[-1][0])

    for method in dict.fromkeys(row["method"] for row in rows if row["env"] == "Arm7" and row.get("oracle")):
        group = [row for row in rows if (row["env"], row["method"]) == ("Arm7", method) and row.get("oracle")]
        there = [row["env_steps"] for row in group if row["success"] >= WITHIN]
        yield "Arm7", "75 % of goals", method, first(there, max(r["env_steps"] for r in group)), "–"


def first(steps: Sequence[float], last: float) -> str:
    """Text of the least of `steps`, or that the level was not reached within `last`."""
    return f"{min(steps):,.0f}" if steps else f"not in {last:,.0f}"


def table(rows: list[Row]) -> Table:
    """The table for the terminal."""
    made = Table(*CONTROL, title="Online learning")
    for line in control(rows):
        made.add_row(*line)
    return made


def page_tables(root: Path) -> dict[str, str]:
    """The page's tables by slot."""
    results = root / RESULTS
    rows = load(results / "online.json")["results"]["rows"]
    return {
        "control": tables.markdown(CONTROL, control(rows)),
        "levels": tables.markdown(REACHED, levels(rows, trained(results))),
        "switch": tables.markdown(SWITCH, switch(rows)),
        "sequential": tables.markdown(SEQUENTIAL, sequential(rows)),
        "exploration": tables.markdown(EXPLORATION, exploration(rows)),
        "sources": sources(root, (f"{RESULTS}/online.json", f"{RESULTS}/reinforcement.json")),
    }
