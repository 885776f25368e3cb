"""Tables of multi-step prediction, for the terminal and for the documentation.

`python -m experiments.prediction.report` prints what `experiments/results/prediction.json` holds, as Markdown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from experiments import tables
from experiments.prediction.jobs import CASES
from experiments.prediction.methods import METHODS
from experiments.processes import as_program
from experiments.records import put_together
from experiments.tables import lines, spread

Row = dict[str, Any]
KEYS = ("case", "env", "policy", "actions", "method", "objective", "horizon")
FIGURES = (
    "frechet",
    "energy_distance",
    "rmse_mean",
    "rmse_min_of_k",
    "calibration_error",
    "in_range",
    "ms_per_step",
)
COLUMNS = ("horizon", "method", "objective", *FIGURES, "training, s", "seeds")
MODES = ("coverage", "total_variation", "total_variation_floor", "off_mode")


def summarised(rows: list[Row]) -> list[Row]:
    """One row a case, method and horizon."""
    return tables.summarised(rows, KEYS, (*FIGURES, *MODES))


def cells(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Text of the rows of one case, by horizon."""
    for row in sorted(rows, key=lambda row: row["horizon"]):
        yield (
            str(row["horizon"]),
            row["method"],
            row["objective"],
            *(spread(row, name) for name in FIGURES),
            f"{row.get('train_seconds', float('nan')):.0f}",
            str(row["seeds"]),
        )


def table(rows: list[Row]) -> Table:
    """For the terminal: what fits there."""
    made = Table(
        "case", "horizon", "method", "frechet", "energy distance", "rmse", title="Multi-step prediction"
    )
    for row in sorted(rows, key=lambda row: (row["case"], row["horizon"])):
        method = f"{row['method']}, {row['objective']}"
        figures = (spread(row, name) for name in ("frechet", "energy_distance", "rmse_mean"))
        made.add_row(row["case"], str(row["horizon"]), method, *figures)
    return made


def markdown(rows: list[Row]) -> str:
    """One table a case, and one of modes."""
    parts = []
    for case in dict.fromkeys(row["case"] for row in rows):
        group = [row for row in rows if row["case"] == case]
        floor = {
            row["horizon"]: row["frechet_floor"] for row in group if row.get("frechet_floor") is not None
        }
        said = ", ".join(f"{value:.3g} at {horizon}" for horizon, value in sorted(floor.items()))
        parts += [f"### {case}", "", f"Fréchet distance of other true segments: {said}.", ""]
        parts += [*lines(COLUMNS, cells(group)), ""]
    known = [row for row in rows if row.get("coverage") is not None]
    if known:
        body = ((row["method"], row["objective"], *(spread(row, name) for name in MODES)) for row in known)
        parts += ["### Modes of Fork", "", *lines(("method", "objective", *MODES), body), ""]
    return "\n".join(parts)


@dataclass
class Report:
    """Tables of what the record holds."""

    record: Path = Path("experiments/results/prediction.json")
    """Written by `experiments.prediction`."""
    parts: tuple[Path, ...] = ()
    """Records of runs on other cores or days: put together, later ones first, and written to `record`."""


def main() -> None:
    asked = tyro.cli(Report)
    if asked.parts:
        names = [f"{case}: {method}" for case in CASES for method in METHODS]
        put_together(asked.parts, asked.record, names, summarised)
    print(markdown(json.loads(asked.record.read_text())["results"]["rows"]))


if __name__ == "__main__":
    as_program(main)
