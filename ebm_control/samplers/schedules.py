"""Figures that change over the steps of a chain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ebm_control.checks import require


@runtime_checkable
class Schedule(Protocol):
    """A figure as a function of how much of the chain is done, from 0 (first step) to 1 (last)."""

    def __call__(self, done: float) -> float:
        """Value when the fraction `done` of the chain lies behind."""
        ...


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` in a straight line."""

    start: float
    end: float

    def __call__(self, done: float) -> float:
        """Value at `done` in [0, 1]."""
        return self.start + (self.end - self.start) * done


@dataclass(frozen=True)
class Cosine:
    """From `start` to `end` along half a cosine: slow at both ends."""

    start: float
    end: float

    def __call__(self, done: float) -> float:
        """Value at `done` in [0, 1]."""
        return self.end + 0.5 * (self.start - self.end) * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Geometric:
    """From `start` to `end` by a constant factor a step; both positive."""

    start: float
    end: float

    def __post_init__(self) -> None:
        require(
            self.start > 0 and self.end > 0,
            "Geometric",
            given=(self.start, self.end),
            expected="positive start and end",
        )

    def __call__(self, done: float) -> float:
        """Value at `done` in [0, 1]."""
        return self.start * (self.end / self.start) ** done


def values(schedule: float | Schedule, steps: int) -> list[float]:
    """The schedule's value at each of `steps` steps; a plain number stays as it is."""
    if isinstance(schedule, int | float):
        return [float(schedule)] * steps
    return [float(schedule(i / max(steps - 1, 1))) for i in range(steps)]
