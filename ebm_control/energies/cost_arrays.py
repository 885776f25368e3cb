"""Costs of single coordinates as functions of arrays; see `arrays`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ebm_control.energies.arrays import Array, ArrayQuadratic, Columns, repeated, wrapped
from ebm_control.energies.layout import TrajectoryLayout

TIP = 1e-3  # distance below which a curvature stops growing where a cost has a kink, in the units of `x`


@dataclass(frozen=True)
class GoalArrays:
    """A `GoalCost`; the attributes are those of the cost."""

    goal: Array
    layout: TrajectoryLayout
    columns: Columns
    norm: str
    smooth: float
    last_only: bool

    def value(self, x: Array) -> Array:
        """See `ArrayEnergy`."""
        return self._cost(*self._lengths(x))

    def quadratic(self, x: Array) -> ArrayQuadratic:
        """See `ArrayEnergy`."""
        delta, square, length = self._lengths(x)
        slope, curvature = delta, np.ones_like(delta)
        if self.norm != "squared":
            slope = delta / length if self.norm == "l2" or self.smooth > 0 else np.sign(delta)
            curvature = 1 / np.sqrt(square + max(self.smooth, TIP) ** 2)
        gradient, diagonal = np.zeros(x.shape, x.dtype), np.zeros(x.shape, x.dtype)
        gradient[:, self._rows, self.columns] = slope
        diagonal[:, self._rows, self.columns] = curvature
        return ArrayQuadratic(self._cost(delta, square, length), gradient, (), diagonal)

    @property
    def _rows(self) -> slice:
        return slice(-1, None) if self.last_only else slice(1, None)

    def _lengths(self, x: Array) -> tuple[Array, Array, Array]:
        """Differences from the goal, their squares, and rounded lengths with the width of the tip in them."""
        goal = repeated(self.goal, len(x))[:, None] if self.goal.ndim == 2 else self.goal
        delta = wrapped(x[:, self._rows, self.columns] - goal, self.layout)
        square = delta * delta
        if self.norm != "l2":
            return delta, square, np.sqrt(square + self.smooth**2) if self.norm == "l1" else square
        square = square.sum(axis=-1, keepdims=True)
        return delta, square, np.sqrt(square + (self.smooth**2 + 1e-12))

    def _cost(self, delta: Array, square: Array, length: Array) -> Array:
        if self.norm == "squared":
            return 0.5 * np.add.reduce(square, (1, 2))
        return np.add.reduce(length - self.smooth, (1, 2))


@dataclass(frozen=True)
class BoundArrays:
    """A `BoundCost`; the attributes are those of the cost."""

    low: Array
    high: Array
    columns: Columns

    def value(self, x: Array) -> Array:
        """See `ArrayEnergy`."""
        beyond = self._beyond(x)
        return 0.5 * np.add.reduce(beyond * beyond, (1, 2))

    def quadratic(self, x: Array) -> ArrayQuadratic:
        """See `ArrayEnergy`."""
        beyond = self._beyond(x)
        gradient, diagonal = np.zeros(x.shape, x.dtype), np.zeros(x.shape, x.dtype)
        gradient[..., self.columns] = beyond
        diagonal[..., self.columns] = beyond != 0
        return ArrayQuadratic(0.5 * np.add.reduce(beyond * beyond, (1, 2)), gradient, (), diagonal)

    def _beyond(self, x: Array) -> Array:
        """By how much coordinates are above their bounds, or with a minus below."""
        part = x[..., self.columns]
        return part - np.minimum(np.maximum(part, self.low), self.high)
