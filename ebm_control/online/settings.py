"""How an agent learns while it acts."""

from __future__ import annotations

from dataclasses import dataclass

from ebm_control.checks import require
from ebm_control.online.experience import LONGEST


@dataclass(frozen=True)
class OnlineSettings:
    """How an agent learns while it acts.

    Args:
        steps: in all. A step is one step of one environment, always.
        environments: side by side.
        warm_up: steps of random actions at the start, at least 2: one to learn from, one to judge by.
        every: steps between the first rounds of training; later rounds are a tenth (`growth`) of all steps apart.
        growth: see `every`.
        rows: steps that a plan is followed for at most.
        tolerance: typical displacements by which a state may be off its plan before all plans are made anew.
        noise: deviation of the noise on actions, in half-widths of their range.
        effort: most planning steps, as a multiple of the planner's own, taken where all that was executed since the
            last round has a higher energy than 95 % of the held-out transitions have; 1 keeps to the planner's own.
        planned: planned transitions kept for the next round.
        memory: transitions kept to learn from, the last ones, at least 25; None for all.
        change: how many times larger than usual errors of prediction must be for the dynamics to have changed:
            what was learned is then put aside until it fits again, and the last transitions begin a new regime. None:
            never.
        seed: of environments, noise and planning.

    """

    steps: int = 50_000
    environments: int = 8
    warm_up: int = 400
    every: int = 200
    growth: float = 0.1
    rows: int = 5
    tolerance: float = 1.0
    noise: float = 0.0
    effort: float = 1.0
    planned: int = 4096
    memory: int | None = None
    change: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "environments", "warm_up", "every", "rows", "planned"):
            value = getattr(self, name)
            require(value >= 1, name, given=value, expected="at least 1")
        for name in ("growth", "tolerance", "noise"):
            value = getattr(self, name)
            require(value >= 0, name, given=value, expected="at least 0")
        require(self.effort >= 1, "effort", given=self.effort, expected="at least 1")
        require(self.warm_up >= 2, "warm_up", given=self.warm_up, expected="at least 2")
        require(
            self.memory is None or self.memory >= LONGEST,
            "memory",
            given=self.memory,
            expected=f"None or at least {LONGEST}, the longest stretch",
        )
        require(
            self.change is None or self.change >= 1,
            "change",
            given=self.change,
            expected="None or at least 1",
        )
