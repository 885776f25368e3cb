"""Common functions for tables of experiments: means over seeds, their intervals, and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from ebm_control.statistics import half_interval

Row = dict[str, Any]


def summarised(
    rows: list[Row], keys: Sequence[str], spreads: Sequence[str], shares: Sequence[str] = (), of: str = ""
) -> list[Row]:
    """One row per combination of `keys`: means over seeds, and for `spreads` also all values and intervals.

    `shares` refer to a number of trials, which each row has as `of`: their means weigh all trials equally, and `of`
    of the result is the total over seeds.
    """
    made = []
    for key in dict.fromkeys(tuple(row.get(name) for name in keys) for row in rows):
        group = [row for row in rows if tuple(row.get(name) for name in keys) == key]
        known = {n for row in group for n, v in row.items() if isinstance(v, float | int)}
        summary: Row = dict(zip(keys, key, strict=True)) | {"seeds": len(group)}
        for name in sorted(known - {*keys, "seed"}):
            values = [row[name] for row in group if row.get(name) is not None]
            summary[name] = float(np.mean(values)) if values else None
            if name in shares and values:
                weights = [row[of] for row in group if row.get(name) is not None]
                summary[name] = float(np.average(values, weights=weights))
            elif name == of:
                summary[name] = sum(values)
            if name in spreads:
                summary[f"{name}_ci95"] = half_interval(values)
                summary[f"{name}_by_seed"] = values
        made.append(summary)
    return made


def significant(value: float, digits: int = 3) -> str:
    """Text of a number with `digits` significant digits; large numbers have no exponent."""
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if "e+" in text else text


def spread(row: Row, name: str, form: str | None = None, of_half: str | None = None) -> str:
    """Text of the mean ± the half-width of its interval; with two seeds, both values, as the interval is wide.

    Args:
        row: has the mean as `name`, and optionally `name_ci95` and `name_by_seed`.
        name: name of the metric.
        form: format of values; None for three significant digits.
        of_half: format of the half-width; None for two significant digits.

    """

    def text(value: float) -> str:
        return significant(value) if form is None else f"{value:{form}}"

    if row.get(name) is None:
        return "–"
    each = [text(value) for value in row.get(f"{name}_by_seed") or ()]
    if len(each) == 2:
        return f"{' and '.join(dict.fromkeys(each))} (2 seeds)"
    half = row.get(f"{name}_ci95")
    if half is None:
        return text(row[name])
    if half < 1e-9 * max(1.0, abs(row[name])):
        half = 0.0  # runs are equal up to rounding
    return f"{text(row[name])} ± {significant(half, 2) if of_half is None else f'{half:{of_half}}'}"


def lines(columns: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [*head, *("| " + " | ".join(row) + " |" for row in body)]


def markdown(columns: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table as text; empty if it has no rows."""
    rows = list(body)
    return "\n".join(lines(columns, rows)) if rows else ""


def cell(name: str, form: str | None = ".2f") -> Callable[[Row], str]:
    """Text of a cell: the metric `name`, see `spread`, with the same format for the half-width."""
    return lambda row: spread(row, name, form, form)


@dataclass(frozen=True)
class Columns:
    """Columns of a table, for the terminal and for the documentation.

    Attributes:
        title: title in the terminal.
        columns: by the header of each column its cell: the name of a metric, or a function of the row.

    """

    title: str
    columns: Mapping[str, str | Callable[[Row], str]]

    def cells(self, rows: Iterable[Row]) -> list[list[str]]:
        """Texts of the cells, row by row."""
        texts = self.columns.values()
        return [[text(row) if callable(text) else str(row[text]) for text in texts] for row in rows]

    def table(self, rows: Iterable[Row]) -> Table:
        """The table for the terminal."""
        made = Table(*self.columns, title=self.title)
        for row in self.cells(rows):
            made.add_row(*row)
        return made

    def markdown(self, rows: Iterable[Row]) -> str:
        """The Markdown table for the documentation."""
        return markdown(tuple(self.columns), self.cells(rows))
