"""Figures that change over the steps of a chain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ebm_control.checks import require_number


@runtime_checkable
class Schedule(Protocol):
    """A figure as a function of how much of the chain is done, from 0 (first step) to 1 (last)."""

    def __call__(self, done: float) -> float:
        """Value when the fraction `done` of the chain lies behind."""
        ...


@dataclass(frozen=True)
class _Between:
    """A schedule from one finite number to another."""

    start: float
    end: float

    def __post_init__(self) -> None:
        require_number("start", self.start)
        require_number("end", self.end)


@dataclass(frozen=True)
class Linear(_Between):
    """From `start` to `end` in a straight line."""

    def __call__(self, done: float) -> float:
        """Value at `done` in [0, 1]."""
        return self.start + (self.end - self.start) * done


@dataclass(frozen=True)
class Cosine(_Between):
    """From `start` to `end` along half a cosine: slow at both ends."""

    def __call__(self, done: float) -> float:
        """Value at `done` in [0, 1]."""
        return self.end + 0.5 * (self.start - self.end) * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Geometric:
    """From `start` to `end` by a constant factor a step; both positive."""

    start: float
    end: float

    def __post_init__(self) -> None:
        require_number("start", self.start, 0, above=True)
        require_number("end", self.end, 0, above=True)

    def __call__(self, done: float) -> float:
        """Value at `done` in [0, 1]."""
        return self.start * (self.end / self.start) ** done


def values(schedule: float | Schedule, steps: int) -> list[float]:
    """The schedule's value at each of `steps` steps; a plain number stays as it is."""
    if not callable(schedule):
        return [float(schedule)] * steps
    return [float(schedule(i / max(steps - 1, 1))) for i in range(steps)]


def require_values(
    argument: str, schedule: float | Schedule, steps: int, low: float, *, above: bool = False
) -> None:
    """Raise `InputError` unless a number is of at least `low` (`above` it), or a schedule at each of `steps` steps.

    A schedule may come down to `low` itself. Settings of samplers ask when they are made, so that no chain has to.
    """
    if not callable(schedule):
        require_number(argument, schedule, low, above=above)
        return
    for value in values(schedule, steps):
        require_number(argument, value, low)
