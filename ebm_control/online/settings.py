"""How an agent learns while it acts."""

from __future__ import annotations

from dataclasses import dataclass

from ebm_control.checks import as_python, require_number, require_seed
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
        replan_every: steps that a plan is followed for at most.
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
    replan_every: int = 5
    tolerance: float = 1.0
    noise: float = 0.0
    effort: float = 1.0
    planned: int = 4096
    memory: int | None = None
    change: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        as_python(self)
        for name in ("steps", "environments", "every", "replan_every", "planned"):
            require_number(name, getattr(self, name), 1, whole=True)
        for name in ("growth", "tolerance", "noise"):
            require_number(name, getattr(self, name), 0)
        require_number("effort", self.effort, 1)
        require_number("warm_up", self.warm_up, 2, whole=True)
        if self.memory is not None:
            require_number("memory", self.memory, LONGEST, whole=True)
        if self.change is not None:
            require_number("change", self.change, 1)
        require_seed("seed", self.seed)
