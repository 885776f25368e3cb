"""The summary over seeds and the table for the terminal."""

from __future__ import annotations

from rich.table import Table

from experiments import tables
from experiments.mujoco.methods import Row
from experiments.mujoco.problems import PROBLEMS

KEYS = ("part", "env", "method", "steps")
EMPTY: Row = {"success": None, "plan_ms_p50": None}


def summarised(rows: list[Row]) -> list[Row]:
    """One row per combination of `KEYS`; `return_mean` has the interval over seeds and the values of all seeds."""
    made = []
    for row in tables.summarised(rows, KEYS, ("return", "success")):
        made.append(EMPTY | row | {"return_mean": row["return"]})
        del made[-1]["return"]
    return made


def _bar(row: Row) -> str:
    success = row["env"] in PROBLEMS and PROBLEMS[row["env"]].success
    return f"success {row['bar']:.2f}" if success else tables.significant(row["bar"])


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
