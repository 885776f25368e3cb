"""Tables of multi-step prediction for the terminal and the page of results.

`python -m experiments.prediction.report --parts FILE ...` merges records of several runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from experiments import tables
from experiments.pages.sources import sources
from experiments.prediction.data import DATASETS
from experiments.prediction.jobs import CASES
from experiments.prediction.methods import METHODS
from experiments.processes import as_program
from experiments.records import load, put_together
from experiments.tables import significant, spread

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
COLUMNS = (
    *(
        "horizon",
        "method",
        "objective",
        "Fréchet distance",
        "energy distance",
        "RMSE of the mean",
        "RMSE, best of 4",
    ),
    *("calibration error", "share in range", "ms a step", "training, s", "seeds"),
)
MODES = ("coverage", "total_variation", "total_variation_floor", "off_mode")
MODES_COLUMNS = (
    *("method", "objective", "share of modes covered", "total variation", "total variation of true samples"),
    *("share between modes", "seeds"),
)
GAPS = (
    "case",
    "method",
    "steps ahead",
    "Fréchet distance",
    "energy distance",
    "sampling, s",
    "training, s",
    "seeds",
)
TOO_NARROW = (
    "**Intervals are too narrow**: the data of neighbouring seeds shared {share} of their episodes' starts when this "
    "was recorded, so the intervals show little of the chance of the data. Means stand."
)
# Cases whose seeds shared random streams when they were recorded.
SHARED = {
    "fork, actions given": TOO_NARROW.format(share="88 %"),
    "hopper-random, actions given": TOO_NARROW.format(share="83 to 86 %"),
    "halfcheetah-random, actions given": "The start noise of one episode in a hundred is early actions of the first.",
}
ONE_DATA_SET = "All seeds share one data set, on purpose: the intervals are over training alone."


def summarised(rows: list[Row]) -> list[Row]:
    """One row per case, method and horizon."""
    return tables.summarised(rows, KEYS, (*FIGURES, *MODES))


def cells(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Cells of the rows of one case, by horizon."""
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
    """The table for the terminal, with the columns that fit there."""
    made = Table(
        "case", "horizon", "method", "frechet", "energy distance", "rmse", title="Multi-step prediction"
    )
    for row in sorted(rows, key=lambda row: (row["case"], row["horizon"])):
        method = f"{row['method']}, {row['objective']}"
        figures = (spread(row, name) for name in ("frechet", "energy_distance", "rmse_mean"))
        made.add_row(row["case"], str(row["horizon"]), method, *figures)
    return made


def cases(rows: list[Row]) -> str:
    """One table per case."""
    parts = []
    for case in dict.fromkeys(row["case"] for row in rows):
        group = [row for row in rows if row["case"] == case]
        floor = {
            row["horizon"]: row["frechet_floor"] for row in group if row.get("frechet_floor") is not None
        }
        said = [f"Fréchet distance of other true segments: {_floors(floor)}.", *_of_seeds(case)]
        parts += [f"### {case}", " ".join(said), tables.markdown(COLUMNS, cells(group))]
    return "\n\n".join(parts)


def _floors(floor: dict[int, float]) -> str:
    return ", ".join(f"{significant(value)} at {horizon}" for horizon, value in sorted(floor.items()))


def _of_seeds(case: str) -> list[str]:
    """Notes on the intervals of a case."""
    alike = DATASETS[CASES[case].dataset].slow
    return [SHARED[case]] if case in SHARED else [ONE_DATA_SET] if alike else []


def modes(rows: list[Row]) -> str:
    """The table of mode probabilities on Fork."""
    known = [row for row in rows if row.get("coverage") is not None]
    body = (
        (row["method"], row["objective"], *(spread(row, name) for name in MODES), str(row["seeds"]))
        for row in known
    )
    return tables.markdown(MODES_COLUMNS, body)


def strides(rows: list[Row]) -> str:
    """The table of futures that are sampled in strides."""
    seconds = ("sample_seconds", "train_seconds")
    body = (
        (
            *(row["case"], row["method"], str(row["horizon"])),
            *(spread(row, name) for name in ("frechet", "energy_distance")),
            *(f"{row[name]:.0f}" for name in seconds),
            str(row["seeds"]),
        )
        for row in rows
    )
    return tables.markdown(GAPS, body)


def page_tables(root: Path) -> dict[str, str]:
    """The page's tables by slot."""
    records = [f"experiments/results/{name}.json" for name in ("prediction", "prediction-gaps")]
    rows, gaps = (load(root / record)["results"]["rows"] for record in records)
    return {
        "cases": cases(rows),
        "modes": modes(rows),
        "strides": strides(gaps),
        "sources": sources(root, records),
    }


@dataclass
class Report:
    """Merge the records of several runs."""

    parts: tuple[Path, ...]
    """Records to merge; later ones take precedence."""
    record: Path = Path("experiments/results/prediction.json")
    """Merged record."""


def main() -> None:
    asked = tyro.cli(Report)
    names = [f"{case}: {method}" for case in CASES for method in METHODS]
    put_together(asked.parts, asked.record, names, summarised)


if __name__ == "__main__":
    as_program(main)
