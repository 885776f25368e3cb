"""The table, for the terminal and for the documentation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.table import Table

Row = dict[str, Any]
COLUMNS = ("problem", "method", "planner", "return", "oracle", "success", "seeds", "training, s")


def cells(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """Text of each row, in the order of `COLUMNS`."""
    for row in sorted(rows, key=lambda row: row["env"]):
        spread = "" if row["return_ci95"] is None else f" ± {row['return_ci95']:.2f}"
        oracle = row["oracle"]
        yield (
            row["env"],
            row["method"],
            row["planner"],
            f"{row['return_mean']:.2f}{spread}",
            "" if oracle is None or math.isnan(oracle) else f"{oracle:.2f}",
            f"{row['success']:.2f}",
            str(row["seeds"]),
            f"{row['train_seconds']:.0f}",
        )


def table(rows: list[Row]) -> Table:
    """For the terminal."""
    made = Table(*COLUMNS, title="Planning, 100,000 random transitions")
    for line in cells(rows):
        made.add_row(*line)
    return made


def markdown(rows: list[Row], timing: list[Row]) -> str:
    """Tables for the documentation."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(line) + " |" for line in cells(rows)]
    if timing:
        lines += ["", "| problem | starts | p50, ms | p95, ms | plans/s |", "|---|---|---|---|---|"]
        lines += [
            f"| {t['env']} | {t['starts']} | {t['plan_ms_p50']:.1f} | {t['plan_ms_p95']:.1f} "
            f"| {t['plans_per_second']:.0f} |"
            for t in timing
        ]
    return "\n".join(lines) + "\n"
