"""The methods: three models in one loop with one planner, and baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ebm_control.control import planner_for
from ebm_control.energies import Energy
from ebm_control.online import Learner, make_learner
from ebm_control.online.learner import Model
from ebm_control.planning import Planner
from experiments.planning.jobs import kept_inside
from experiments.planning.methods import Trained
from experiments.planning.problems import ARM, Problem

HORIZON = 12


@dataclass(frozen=True)
class Method:
    """A row of a table.

    Attributes:
        name: name in the row.
        model: kind of the model; None for SAC and for random actions.
        shooting: whether an energy plans only over actions, as all other models do.
        effort: largest factor of the sampler's steps per plan, used where the energy gap requires it.
        memory: number of latest transitions that training draws from; None for all.
        regimes: whether changes of the dynamics are detected and answered with another model.
        base: whether an energy has a regression as its base measure.
        explores: exploration goals: "frontier" (next to visited places) or "disagreement" (of an ensemble).
        model_free: whether it is SAC.

    """

    name: str
    model: Literal["energy", "feed-forward", "ensemble"] | None
    shooting: bool = False
    effort: float = 1.0
    memory: int | None = None
    regimes: bool = False
    base: bool = True
    explores: Literal["frontier", "disagreement"] | None = None
    model_free: bool = False


ENERGY = Method("EBM", "energy")
ENERGY_OVER_ACTIONS = Method("EBM, actions", "energy", shooting=True)
FEED_FORWARD = Method("feed-forward", "feed-forward")
ENSEMBLE = Method("ensemble of 5", "ensemble")
MODELS = (ENERGY, FEED_FORWARD, ENSEMBLE)
SAC = Method("SAC", None, model_free=True)


def learner_of(method: Method, seed: int, steps: int) -> Learner:
    """An untrained model; widths are those of the planning table."""
    assert method.model is not None
    return make_learner(method.model, steps + 1000, seed)


def costs_of(problem: Problem, model: Model) -> Energy:
    """The cost of a plan; on Arm7 with the costs that keep joints inside their limits, as in the planning table."""
    inside = kept_inside(Trained(model, 0.0)) if problem.env == ARM.env else problem
    return inside.goal_cost(model.layout)


def planners(
    problem: Problem, space: Any, horizon: int = HORIZON, *, shooting: bool = False
) -> Callable[[Model, int], Planner]:
    """Builds planners for the current model: over states and actions for an energy unless `shooting`, else actions."""

    def plan(model: Model, step: int) -> Planner:
        return planner_for(
            model,
            costs_of(problem, model),
            horizon,
            action_space=space,
            shooting=shooting,
            generator=torch.Generator().manual_seed(step),
            preset="online",
        )

    return plan
