"""The methods: one loop, one planner over costs, three models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ebm_control.baselines import Baseline, baseline_planner
from ebm_control.energies import Energy
from ebm_control.online import BaselineLearner, EnergyLearner, Learner
from ebm_control.online.learner import Model
from ebm_control.planning import Planner, planner_for
from ebm_control.samplers import Langevin, Linear
from ebm_control.training import ModelSettings, TrainSettings, TrajectoryModel
from experiments.planning.jobs import kept_inside
from experiments.planning.methods import Trained
from experiments.planning.problems import ARM, Problem

METHODS = ("EBM", "EBM, actions", "feed-forward", "ensemble of 5")
HORIZON = 12
ROUND = 200  # regression updates of a round, for every method
SETTLE = Langevin(80, Linear(0.1, 0.01), noise=0.0, adapt="rms")  # over states and actions
SHOOT = Langevin(20, Linear(0.2, 0.01), noise=0.0, adapt="rms")  # over actions


def learner_of(method: str, seed: int, steps: int, **changes: Any) -> Learner:
    """An untrained model; widths are those of the planning table."""
    if method.startswith("EBM"):
        model = ModelSettings(hidden=(128, 128), **changes)
        settings = TrainSettings(model, updates=30, base_updates=ROUND, seed=seed)
        return EnergyLearner(settings, transitions=steps + 1000)
    if method == "feed-forward":
        return BaselineLearner(1, (256, 256), ROUND, seed=seed)
    return BaselineLearner(5, (128, 128), ROUND, seed=seed)


def costs_of(problem: Problem, model: Model) -> Energy:
    """What a plan is for; on Arm7 with the costs that keep joints inside their limits, as in the planning table."""
    inside = kept_inside(Trained(model, 0.0)) if problem.env == ARM.env else problem
    return inside.goal_cost(model.layout)


def planner_of(
    method: str, problem: Problem, space: Any, horizon: int = HORIZON
) -> Callable[[Model, int], Planner]:
    """How the model as it is now plans: over states and actions for an EBM, over actions for all others."""

    def plan(model: Model, step: int) -> Planner:
        costs = costs_of(problem, model)
        if isinstance(model, Baseline):
            noise = torch.Generator().manual_seed(step)
            return baseline_planner(
                model, costs, horizon, sampler=SHOOT, action_space=space, chains=2, generator=noise
            )
        assert isinstance(model, TrajectoryModel)
        over_actions = method == "EBM, actions"
        return planner_for(
            model,
            costs,
            horizon,
            sampler=SHOOT if over_actions else SETTLE,
            action_space=space,
            chains=2,
            shooting=over_actions,
        )

    return plan
