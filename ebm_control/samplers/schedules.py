"""Values that change over the steps of a chain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ebm_control.checks import require_number


@runtime_checkable
class Schedule(Protocol):
    """A value as a function of the progress of a chain, from 0 (first step) to 1 (last)."""

    def __call__(self, done: float) -> float:
        """Value at progress `done` in [0, 1]."""
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
    """Linear from `start` to `end`."""

    def __call__(self, done: float) -> float:
        """Value at progress `done` in [0, 1]."""
        return self.start + (self.end - self.start) * done


@dataclass(frozen=True)
class Cosine(_Between):
    """From `start` to `end` along half a cosine: slow at both ends."""

    def __call__(self, done: float) -> float:
        """Value at progress `done` in [0, 1]."""
        return self.end + 0.5 * (self.start - self.end) * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Geometric:
    """From `start` to `end` by a constant factor per step; both positive."""

    start: float
    end: float

    def __post_init__(self) -> None:
        require_number("start", self.start, 0, above=True)
        require_number("end", self.end, 0, above=True)

    def __call__(self, done: float) -> float:
        """Value at progress `done` in [0, 1]."""
        return self.start * (self.end / self.start) ** done


def values(schedule: float | Schedule, steps: int) -> list[float]:
    """The schedule's value at each of `steps` steps; a number is repeated."""
    if not callable(schedule):
        return [float(schedule)] * steps
    return [float(schedule(i / max(steps - 1, 1))) for i in range(steps)]


def require_values(
    argument: str, schedule: float | Schedule, steps: int, low: float, *, above: bool = False
) -> None:
    """Raise `InputError` unless a number, or a schedule at each of `steps` steps, is at least `low` (`above`: more).

    A schedule may reach `low` itself. Samplers check their settings when they are created, before any chain runs.
    """
    if not callable(schedule):
        require_number(argument, schedule, low, above=above)
        return
    for value in values(schedule, steps):
        require_number(argument, value, low)
