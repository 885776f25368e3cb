"""Settings of online learning."""

from __future__ import annotations

from dataclasses import dataclass

from ebm_control.checks import as_python, require_number, require_seed
from ebm_control.online.experience import LONGEST


@dataclass(frozen=True)
class OnlineSettings:
    """Settings of online learning.

    Args:
        steps: total number of environment steps. One step is one step of one environment.
        environments: number of parallel environments.
        warm_up: steps with random actions at the start, at least 2: one for training, one for evaluation.
        every: smallest number of steps between rounds of training.
        growth: the interval between rounds is this fraction of the steps so far, if that is more than `every`.
        replan_every: largest number of steps that a plan is followed for.
        tolerance: distance of a state from its plan, in typical displacements, above which all plans are replaced.
        noise: std of the noise on actions, in half-widths of their range.
        effort: largest factor on the planner's number of steps. It is used if all transitions since the last round have
            a higher energy than 95 % of the held-out transitions; 1 never adds steps.
        planned: number of planned transitions stored for the next round.
        memory: number of transitions stored for training, the latest ones, at least 25; None for no limit.
        change: ratio of prediction errors to the usual ones above which the dynamics count as changed. The present
            model and data are then stored until they fit again, and the latest transitions begin a new regime. None
            disables this.
        seed: seed of environments, noise and planning.

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
