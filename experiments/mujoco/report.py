"""The summary over seeds and the table for the terminal."""

from __future__ import annotations

from rich.table import Table

from experiments import tables
from experiments.mujoco.methods import Row
from experiments.mujoco.problems import PROBLEMS

KEYS = ("part", "env", "method", "steps")
EMPTY: Row = {"success": None, "plan_ms_p50": None, "bar": None}


def summarised(rows: list[Row]) -> list[Row]:
    """One row per combination of `KEYS`; `return_mean` has the interval over seeds and the values of all seeds.

    A bar that is relative to the oracle's return is computed from its row, and None without one.
    """
    made = []
    for row in tables.summarised(rows, KEYS, ("return", "success")):
        made.append(EMPTY | row | {"return_mean": row["return"]})
        del made[-1]["return"]
    best = {row["env"]: row["return_mean"] for row in made if row["method"] == "oracle"}
    for row in made:
        if row["bar"] is None:
            row["bar"] = PROBLEMS[row["env"]].good(best.get(row["env"]))
    return made


def _bar(row: Row) -> str:
    problem = PROBLEMS.get(row["env"])
    if problem is not None and problem.success:
        return f"success {row['bar']:.2f}"
    found = "–" if row["bar"] is None else tables.significant(row["bar"])
    return found if problem is None or problem.within is None else f"{found} (oracle − {problem.within:.0%})"


COLUMNS = tables.Columns(
    "MuJoCo",
    {
        "part": "part",
        "environment": "env",
        "method": "method",
        "steps": lambda row: f"{row['steps']:,.0f}",
        "return": lambda row: tables.spread(row | {"return": row["return_mean"]}, "return"),
        "success": tables.cell("success"),
        "bar": _bar,
        "ms per action": lambda row: tables.spread({"ms": row["plan_ms_p50"]}, "ms"),
        "minutes": lambda row: f"{row['minutes']:.1f}",
        "seeds": "seeds",
    },
)


def table(rows: list[Row]) -> Table:
    """The table for the terminal, problem by problem."""
    place = {name: i for i, name in enumerate(PROBLEMS)}
    return COLUMNS.table(sorted(rows, key=lambda row: (row["part"], place.get(row["env"], len(place)))))
