"""Build an agent from a model and an environment, with matching costs, units, bounds and planner settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Box
from torch import Tensor

from ebm_control.baselines import Baseline
from ebm_control.checks import InputError, require, shown
from ebm_control.control.guide import FittedGuide
from ebm_control.control.planner import Model, planner_for, searches, second_order
from ebm_control.control.presets import PlanSampler
from ebm_control.data.adapt import adapted_to
from ebm_control.data.environments import action_box, make_env
from ebm_control.data.goals import goal_coordinates, goal_space, require_goal_coordinates
from ebm_control.energies.base import Energy
from ebm_control.energies.costs import GoalCost, RewardCost
from ebm_control.models.recorded import is_flat
from ebm_control.models.trajectory import TrajectoryModel
from ebm_control.planning.agent import MPCAgent
from ebm_control.planning.plan import AnyPlanner
from ebm_control.planning.planner import Planner
from ebm_control.samplers.langevin import Langevin
from ebm_control.samplers.population import CEM, MPPI
from ebm_control.samplers.second_order import GaussNewton
from ebm_control.seeds import torch_generator

GOAL_WEIGHT = 20.0  # weight of the distance to the goal, in normalised units
REWARD_WEIGHT = 10.0  # weight of a reward in the environment's units


def make_agent(
    model: Model,
    env: gym.Env[Any, Any] | str,
    *,
    reward: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    cost: Energy | None = None,
    goal_index: tuple[int, ...] | None = None,
    horizon: int = 15,
    sampler: PlanSampler | str | None = None,
    shooting: bool | None = None,
    weight: float | None = None,
    chains: int | None = None,
    replan_every: int = 1,
    guide: FittedGuide | None = None,
    seed: int = 0,
) -> MPCAgent:
    """Build an agent that plans with a model, for a reward, a cost, or the environment's goals.

    Args:
        model: an energy of transitions or a baseline.
        env: the environment, or its id: it defines the bounds of actions, and which coordinates are goals. The agent
            sees and acts in its spaces, without a wrapper; it keeps a history in its state.
        reward: function from states `(..., obs_dim)`, actions `(..., act_dim)` and next states, in the environment's
            units, to rewards `(...)`, composed of differentiable torch operations. It is compared with the rewards in
            the model's training data. A warning reports disagreement, another one a gradient that is 0 everywhere.
        cost: alternative: an energy of normalised trajectories, e.g. `20 * GoalCost(model.layout, (0, 1)) + obstacle`.
        goal_index: observation coordinates of the environment's goal; None detects them.
        horizon: steps ahead.
        sampler: "gauss-newton", "langevin", "mppi", "cem" or one of your own; see `planner_for`.
        shooting: plan over actions only; None for True with a reward and "langevin", otherwise see `planner_for`.
        weight: weight of the energy relative to the cost; see `planner_for`.
        chains: chains per problem; see `planner_for`.
        replan_every: steps for which a plan is followed.
        guide: routes around walls, see `fit_guide`; plans then head for the points of a route to the goal.
        seed: seed of the noise of plans and particles.

    Raises:
        InputError: both a reward and a cost are set, neither is and the environment has no goals, the spaces are not
            those of the model, or `planner_for` refuses an argument.

    """
    native, box, cost = _spaces_and_cost(model, env, reward, cost, goal_index)
    if sampler is None and isinstance(model, TrajectoryModel) and not shooting and searches(model, box):
        sampler = "cem"
    _warn_if_flat(model, reward, sampler)
    device = (model.dynamics if isinstance(model, Baseline) else model.energy).displacement_scale.device
    planner = planner_for(
        model,
        cost,
        horizon,
        sampler=sampler,
        action_space=box,
        chains=chains,
        weight=weight,
        generator=torch_generator(seed, device),
        **_by_reward(model, reward, sampler, shooting),
    )
    found = _guided(planner, guide, model)
    return MPCAgent(found, model.normalizer, **native, replan_every=replan_every, device=device, seed=seed)


def _by_reward(
    model: Model,
    reward: Callable[[Tensor, Tensor, Tensor], Tensor] | None,
    sampler: PlanSampler | str | None,
    shooting: bool | None,
) -> dict[str, Any]:
    """Arguments of `planner_for` that depend on whether there is a reward."""
    # At a weight that a first-order sampler can handle, a gain in reward would pay for violations of the dynamics.
    first_order = sampler == "langevin" or (sampler is None and not second_order(model))
    searched = sampler in ("mppi", "cem") or isinstance(sampler, MPPI | CEM)
    if shooting is None and first_order and reward is not None:
        shooting = True
    return {"shooting": shooting, "preset": "offline" if reward is None or searched else "reward"}


def _guided(planner: Planner, guide: FittedGuide | None, model: Model) -> AnyPlanner:
    """The planner, or one that follows the routes of a guide."""
    if guide is None:
        return planner
    require(isinstance(guide, FittedGuide), "guide", given=shown(guide), expected="a guide of fit_guide")
    return guide.around(planner, model.normalizer)


def _warn_if_flat(
    model: Model, reward: Callable[[Tensor, Tensor, Tensor], Tensor] | None, sampler: PlanSampler | str | None
) -> None:
    """Warn of a reward without a gradient, such as an indicator of success, if the sampler follows gradients."""
    default = "gauss-newton" if isinstance(model, TrajectoryModel) else "cem"
    chosen = default if sampler is None else sampler
    descends = chosen in ("gauss-newton", "langevin") or isinstance(chosen, GaussNewton | Langevin)
    if reward is not None and descends and is_flat(reward, model.recorded, model.normalizer):
        warnings.warn(
            "reward: its gradient is zero at all states tried, so plans by gradients are random; search without "
            "gradients: sampler='cem' or sampler='mppi'",
            stacklevel=3,
        )


def _spaces_and_cost(
    model: Model,
    env: gym.Env[Any, Any] | str,
    reward: Callable[[Tensor, Tensor, Tensor], Tensor] | None,
    cost: Energy | None,
    goal_index: tuple[int, ...] | None,
) -> tuple[dict[str, Any], Box, Energy]:
    """Spaces that the agent acts in, as its arguments, the Box of its plans' actions, and the cost to plan for."""
    require(reward is None or cost is None, "cost", given="a reward too", expected="one of them")
    if not (cost is None or isinstance(cost, Energy)):
        raise InputError(
            f"cost: expected an Energy (a function of states and actions is a reward), got {shown(cost)}"
        )
    known = isinstance(model, TrajectoryModel | Baseline)
    require(known, "model", given=shown(model), expected="a trajectory model or a baseline")
    made = make_env(env)
    try:
        flat = adapted_to(made, model.normalizer)
        box = action_box(flat.action_space)
        native: dict[str, Any] = {"action_space": box}
        if flat is not made:
            native = {"action_space": made.action_space, "observation_space": made.observation_space}
        return native, box, _cost(model, flat, reward, goal_index) if cost is None else cost
    finally:
        if isinstance(env, str):
            made.close()


def _cost(
    model: Model,
    env: gym.Env[Any, Any],
    reward: Callable[[Tensor, Tensor, Tensor], Tensor] | None,
    goal_index: tuple[int, ...] | None,
) -> Energy:
    """Cost for a reward, or for the environment's goals."""
    if reward is not None:
        if model.recorded is not None:
            model.recorded.compare(reward)
        return REWARD_WEIGHT * RewardCost(model.layout, reward, denormalize=model.normalizer.denormalize)
    if goal_space(env) is None:
        raise InputError("reward: expected a reward or a cost, as the environment has no goals, got neither")
    if goal_index is None:
        index = goal_coordinates(env)
        assert index is not None
    else:
        require_goal_coordinates(env, goal_index)
        index = goal_index
    return GOAL_WEIGHT * GoalCost(model.layout, index, smooth=0.02)
