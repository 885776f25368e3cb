"""Tables of the speed page."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.pages import gpu
from experiments.pages.plans import TABLES, rows_of
from experiments.pages.sources import sources
from experiments.records import load
from experiments.tables import markdown

Row = dict[str, Any]
INTERLEAVED = """\
All planners take turns, one control step each, so that other load of the machine affects all alike. Ratios of times are
medians over these rounds, except those of percentiles. First-order gradients are by automatic differentiation."""
UPDATES = """\
## Contrastive updates

One update of the demo's energy on one thread, in processor time, with the gradients of its chains written out and by
automatic differentiation."""
GPU = """\
## On a GPU

Wall-clock times, with the device synchronised around each. Plans are warm-started. The record names the device."""
BENCHMARKS = Path("benchmarks/results")
PLANNING = "experiments/results/planning.json"


def page_tables(root: Path) -> dict[str, str]:
    """The page's tables by slot. Benchmarks of which there is no record yet are left out."""
    names = ("planning", "samplers", "population", "prediction", "collection")
    records = [f"{BENCHMARKS}/{name}.json" for name in names]
    planning, samplers, population, prediction, collection = (
        load(root / record)["results"] for record in records
    )
    parts = {f"{BENCHMARKS}/{name}.json": part for name, part in FURTHER.items()}
    known = {record: part for record, part in parts.items() if (root / record).exists()}
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
        "fork": futures(prediction["fork"], "total_variation", ".3f"),
        "hand": futures(prediction["hand"], "frechet", ".1f"),
        "further": "\n\n".join(part(load(root / record)["results"]) for record, part in known.items()),
        "collection": markdown(
            ("way", "median, steps/s", "ratio", "least and most, steps/s", "cores busy"),
            (collected(name, row) for name, row in collection.items()),
        ),
        "sources": sources(root, (PLANNING, *records, *known)),
    }


def plan(row: Row) -> list[str]:
    """Cells of planning times for a number of start states."""
    times = [f"{row[name]:.1f}" for name in ("plan_ms_p50", "plan_ms_p95")]
    return [row["env"], str(row["starts"]), *times, f"{row['plans_per_second']:.0f}"]


def default_plans(results: Row) -> str:
    """The tables of plans by the default planner, each under its title; those that were not measured are left out."""
    measured = {name: rows_of(results, name) for name in TABLES}
    parts = [
        f"### {TABLES[name].title}\n\n{TABLES[name].markdown(rows)}"
        for name, rows in measured.items()
        if rows
    ]
    return "\n\n".join([INTERLEAVED, *parts, memory(results)])


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


def futures(rows: dict[str, Row], score: str, form: str) -> str:
    """The table of samplers of futures: a score, that of draws of the truth, and the time of a step."""
    name = score.replace("_", " ").replace("frechet", "Fréchet distance")
    columns = ("sampler", "gradients a step", f"{name}, ± 95 %", "draws of the truth", "CPU ms a step")
    return markdown(
        columns,
        (
            [
                sampler,
                str(row["gradients"]),
                f"{row[score]:{form}} ± {row[f'{score}_ci95']:{form}}",
                f"{row[f'{score}_floor']:{form}}",
                f"{row['ms_per_step']:.0f}",
            ]
            for sampler, row in rows.items()
        ),
    )


def contrastive_updates(results: Row) -> str:
    """The section on updates with gradients written out."""
    rows = [
        [name, f"{row['median_ms']:.1f}", f"{row['lower_quartile_ms']:.1f} to {row['upper_quartile_ms']:.1f}"]
        for name, row in results["updates"].items()
    ]
    return f"{UPDATES}\n\n{markdown(('gradients', 'median, ms', 'quartiles, ms'), rows)}"


def on_a_gpu(results: Row) -> str:
    """The section on a GPU."""
    tables = [f"### {table.title}\n\n{table.markdown(results[name])}" for name, table in gpu.TABLES.items()]
    return "\n\n".join([GPU, *tables])


FURTHER: dict[str, Callable[[Row], str]] = {"training": contrastive_updates, "gpu": on_a_gpu}
"""Sections of records that need not exist, by the name of their benchmark."""


def collected(name: str, row: Row) -> list[str]:
    """Cells of environment steps per second."""
    speeds = [repeat["steps_per_second"] for repeat in row["repeats"]]
    busy = statistics.median(repeat["cores_busy"] for repeat in row["repeats"])
    least_and_most = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
    return [name, f"{row['median']:,.0f}", f"{row['ratio']:.2f}", least_and_most, f"{busy:.1f}"]
