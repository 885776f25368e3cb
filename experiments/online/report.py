"""Tables of online learning."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table

from experiments.planning.report import interval

Row = dict[str, Any]
KEYS = ("part", "env", "method", "checkpoint")


def summarised(rows: list[Row]) -> list[Row]:
    """One row a problem, method and checkpoint: mean over seeds, 95 % interval of the mean by Student's t."""
    made = []
    for key in dict.fromkeys(tuple(row[name] for name in KEYS) for row in rows):
        group = [row for row in rows if tuple(row[name] for name in KEYS) == key]
        figures = [n for n, v in group[0].items() if isinstance(v, float | int) and n not in (*KEYS, "seed")]
        summary: Row = dict(zip(KEYS, key, strict=True)) | {"seeds": len(group)}
        for name in figures:
            values = [row[name] for row in group if row[name] is not None]
            summary[name] = float(np.mean(values)) if values else None
        summary["return_ci95"] = interval([row["return"] for row in group]) if "return" in group[0] else None
        made.append(summary)
    return made


def table(rows: list[Row]) -> Table:
    """For the terminal."""
    made = Table(
        "problem", "method", "steps", "return", "oracle", "success", "seeds", title="Online learning"
    )
    for row in rows:
        if "return" not in row:
            continue
        spread = "" if row["return_ci95"] is None else f" ± {row['return_ci95']:.2f}"
        made.add_row(
            row["env"],
            row["method"],
            f"{row['checkpoint']:,}",
            f"{row['return']:.2f}{spread}",
            f"{row['oracle']:.2f}",
            f"{row['success']:.2f}",
            str(row["seeds"]),
        )
    return made
