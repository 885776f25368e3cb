"""Tables of images for the terminal and the page of results.

`python -m experiments.images.report --parts FILE ...` merges records of several runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from experiments import tables
from experiments.pages.sources import sources
from experiments.processes import as_program
from experiments.records import load, put_together
from experiments.tables import spread

Row = dict[str, Any]
KEYS = (
    *("task", "data", "method", "start", "missing", "spoilt", "part", "score", "defence", "attack"),
    *("norm", "radius", "attributes", "way"),
)
SETS = ("other", "uniform", "constant", "interpolated", "rotated", "shuffled")
# For each task, the keys that identify its rows, and their metrics.
TASKS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "generate": (
        ("data", "method", "start"),
        ("frechet", "frechet_floor", "precision", "recall"),
    ),
    "inpaint": (
        ("data", "missing", "part", "method"),
        ("mse", "mse_of_mean", "feature_distance", "fills_apart", "known_unchanged"),
    ),
    "restore": (("data", "spoilt", "part", "method"), ("mse", "mse_given")),
    "outliers": (("data", "method", "score"), ("mean", "least", *SETS)),
    "robustness": (("data", "defence", "norm", "radius", "attack"), ("accuracy", "clean_accuracy")),
    "compose": (
        ("data", "attributes", "way"),
        ("joint", "joint_unseen", "accuracy_shape", "accuracy_position", "accuracy_size"),
    ),
}
FIGURES = tuple(dict.fromkeys(name for _, figures in TASKS.values() for name in figures))
TRAINING = ("job", "on", "minutes", "seeds")
LABELS = {
    "frechet": "Fréchet distance",
    "frechet_floor": "of other true images",
    "mse": "MSE",
    "mse_of_mean": "MSE of the mean",
    "mse_given": "MSE given",
}


def summarised(rows: list[Row]) -> list[Row]:
    """One row per combination of keys."""
    return tables.summarised(rows, KEYS, FIGURES)


def cells(rows: list[Row], task: str) -> list[list[str]]:
    """Cells of one task's rows."""
    keys, figures = TASKS[task]
    shown = sorted((row for row in rows if row["task"] == task), key=lambda row: [str(row[k]) for k in keys])
    return [
        [*(str(row[key]) for key in keys), *(spread(row, name) for name in figures), str(row["seeds"])]
        for row in shown
    ]


def table(rows: list[Row]) -> Table:
    """The table for the terminal, with the first metric of every row."""
    made = Table("task", "what", "figure", "value", title="Images")
    for task, (keys, figures) in TASKS.items():
        for row in (row for row in rows if row["task"] == task):
            what = ", ".join(str(row[key]) for key in keys if row.get(key) is not None)
            made.add_row(task, what, figures[0], spread(row, figures[0]))
    return made


def of_task(rows: list[Row], task: str) -> str:
    """The table of a task."""
    if task == "robustness":
        return tables.markdown(*withstood(rows))
    keys, figures = TASKS[task]
    columns = [LABELS.get(name, name.replace("_", " ")) for name in (*keys, *figures, "seeds")]
    return tables.markdown(columns, cells(rows, task))


def minutes(rows: list[Row]) -> list[list[str]]:
    """Training minutes by job and hardware, from rows of single seeds; the columns are `TRAINING`."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if row.get("train_seconds") is not None:
            place = row.get("accelerator") or "one core"
            found.setdefault((row["job"], place), {})[row["seed"]] = row["train_seconds"] / 60
    return [
        [*key, f"{sum(of.values()) / len(of):.1f}", ", ".join(map(str, sorted(of)))]
        for key, of in sorted(found.items())
    ]


def withstood(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of defences: at each radius the lowest accuracy over all white-box attacks."""
    found = [row for row in rows if row["task"] == "robustness"]
    given = [row for row in found if row["attack"] in ("pgd", "apgd")]
    balls = sorted(
        {(row["norm"], row["radius"]) for row in given}, key=lambda ball: (ball[0] == "l2", ball[1])
    )
    columns = ["data", "defence", "clean", *(f"{norm} {radius:g}" for norm, radius in balls)]
    body = []
    for data, defence in dict.fromkeys((row["data"], row["defence"]) for row in found):
        own = [row for row in found if (row["data"], row["defence"]) == (data, defence)]
        told = [str(data), defence, spread(own[0], "clean_accuracy")]
        for ball in balls:
            of_ball = [row for row in own if row in given and (row["norm"], row["radius"]) == ball]
            told.append(spread(min(of_ball, key=lambda row: row["accuracy"]), "accuracy") if of_ball else "–")
        for attack in ("transferred", "pgd, far"):
            rest = [row for row in own if row["attack"] == attack]
            told.append(spread(rest[0], "accuracy") if rest else "–")
        body.append([*told, str(own[0]["seeds"])])
    return [*columns, "transferred, linf 0.2", "linf 1", "seeds"], body


def page_tables(root: Path) -> dict[str, str]:
    """The page's tables by slot."""
    record = "experiments/results/images.json"
    results = load(root / record)["results"]
    return {task: of_task(results["rows"], task) for task in TASKS} | {
        "minutes": tables.markdown(TRAINING, minutes(results["by_seed"])),
        "sources": sources(root, [record]),
    }


@dataclass
class Report:
    """Merge the records of several runs."""

    parts: tuple[Path, ...]
    """Records to merge; later ones take precedence."""
    record: Path = Path("experiments/results/images.json")
    """Merged record."""


def main() -> None:
    asked = tyro.cli(Report)
    put_together(asked.parts, asked.record, (), summarised)


if __name__ == "__main__":
    as_program(main)
