"""Tables of continual learning for the terminal and the page of results, and its figures.

`python -m experiments.continual.report --figures DIR` plots accuracy matrices and the energy's landscape; with `--parts
FILE ...` it merges records of several runs first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.table import Table

from ebm_control.checks import require
from ebm_control.continual.figures import draw_accuracies, draw_landscape
from experiments import tables
from experiments.continual.jobs import QUICK_STREAMS, STREAMS, jobs_of
from experiments.pages.sources import sources
from experiments.processes import as_program
from experiments.records import load, put_together
from experiments.tables import spread

Row = dict[str, Any]
KEYS = ("stream", "boundaries", "method")
FIGURES = ("accuracy", "forgetting", "forward_transfer", "minutes")


def summarised(rows: list[Row]) -> list[Row]:
    """One row per stream and method."""
    return tables.summarised(rows, KEYS, FIGURES)


def cells(row: Row) -> list[str]:
    """Cells of a row; accuracies in percent."""
    shares = [spread({k: _times(v, 100) for k, v in row.items()}, name, ".2f") for name in FIGURES[:3]]
    return [*(str(row[key]) for key in KEYS), *shares, spread(row, "minutes", ".2g"), str(row["seeds"])]


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_times(part, factor) for part in value]
    return value * factor if isinstance(value, float) else value


def columns() -> list[str]:
    """Columns of every table."""
    return [*KEYS, "accuracy, %", "forgetting", "forward transfer", "minutes", "seeds"]


def table(rows: list[Row]) -> Table:
    """The table for the terminal."""
    made = Table(*columns(), title="Continual learning")
    for row in rows:
        made.add_row(*cells(row))
    return made


def of_stream(rows: list[Row], stream: str) -> str:
    """The table of a stream, with and without boundaries side by side."""
    columns = ["accuracy, %", "forgetting", "minutes", "seeds"]
    head = ["method", *columns, *(f"{name}, no boundaries" for name in columns)]
    found = {(row["method"], row["boundaries"]): row for row in rows if row["stream"] == stream}
    body = []
    for method in dict.fromkeys(method for method, _ in found):
        known, unknown = (found.get((method, way)) for way in ("known", "unknown"))
        body.append([method, *_figures(known), *_figures(unknown)])
    return tables.markdown(head, body)


def weights(rows: list[Row], stream: str) -> str:
    """The table of the number of weights of each method."""
    found = {(row["method"], row["boundaries"]): row for row in rows if row["stream"] == stream}
    body = []
    for method in dict.fromkeys(method for method, _ in found):
        of = [found.get((method, way)) for way in ("known", "unknown")]
        body.append([method, *("–" if row is None else f"{row['parameters']:,.0f}" for row in of)])
    return tables.markdown(("method", "weights", "weights, no boundaries"), body)


def beside_avalanche(rows: list[Row]) -> str:
    """The table of the methods that Avalanche has too."""
    body = (
        (
            row["method"],
            *(f"{100 * row[name]:.2f}" for name in ("ours", "avalanche")),
            *(f"{row[name]:.2f}" for name in ("minutes", "avalanche_minutes")),
        )
        for row in rows
    )
    columns = ("method", "accuracy, %", "accuracy of Avalanche, %", "minutes", "minutes of Avalanche")
    return tables.markdown(columns, body)


def page_tables(root: Path) -> dict[str, str]:
    """The page's tables by slot."""
    records = ["experiments/results/continual.json", "benchmarks/results/continual.json"]
    rows, beside = (load(root / record)["results"]["rows"] for record in records)
    return {stream.replace("-", "_"): of_stream(rows, stream) for stream in STREAMS} | {
        "weights": weights(rows, STREAMS[0]),
        "avalanche": beside_avalanche(beside),
        "sources": sources(root, records),
    }


def _figures(row: Row | None) -> list[str]:
    if row is None:
        return ["–"] * 4
    shown = cells(row)
    return [shown[3], shown[4], *shown[-2:]]


def matrices(rows: list[Row], stream: str, methods: tuple[str, ...], path: Path) -> Path:
    """Plot accuracies on every task after every task, means over seeds, one panel per method."""
    means = {}
    for method in methods:
        found = [
            row["matrix"]
            for row in rows
            if (row["stream"], row["boundaries"], row["method"]) == (stream, "known", method)
        ]
        known = sorted({row["method"] for row in rows if row["stream"] == stream})
        require(bool(found), "methods", given=method, expected=f"some of {known}")
        means[method] = np.mean(found, axis=0)
    return draw_accuracies(path, means)


@dataclass
class Report:
    """Tables and figures of the record."""

    record: Path = Path("experiments/results/continual.json")
    """Written by `experiments.continual`."""
    parts: tuple[Path, ...] = ()
    """Records of several runs to merge into `record`; later ones take precedence."""
    figures: Path | None = None
    """Folder for figures; default: no figures."""
    stream: str = "split-mnist"
    """Stream of the figures."""
    methods: tuple[str, ...] = (
        "softmax",
        "ebm",
        "generative",
        "softmax-seen, 1000 kept",
    )
    """Methods of the figures, one panel each."""


def main() -> None:
    asked = tyro.cli(Report)
    if asked.parts:
        jobs = jobs_of((*QUICK_STREAMS, *STREAMS), (0,), quick=False)
        put_together(asked.parts, asked.record, [job.name for job in jobs], summarised)
    results = load(asked.record)["results"]
    if asked.figures is not None:
        matrices(results["by_seed"], asked.stream, asked.methods, asked.figures / "matrices.png")
        for row in results["by_seed"]:
            wanted = (row["stream"], row["boundaries"]) == (asked.stream, "known")
            if wanted and row.get("scores") and row["method"] in ("ebm", "generative"):
                scores = np.array(row["scores"], dtype=float)
                draw_landscape(asked.figures / f"landscape-{row['method']}.png", scores)


if __name__ == "__main__":
    as_program(main)
