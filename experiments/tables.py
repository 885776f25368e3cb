"""What tables of experiments share: means over seeds, their intervals, and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ebm_control.statistics import half_interval

Row = dict[str, Any]


def summarised(rows: list[Row], keys: Sequence[str], spreads: Sequence[str]) -> list[Row]:
    """One row for equal `keys`: means over seeds, of `spreads` all values and their intervals too."""
    made = []
    for key in dict.fromkeys(tuple(row.get(name) for name in keys) for row in rows):
        group = [row for row in rows if tuple(row.get(name) for name in keys) == key]
        known = {n for row in group for n, v in row.items() if isinstance(v, float | int)}
        summary: Row = dict(zip(keys, key, strict=True)) | {"seeds": len(group)}
        for name in sorted(known - {*keys, "seed"}):
            values = [row[name] for row in group if row.get(name) is not None]
            summary[name] = float(np.mean(values)) if values else None
            if name in spreads:
                summary[f"{name}_ci95"] = half_interval(values)
                summary[f"{name}_by_seed"] = values
        made.append(summary)
    return made


def spread(row: Row, name: str, form: str = ".3g", of_half: str = ".2g") -> str:
    """Mean ± half its interval."""
    if row.get(name) is None:
        return "–"
    half = row.get(f"{name}_ci95")
    if half is not None and half < 1e-9 * max(1.0, abs(row[name])):
        half = 0.0  # equal runs, but for rounding
    return f"{row[name]:{form}}" + ("" if half is None else f" ± {half:{of_half}}")


def lines(columns: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [*head, *("| " + " | ".join(row) + " |" for row in body)]
