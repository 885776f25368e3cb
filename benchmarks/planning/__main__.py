"""The default planner next to first-order plans: times, returns, memory.

python -m benchmarks.planning [--quick] [--out FILE] [--seeds N] [--sections ...]

All contenders take turns in one process on one thread: in each round every one plans one control step of its own
episode. Ratios of times are medians over rounds. The record is written after every section. The exit status is 1 if a
section failed.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from benchmarks.planning import outcomes, timings
from benchmarks.planning.sizes import FULL, QUICK, Models, Size
from ebm_control.checks import require_number
from ebm_control.provenance import provenance, write_record
from experiments.pages.plans import RATIOS, TABLES, rows_of
from experiments.processes import as_program
from experiments.records import claimed
from experiments.runs import chosen

RESULT = Path(__file__).parents[1] / "results" / "planning.json"
Section = Callable[[Models], timings.Part]
SECTIONS: dict[str, Section] = {
    "reacher": timings.reacher,
    "particle": timings.particle,
    "arm7": timings.arm7,
    "batch": timings.batch,
    "horizons": timings.horizons,
    "memory": outcomes.memory,
    "reacher-returns": outcomes.reacher_returns,
    "arm7-returns": outcomes.arm7_returns,
    "pendulums": outcomes.pendulums,
}


def main(
    quick: bool = False,
    out: Path | None = None,
    seeds: int | None = None,
    sections: tuple[str, ...] = tuple(SECTIONS),
) -> int:
    """Time the default planner and first-order plans in turn; returns the exit status.

    Args:
        quick: small models and few rounds, without the pendulums and most compiled contenders: within a minute. The
            figures are not comparable with those of a whole run. Nothing is written without `out`.
        out: file of the results; by default `benchmarks/results/planning.json`.
        seeds: training seeds for returns; by default 3, or 1 in a quick run.
        sections: what to measure.

    """
    size = QUICK if quick else FULL
    if seeds is not None:
        require_number("seeds", seeds, 1, whole=True)
        size = replace(size, seeds=seeds)
    names = chosen("sections", sections, SECTIONS)
    path = None if quick and out is None else out or RESULT
    with contextlib.nullcontext() if path is None else claimed(path):
        results = measure(size, path, {name: SECTIONS[name] for name in names}, quick=quick)
    show(results)
    return 1 if results["failed"] else 0


def measure(
    size: Size, path: Path | None, sections: Mapping[str, Section], *, quick: bool = False
) -> dict[str, Any]:
    """Results of all sections; one that fails leaves its message and figures of None, and the others go on."""
    torch.set_num_threads(1)
    began, models = time.perf_counter(), Models(size)
    results: dict[str, Any] = {"threads": 1, "quick": quick, "ratios": dict.fromkeys(RATIOS)}
    results |= {"timings": [], "returns": [], "pendulums": [], "memory": {}, "failed": {}, "seconds": {}}
    for name, section in sections.items():
        started = time.perf_counter()
        try:
            part = section(models)
        except Exception as error:
            traceback.print_exc()
            results["failed"][name] = f"{type(error).__name__}: {error}"
            part = {}
        for key, value in part.items():
            results[key] = results[key] + value if isinstance(value, list) else results[key] | value
        results["seconds"][name] = round(time.perf_counter() - started, 1)
        results["seconds"]["training, within the others"] = round(models.seconds, 1)
        if path is not None:
            command = " ".join(["python -m benchmarks.planning", *sys.argv[1:]])
            write_record(path, results, provenance(command, range(size.seeds), time.perf_counter() - began))
        Console(stderr=True).print(f"{name}: {results['seconds'][name]:.0f} s", highlight=False)
    return results


def show(results: dict[str, Any]) -> None:
    """Print the tables of the page, and what is missing."""
    console = Console()
    for name, columns in TABLES.items():
        rows = rows_of(results, name)
        if rows:
            console.print(columns.table(rows))
    missing = [name for name, value in results["ratios"].items() if value is None]
    if missing:
        console.print(f"not measured: {', '.join(missing)}", highlight=False)
    for name, message in results["failed"].items():
        console.print(f"{name} failed: {message}", markup=False, highlight=False)


if __name__ == "__main__":
    as_program(lambda: sys.exit(tyro.cli(main)))
