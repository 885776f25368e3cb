"""What tables of experiments share: means over seeds, their intervals, and Markdown."""

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
    """One row for equal `keys`: means over seeds, of `spreads` all values and their intervals too.

    `shares` are of a number of trials that each row has as `of`: means of them weigh all trials alike, and the number
    is that of all seeds.
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
    """So many significant digits, large numbers without an exponent."""
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if "e+" in text else text


def spread(row: Row, name: str, form: str | None = None, of_half: str | None = None) -> str:
    """Mean ± half its interval; of two seeds, whose interval says little, both values.

    Args:
        row: with the mean as `name`, `name_ci95` and `name_by_seed` where there are any.
        name: of the figure.
        form: of numbers, three significant digits without.
        of_half: of half the interval, two significant digits without.

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
        half = 0.0  # equal runs, but for rounding
    return f"{text(row[name])} ± {significant(half, 2) if of_half is None else f'{half:{of_half}}'}"


def lines(columns: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [*head, *("| " + " | ".join(row) + " |" for row in body)]


def markdown(columns: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table as text; empty where it has no rows."""
    rows = list(body)
    return "\n".join(lines(columns, rows)) if rows else ""


def cell(name: str, form: str | None = ".2f") -> Callable[[Row], str]:
    """Text of a cell: the figure `name`, see `spread`, with half its interval written alike."""
    return lambda row: spread(row, name, form, form)


@dataclass(frozen=True)
class Columns:
    """What a table shows, for the terminal and for the documentation.

    Attributes:
        title: in the terminal.
        columns: head of each column, and its text of a row: the name of a figure, or a function of the row.

    """

    title: str
    columns: Mapping[str, str | Callable[[Row], str]]

    def cells(self, rows: Iterable[Row]) -> list[list[str]]:
        """Text, row by row."""
        texts = self.columns.values()
        return [[text(row) if callable(text) else str(row[text]) for text in texts] for row in rows]

    def table(self, rows: Iterable[Row]) -> Table:
        """For the terminal."""
        made = Table(*self.columns, title=self.title)
        for row in self.cells(rows):
            made.add_row(*row)
        return made

    def markdown(self, rows: Iterable[Row]) -> str:
        """For the documentation."""
        return markdown(tuple(self.columns), self.cells(rows))
