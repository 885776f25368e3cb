"""How much of a space has been visited: a metric of exploration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebm_control.checks import require


class Occupancy:
    """A grid over a box that records which of its cells were visited.

    Args:
        low: `(d,)` lower corner, in the units of the points.
        high: `(d,)` upper corner.
        cells: number of cells along each coordinate, or one number for all.

    Attributes:
        visited: boolean array of shape `cells`.

    Raises:
        InputError: the corners are not `low < high`, or a coordinate has no cells.

    """

    def __init__(self, low: ArrayLike, high: ArrayLike, cells: int | Sequence[int]) -> None:
        self.low, self.high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        require(
            self.low.ndim == 1 and self.low.size > 0 and self.low.shape == self.high.shape,
            "low",
            given=f"shape {self.low.shape} beside high's {self.high.shape}",
            expected="one number a coordinate, as high",
        )
        require(
            bool(np.isfinite([self.low, self.high]).all() and (self.low < self.high).all()),
            "low",
            given=self.low.tolist(),
            expected=f"finite and less than high = {self.high.tolist()}",
        )
        shape = (cells,) * self.low.size if isinstance(cells, int) else tuple(cells)
        require(
            len(shape) == self.low.size and min(shape) >= 1,
            "cells",
            given=cells,
            expected=f"{self.low.size} numbers of 1 or more",
        )
        self.visited: NDArray[np.bool_] = np.zeros(shape, dtype=bool)

    @property
    def cells(self) -> tuple[int, ...]:
        """Number of cells along each coordinate."""
        return self.visited.shape

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centre of each cell, `(*cells, d)`, for example to compute a mask of the reachable cells."""
        where = np.moveaxis(np.indices(self.cells), 0, -1)
        return self.low + (where + 0.5) / self.cells * (self.high - self.low)

    def visit(self, points: ArrayLike) -> int:
        """Mark the cells of points `(N, d)`, and return how many were new; points outside the box are ignored.

        Raises:
            InputError: the shape is wrong, or a value is not finite.

        """
        points = np.asarray(points, np.float64)
        dim, before = self.low.size, self.visited.sum()
        require(
            points.ndim == 2 and points.shape[1] == dim,
            "points",
            given=f"shape {points.shape}",
            expected=f"shape (any, {dim})",
        )
        bad = int((~np.isfinite(points)).sum())
        require(bad == 0, "points", given=f"{bad} non-finite", expected="finite values only")
        inside = points[((points >= self.low) & (points <= self.high)).all(axis=1)]
        cell = ((inside - self.low) / (self.high - self.low) * self.cells).astype(np.intp)
        cell = np.minimum(cell, np.array(self.cells) - 1)  # the box's upper faces belong to its last cells
        self.visited[tuple(cell.T)] = True
        return int(self.visited.sum() - before)

    def fraction(self, of: NDArray[np.bool_] | None = None) -> float:
        """Fraction of visited cells, among all cells or among those where the mask `of` (shape `cells`) is True.

        Raises:
            InputError: the mask has another shape or type, or is nowhere True.

        """
        if of is None:
            return float(self.visited.mean())
        require(
            of.shape == self.cells and of.dtype == bool and bool(of.any()),
            "of",
            given=f"{of.dtype} of shape {of.shape}, {np.count_nonzero(of)} True",
            expected=f"bool of shape {self.cells}, at least 1 True",
        )
        return float(self.visited[of].mean())
