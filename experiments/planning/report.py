"""Tables of planning for the terminal and the page of results."""

from __future__ import annotations

from pathlib import Path

from experiments import reacher, tables
from experiments.pages.sources import RESULTS, sources
from experiments.planning import budget, diversity
from experiments.planning.problems import PROBLEMS
from experiments.planning.rows import Row
from experiments.records import read
from experiments.tables import Columns, cell

KEYS = ("env", "method", "planner")
COLUMNS = Columns(
    "Planning, 100,000 random transitions",
    {
        "problem": "env",
        "method": "method",
        "planner": "planner",
        "return": cell("return"),
        "oracle": cell("oracle"),
        "success": cell("success"),
        "seeds": "seeds",
        "training, s": cell("train_seconds", ".0f"),
    },
)
EXTRAS = {
    "steps_over_limit": "share of steps over the limit",
    "jerkiness": "mean squared second difference of positions",
}
LEARNERS = {"sac": "SAC", "ppo": "PPO", "sac10x": "SAC"}


def summarised(rows: list[Row]) -> list[Row]:
    """One row per problem and method: mean over seeds, with its 95 % interval by Student's t."""
    rows = sorted(rows, key=lambda row: (row["env"], row["seed"]))
    flat = [row | row.get("extra", {}) for row in rows]
    return tables.summarised(flat, (*KEYS, "data"), ("return",), ("success",), of="episodes")


def timed(rows: list[Row], timing: list[Row]) -> list[Row]:
    """The rows with the planning times from one start, if measured."""
    times = {tuple(t[key] for key in KEYS): t for t in timing if t["starts"] == 1}
    found = [times.get(tuple(row[key] for key in KEYS), {}) for row in rows]
    return [
        row | {name: time.get(name) for name in ("plan_ms_p50", "plan_ms_p95")}
        for row, time in zip(rows, found, strict=True)
    ]


def learned(rows: list[Row]) -> list[Row]:
    """The rows of reinforcement learning in the format of the others, but without the oracle."""
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
    """Rows of the whole table; those of reinforcement learning get the oracle of the planners' starts."""
    rows = summarised(read(folder / "planning.json", "record")["results"]["by_seed"])
    known = [row for row in rows if row.get("oracle") is not None]
    oracles = {row["env"]: row["oracle"] for row in sorted(known, key=lambda row: row["seeds"])}
    rows += [row | {"oracle": oracles.get(row["env"])} for row in learned(trained(folder))]
    return sorted(rows, key=lambda row: row["env"])


def trained(folder: Path) -> list[Row]:
    """All runs of reinforcement learning; empty without a record."""
    record = folder / "reinforcement.json"
    return read(record, "record")["results"]["by_seed"] if record.exists() else []


def page_tables(root: Path) -> dict[str, str]:
    """The page's tables by slot."""
    results = root / RESULTS
    rows, names = table_rows(results), ("planning", "budget", "diversity", "reacher", "reinforcement")
    found = {
        name: read(results / f"{name}.json", "record")["results"]
        for name in ("budget", "diversity", "reacher")
    }
    budgets = budget.timed(budget.summarised(found["budget"]["by_seed"]), found["budget"]["timing"])
    return {
        "returns": COLUMNS.markdown(rows),
        "extras": "\n\n".join(extra(rows, name, title) for name, title in EXTRAS.items()),
        "diversity": diversity.COLUMNS.markdown(diversity.summarised(found["diversity"]["by_seed"])),
        "budget": budget.COLUMNS.markdown(budgets),
        "reacher": reacher.COLUMNS.markdown(reacher.summarised(found["reacher"]["by_seed"])),
        "sources": sources(root, [f"{RESULTS}/{name}.json" for name in names]),
    }


def extra(rows: list[Row], name: str, title: str) -> str:
    """The table of a metric that only some rows have."""
    columns = Columns(
        title,
        {
            "problem": "env",
            "method": "method",
            "planner": "planner",
            title: cell(name, None),
            "seeds": "seeds",
        },
    )
    return columns.markdown(row for row in rows if name in row)
