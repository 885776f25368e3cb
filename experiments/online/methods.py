"""The methods: one loop, one planner over costs, three models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
KINDS = {"EBM": "energy", "feed-forward": "feed-forward", "ensemble of 5": "ensemble"}


def learner_of(method: str, seed: int, steps: int) -> Learner:
    """An untrained model; widths are those of the planning table."""
    return make_learner(KINDS[method.removesuffix(", actions")], steps + 1000, seed)


def costs_of(problem: Problem, model: Model) -> Energy:
    """What a plan is for; on Arm7 with the costs that keep joints inside their limits, as in the planning table."""
    inside = kept_inside(Trained(model, 0.0)) if problem.env == ARM.env else problem
    return inside.goal_cost(model.layout)


def planners(
    method: str, problem: Problem, space: Any, horizon: int = HORIZON
) -> Callable[[Model, int], Planner]:
    """How the model as it is now plans: over states and actions for an EBM, over actions for all others."""

    def plan(model: Model, step: int) -> Planner:
        over_actions = method.endswith(", actions")
        return planner_for(
            model,
            costs_of(problem, model),
            horizon,
            action_space=space,
            shooting=over_actions,
            generator=torch.Generator().manual_seed(step),
            preset="online",
        )

    return plan
