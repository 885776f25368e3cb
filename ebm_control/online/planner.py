"""The usual planner of a run: for a cost, a reward, the environment's goals, or a reward that is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ebm_control.checks import InputError, require, require_number, shown
from ebm_control.control import planner_for
from ebm_control.control.agent import GOAL_WEIGHT, REWARD_WEIGHT
from ebm_control.control.planner import PlanSampler
from ebm_control.data.goals import goal_coordinates
from ebm_control.energies.base import Energy
from ebm_control.energies.costs import GoalCost, RewardCost
from ebm_control.online.learner import Model
from ebm_control.online.reward import LearnedReward
from ebm_control.planning import Planner
from ebm_control.planning.plan import AnyPlanner

if TYPE_CHECKING:
    from ebm_control.online.loop import OnlineLearning

Cost = Energy | Callable[[Model], Energy]
Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
MakePlanner = Callable[[Model, int], AnyPlanner]
LEARNED_WEIGHT = 20.0  # of a learned reward, in standard deviations of the first data's


class OnlinePlanner:
    """Makes `planner_for(model, cost, preset="online")` after every round of training.

    What plans are for is, in this order: `cost`, `reward`, the environment's goals, or a reward that is learned from
    what was executed.

    Args:
        horizon: steps ahead.
        cost: an energy of normalised trajectories, or a function of the model that makes one: units change while a run
            learns, and a function is asked again.
        reward: instead, a function of states `(..., obs_dim)`, actions `(..., act_dim)` and next states, in the
            environment's units, to rewards `(...)`; or a `LearnedReward` with settings of its own.
        goal_index: observation coordinates that the environment's goal names; None to find them out.
        goal_weight: of the goal's L1 distance, in normalised units.
        reward_weight: of the reward; None for 10 of a known reward, in its own units, and 20 of a learned one, in
            standard deviations of the first data's.
        sampler: "langevin", "mppi", "cem" or a sampler; None for `planner_for`'s.

    Raises:
        InputError: both a cost and a reward, or a number out of its range.

    """

    def __init__(
        self,
        horizon: int = 12,
        *,
        cost: Cost | None = None,
        reward: Reward | LearnedReward | None = None,
        goal_index: Sequence[int] | None = None,
        goal_weight: float = GOAL_WEIGHT,
        reward_weight: float | None = None,
        sampler: PlanSampler | str | None = None,
    ) -> None:
        require_number("horizon", horizon, 1, whole=True)
        require_number("goal_weight", goal_weight, 0, above=True)
        if reward_weight is not None:
            require_number("reward_weight", reward_weight, 0, above=True)
        require(cost is None or reward is None, "cost", given="a reward too", expected="one of them")
        for name, value in (("cost", cost), ("reward", reward)):
            known = value is None or callable(value) or isinstance(value, LearnedReward)
            require(known, name, given=type(value).__name__, expected="a function")
        self.horizon, self.cost, self.reward, self.sampler = horizon, cost, reward, sampler
        self.goal_weight, self.reward_weight = goal_weight, reward_weight
        self.goal_index = None if goal_index is None else tuple(goal_index)
        self._learning: OnlineLearning | None = None

    def bind(self, learning: OnlineLearning) -> None:
        """Plan in this run; called by `OnlineLearning`, whose environment is reset where goals are to be found.

        Raises:
            InputError: the environment has goals, but it is not clear which coordinates they name.

        """
        self._learning = learning
        if self.cost is None and self.reward is None and self.goal_index is None:
            self.goal_index = goal_coordinates(learning.environments.all[0])
            if self.goal_index is None:
                self.reward = LearnedReward(seed=learning.settings.seed)

    def __call__(self, model: Model, step: int) -> Planner:
        """Planner of the model as it is after `step` steps."""
        if self._learning is None:
            raise InputError("planner: expected one that OnlineLearning was given, got one of no run")
        by_goals = self.cost is None and self.reward is None
        # Along a learned reward, states that no action leads to would be made up.
        shooting = False if by_goals else True if isinstance(self.reward, LearnedReward) else None
        return planner_for(
            model,
            self._cost(model, self._learning),
            self.horizon,
            action_space=self._learning.action_space,
            sampler=self.sampler,
            shooting=shooting,
            generator=torch.Generator().manual_seed(step),
            preset="online",
        )

    def _cost(self, model: Model, learning: OnlineLearning) -> Energy:
        if self.cost is not None:
            return self.cost if isinstance(self.cost, Energy) else self.cost(model)
        if isinstance(self.reward, LearnedReward):
            weight = LEARNED_WEIGHT if self.reward_weight is None else self.reward_weight
            return weight * self.reward.cost(learning)
        if self.reward is not None:
            weight = REWARD_WEIGHT if self.reward_weight is None else self.reward_weight
            return weight * RewardCost(model.layout, self.reward, denormalize=model.normalizer.denormalize)
        assert self.goal_index is not None
        return self.goal_weight * GoalCost(model.layout, self.goal_index, smooth=0.02)


def usual_planner(
    planner: MakePlanner | None,
    cost: Cost | None,
    reward: Reward | LearnedReward | None,
    goal_index: Sequence[int] | None,
    horizon: int,
) -> MakePlanner:
    """What `OnlineLearning` is given as it is, or `OnlinePlanner` for None.

    Raises:
        InputError: a cost, a reward or coordinates of goals beside a planner, which has its own.

    """
    if planner is None:
        return OnlinePlanner(horizon, cost=cost, reward=reward, goal_index=goal_index)
    for name, value in (("cost", cost), ("reward", reward), ("goal_index", goal_index)):
        require(
            value is None, name, given="one beside a planner", expected="None, as the planner has its own"
        )
    require(callable(planner), "planner", given=shown(planner), expected="a function that makes planners")
    return planner
