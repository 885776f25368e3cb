"""The tables of planning, for the terminal and for the documentation.

`python -m experiments.planning.report [--results DIR]` prints what `DIR` holds, reinforcement learning included, as
Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import tables
from experiments.planning import budget, diversity
from experiments.planning.problems import PROBLEMS
from experiments.planning.rows import Row
from experiments.processes import as_program
from experiments.records import read
from experiments.tables import Columns, number

KEYS = ("env", "method", "planner")
COLUMNS = Columns(
    "Planning, 100,000 random transitions",
    {
        "problem": "env",
        "method": "method",
        "planner": "planner",
        "return": number("return"),
        "oracle": number("oracle", missing=""),
        "success": number("success"),
        "seeds": "seeds",
        "training, s": number("train_seconds", ".0f"),
    },
)
TIMES = Columns(
    "Time of a plan",
    {
        "problem": "env",
        "starts": "starts",
        "p50, ms": number("plan_ms_p50", ".1f"),
        "p95, ms": number("plan_ms_p95", ".1f"),
        "plans/s": number("plans_per_second", ".0f"),
    },
)
EXTRAS = {
    "steps_over_limit": "share of steps over the limit",
    "jerkiness": "mean squared second difference of positions",
}
LEARNERS = {"sac": "SAC", "ppo": "PPO", "sac10x": "SAC"}


def summarised(rows: list[Row]) -> list[Row]:
    """One row a problem and method: mean over seeds, 95 % interval of the mean by Student's t."""
    rows = sorted(rows, key=lambda row: (row["env"], row["seed"]))
    flat = [row | row.get("extra", {}) for row in rows]
    return tables.summarised(flat, (*KEYS, "data"), ("return",), ("success",), of="episodes")


def timed(rows: list[Row], timing: list[Row]) -> list[Row]:
    """The rows with the times of a plan from one start, where it was measured."""
    times = {tuple(t[key] for key in KEYS): t for t in timing if t["starts"] == 1}
    found = [times.get(tuple(row[key] for key in KEYS), {}) for row in rows]
    return [
        row | {name: time.get(name) for name in ("plan_ms_p50", "plan_ms_p95")}
        for row, time in zip(rows, found, strict=True)
    ]


def learned(rows: list[Row]) -> list[Row]:
    """The rows of reinforcement learning in the shape of the others, but for their oracle."""
    shaped = [
        {
            "env": PROBLEMS[row["problem"]].name,
            "method": LEARNERS[row["method"]],
            "planner": f"none; {row['env_steps']:,} steps of its own",
            "return": row["return_mean"],
            "success": row["success"],
            "seed": row["seed"],
            "env_steps": row["env_steps"],
            "train_seconds": row["train_cpu_seconds"],
        }
        for row in sorted(rows, key=lambda row: (row["problem"], row["method"], row["seed"]))
    ]
    return tables.summarised(shaped, KEYS, ("return",))


def table_rows(folder: Path) -> list[Row]:
    """Rows of the whole table: those of reinforcement learning have the oracle of the planners' starts."""
    rows = summarised(read(folder / "planning.json", "results")["results"]["by_seed"])
    known = [row for row in rows if row.get("oracle") is not None]
    oracles = {row["env"]: row["oracle"] for row in sorted(known, key=lambda row: row["seeds"])}
    rows += [row | {"oracle": oracles.get(row["env"])} for row in learned(trained(folder))]
    return sorted(rows, key=lambda row: row["env"])


def trained(folder: Path) -> list[Row]:
    """Every run of reinforcement learning, where there are any."""
    record = folder / "reinforcement.json"
    return read(record, "results")["results"]["by_seed"] if record.exists() else []


def pages(folder: Path) -> Iterator[str]:
    """Every table that the records in `folder` make."""
    rows = table_rows(folder)
    yield COLUMNS.markdown(rows)
    timing = read(folder / "planning.json", "results")["results"].get("timing", [])
    if timing:
        yield TIMES.markdown(timing)
    for name, title in EXTRAS.items():
        having = [row for row in rows if name in row]
        heads = {"problem": "env", "method": "method", "planner": "planner"}
        if having:
            yield Columns(title, {**heads, title: number(name, ".3g"), "seeds": "seeds"}).markdown(having)
    for name, shown in (("diversity", diversity), ("budget", budget)):
        if (folder / f"{name}.json").exists():
            results = read(folder / f"{name}.json", "results")["results"]
            found = shown.summarised(results["by_seed"])
            yield shown.COLUMNS.markdown(shown.timed(found, results["timing"]) if name == "budget" else found)


@dataclass
class Report:
    """Tables of what the records hold."""

    results: Path = Path("experiments/results")
    """Folder of the records."""


def main() -> None:
    print("\n".join(pages(tyro.cli(Report).results)))


if __name__ == "__main__":
    as_program(main)
