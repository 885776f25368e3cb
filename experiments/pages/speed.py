"""Tables of the speed page."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from experiments.pages.sources import sources
from experiments.records import load
from experiments.tables import markdown

Row = dict[str, Any]
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
        "engines": markdown(
            ("engine", "first call, s", "median, ms", "95th percentile, ms", "return"),
            (engine(name, row) for name, row in planning["engines"].items()),
        ),
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


def engine(name: str, row: Row) -> list[str]:
    """Cells of the planning time with an engine."""
    times = [f"{row[part]:.1f}" for part in ("first_call_seconds", "p50_ms", "p95_ms")]
    return [name, *times, f"{row['return']:.2f}"]


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
