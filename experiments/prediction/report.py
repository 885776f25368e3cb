"""Tables of multi-step prediction, for the terminal and for the documentation.

`python -m experiments.prediction.report` prints what `experiments/results/prediction.json` holds, as Markdown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from experiments.online import report as summary

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
    """One row a case, method and horizon, as online learning has them."""
    return summary.summarised(rows, KEYS, (*FIGURES, *MODES))


def spread(row: Row, name: str) -> str:
    """Mean ± half its interval, in three digits."""
    if row.get(name) is None:
        return "–"
    half = row.get(f"{name}_ci95")
    return f"{row[name]:.3g}" + ("" if half is None else f" ± {half:.2g}")


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


def lines(columns: Sequence[str], body: Iterator[tuple[str, ...]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in body:
        yield "| " + " | ".join(row) + " |"


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


if __name__ == "__main__":
    print(markdown(json.loads(Path("experiments/results/prediction.json").read_text())["results"]["rows"]))
