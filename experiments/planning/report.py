"""The tables of planning, for the terminal and for the page of results."""

from __future__ import annotations

from pathlib import Path

from experiments import reacher, tables
from experiments.pages.sources import sources
from experiments.planning import budget, diversity
from experiments.planning.problems import PROBLEMS
from experiments.planning.rows import Row
from experiments.records import read
from experiments.tables import Columns, number

RESULTS = "experiments/results"
RECORDS = ("planning", "reinforcement", "budget", "diversity", "reacher")
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


def extras(rows: list[Row]) -> str:
    """A table for each figure that only some rows have."""
    heads = {"problem": "env", "method": "method", "planner": "planner"}
    found = []
    for name, title in EXTRAS.items():
        shown = Columns(title, {**heads, title: number(name, ".3g"), "seeds": "seeds"})
        found.append(shown.markdown(row for row in rows if name in row))
    return "\n\n".join(table for table in found if table)


def page_tables(root: Path) -> dict[str, str]:
    """The page's tables by slot."""
    folder = root / RESULTS
    found = {name: read(folder / f"{name}.json", "record")["results"] for name in RECORDS}
    rows = table_rows(folder)
    budgets = budget.timed(budget.summarised(found["budget"]["by_seed"]), found["budget"]["timing"])
    return {
        "returns": COLUMNS.markdown(rows),
        "extras": extras(rows),
        "diversity": diversity.COLUMNS.markdown(diversity.summarised(found["diversity"]["by_seed"])),
        "budget": budget.COLUMNS.markdown(budgets),
        "reacher": reacher.COLUMNS.markdown(reacher.summarised(found["reacher"]["by_seed"])),
        "sources": sources(root, (f"{RESULTS}/{name}.json" for name in RECORDS)),
    }
