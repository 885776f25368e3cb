"""Tables of the record of `python -m benchmarks.planning`, for its terminal and for the speed page."""

from __future__ import annotations

from typing import Any

from experiments import tables
from experiments.tables import Columns

Row = dict[str, Any]


RATIOS = {
    "reacher_p50_to_compiled": "Reacher, one start: time to compiled first-order plans, median",
    "reacher_p95_to_compiled": "Reacher, one start: time to compiled first-order plans, 95th percentile",
    "reacher_p50_to_eager": "Reacher, one start: time to eager first-order plans, median",
    "reacher_busy_p50_to_compiled": "Reacher, other core busy: time to compiled first-order plans, median",
    "reacher_busy_p95_to_compiled": "Reacher, other core busy: time to compiled first-order plans, 95th percentile",
    "reacher_return": "Reacher: mean return",
    "particle_p50_to_compiled": "Particle, one start: time to compiled first-order plans, median",
    "arm7_p50_to_compiled": "Arm7, one start: time to compiled first-order plans, median",
    "arm7_success": "Arm7: success",
    "arm7_return": "Arm7: mean return",
    "batch64_rate_to_first_order": "Reacher, many starts: plans a second to first-order plans",
    "horizon_80_to_10": "Reacher: time at horizon 80 to horizon 10",
    "pendulum_mean": "Pendulum-v1: mean return",
    "pendulum_worst": "Pendulum-v1: worst return",
    "inverted_pendulum_least": "InvertedPendulum-v5: worst return",
    "memory_growth_mib": "growth of resident memory over many plans, MiB",
    "non_finite": "plans among them that were not finite",
}
"""What the summary's figures are, by their names in the record: the default planner's, or divided by the other's."""


def _number(name: str, form: str) -> Any:
    return lambda row: "–" if row.get(name) is None else f"{row[name]:{form}}"


_TIMES = {
    "median, ms": _number("p50_ms", ".1f"),
    "95th percentile, ms": _number("p95_ms", ".1f"),
}
TABLES = {
    "ratios": Columns("The default planner in short", {"figure": "figure", "value": _number("value", ".2f")}),
    "one": Columns(
        "One plan, one start, one thread",
        {
            "problem": lambda row: row["section"].capitalize(),
            "planner": "contender",
            **_TIMES,
            "first call, s": _number("first_call_seconds", ".2f"),
            "return of these episodes": _number("return", ".2f"),
        },
    ),
    "many": Columns(
        "Many starts at once on Reacher",
        {
            "planner": "contender",
            "start states": lambda row: str(row["starts"]),
            **_TIMES,
            "plans/s": _number("plans_per_second", ".0f"),
            "return of these episodes": _number("return", ".2f"),
        },
    ),
    "horizons": Columns(
        "Horizons on Reacher, the default planner",
        {
            "horizon": lambda row: str(row["horizon"]),
            "iterations": lambda row: str(row["iterations"]),
            **_TIMES,
        },
    ),
    "returns": Columns(
        "Returns",
        {
            "problem": "problem",
            "planner": "contender",
            "return": tables.cell("return"),
            "oracle": tables.cell("oracle"),
            "success": tables.cell("success"),
            "episodes": lambda row: str(row["episodes"]),
            "seeds": lambda row: str(row["seeds"]),
        },
    ),
    "pendulums": Columns(
        "From 20,000 random transitions, nothing tuned",
        {
            "environment": "env",
            "mean return": tables.cell("mean", ".1f"),
            "worst return": _number("worst", ".1f"),
            "starts": lambda row: str(row["starts"]),
            "seeds": lambda row: str(row["seeds"]),
        },
    ),
}


def rows_of(results: Row, name: str) -> list[Row]:
    """The rows of a table; empty if its section was not measured."""
    if name == "ratios":
        figures = results["ratios"].items()
        return [{"figure": RATIOS[key], "value": value} for key, value in figures if value is not None]
    if name == "returns":
        keys = ("problem", "contender")
        return tables.summarised(results["returns"], keys, ("return",), ("success",), of="episodes")
    if name == "pendulums":
        rows = tables.summarised(results["pendulums"], ("env", "starts"), ("mean",))
        worst = {
            row["env"]: min(r["worst"] for r in results["pendulums"] if r["env"] == row["env"])
            for row in rows
        }
        return [row | {"worst": worst[row["env"]]} for row in rows]
    kinds = {"many starts": "many", "horizons": "horizons"}
    return [row for row in results["timings"] if kinds.get(row["section"], "one") == name]
