"""Tables of the speed page."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from experiments.pages.plans import TABLES, rows_of
from experiments.pages.sources import sources
from experiments.records import load
from experiments.tables import markdown

Row = dict[str, Any]
INTERLEAVED = """\
All planners take turns, one control step each, so that other load of the machine affects all alike. Ratios of times are
medians over these rounds, except those of percentiles. First-order gradients are by automatic differentiation."""
BENCHMARKS = Path("benchmarks/results")
PLANNING = "experiments/results/planning.json"


def page_tables(root: Path) -> dict[str, str]:
    """The page's tables by slot."""
    names = ("planning", "samplers", "population", "collection")
    records = [f"{BENCHMARKS}/{name}.json" for name in names]
    planning, samplers, population, collection = (load(root / record)["results"] for record in records)
    return {
        "plans": markdown(
            ("problem", "start states", "median, ms", "95th percentile, ms", "plans/s"),
            map(plan, load(root / PLANNING)["results"]["timing"]),
        ),
        "default": default_plans(planning),
        "samplers": markdown(
            ("loop", "median, ms", "quartiles, ms", "times the matrix products alone"),
            (loop(name, row) for name, row in samplers["loops"].items()),
        ),
        "population": markdown(
            ("search", "plan energy", "std over seeds", "median, ms"),
            (search(name, row) for name, row in population["searches"].items()),
        ),
        "collection": markdown(
            ("way", "median, steps/s", "ratio", "least and most, steps/s", "cores busy"),
            (collected(name, row) for name, row in collection.items()),
        ),
        "sources": sources(root, (PLANNING, *records)),
    }


def plan(row: Row) -> list[str]:
    """Cells of planning times for a number of start states."""
    times = [f"{row[name]:.1f}" for name in ("plan_ms_p50", "plan_ms_p95")]
    return [row["env"], str(row["starts"]), *times, f"{row['plans_per_second']:.0f}"]


def default_plans(results: Row) -> str:
    """The tables of plans by the default planner, each under its title; those that were not measured are left out."""
    if "engines" in results:  # a record of before the default planner had steps of second order
        return earlier(results["engines"])
    measured = {name: rows_of(results, name) for name in TABLES}
    parts = [
        f"### {TABLES[name].title}\n\n{TABLES[name].markdown(rows)}"
        for name, rows in measured.items()
        if rows
    ]
    return "\n\n".join([INTERLEAVED, *parts, memory(results)])


def earlier(engines: Row) -> str:
    """The table of first-order plans on Reacher, eager and compiled."""
    return markdown(
        ("first-order plans", "first call, s", "median, ms", "95th percentile, ms", "return"),
        (
            [
                name,
                *(f"{row[part]:.1f}" for part in ("first_call_seconds", "p50_ms", "p95_ms")),
                f"{row['return']:.2f}",
            ]
            for name, row in engines.items()
        ),
    )


def memory(results: Row) -> str:
    """A sentence on memory and on plans that are not finite."""
    found = results["memory"]
    if not found:
        return "Memory was not measured."
    return (
        f"{found['plans']:,} plans in one process: {found['early_mib']:.0f} MiB resident after "
        f"{found['early_plans']:,} of them, {found['end_mib']:.0f} MiB at the end; "
        f"{found['non_finite']} plans were not finite."
    )


def loop(name: str, row: Row) -> list[str]:
    """Cells of the time of a chain."""
    quartiles = f"{row['lower_quartile_ms']:.1f} to {row['upper_quartile_ms']:.1f}"
    return [name, f"{row['median_ms']:.1f}", quartiles, f"{row['times_bound']:.2f}"]


def search(name: str, row: Row) -> list[str]:
    """Cells of the plans of a population-based search."""
    return [name, *(f"{row[part]:.1f}" for part in ("energy", "std", "median_ms"))]


def collected(name: str, row: Row) -> list[str]:
    """Cells of environment steps per second."""
    speeds = [repeat["steps_per_second"] for repeat in row["repeats"]]
    busy = statistics.median(repeat["cores_busy"] for repeat in row["repeats"])
    least_and_most = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
    return [name, f"{row['median']:,.0f}", f"{row['ratio']:.2f}", least_and_most, f"{busy:.1f}"]
