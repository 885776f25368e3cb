"""The default planner of a run: for a cost, a reward, the environment's goals, or a learned reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ebm_control.checks import InputError, require, require_number, shown
from ebm_control.control import FittedGuide, GuideSettings, fit_guide, planner_for
from ebm_control.control.agent import GOAL_WEIGHT, REWARD_WEIGHT
from ebm_control.control.planner import second_order
from ebm_control.control.presets import PlanSampler
from ebm_control.data.goals import goal_coordinates
from ebm_control.energies.base import Energy
from ebm_control.energies.costs import GoalCost, RewardCost
from ebm_control.online.learner import Model
from ebm_control.online.policy import PlanPolicy
from ebm_control.online.reward import LearnedReward
from ebm_control.planning import Planner
from ebm_control.planning.plan import AnyPlanner
from ebm_control.planning.shooting import Dynamics

if TYPE_CHECKING:
    from ebm_control.online.loop import OnlineLearning

Cost = Energy | Callable[[Model], Energy]
Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
MakePlanner = Callable[[Model, int], AnyPlanner]
REFIT = 1.2  # growth of the experience after which a guide is fitted again
LEARNED_WEIGHT = 20.0  # weight of a learned reward, in stds of the first data's rewards


class OnlinePlanner:
    """Builds `planner_for(model, cost, preset="online")` after every round of training.

    Plans minimise the first of these that exists: `cost`, `reward`, the distance to the environment's goals, or a
    reward that is learned from executed transitions.

    Args:
        horizon: steps ahead.
        cost: an energy of normalised trajectories, or a function that builds one from the model. Units change during
            a run, and the function is called again.
        reward: alternative: a function from states `(..., obs_dim)`, actions `(..., act_dim)` and next states, in the
            environment's units, to rewards `(...)`; or a `LearnedReward` with its own settings.
        goal_index: observation coordinates of the environment's goal; None detects them.
        goal_weight: weight of the L1 distance to the goal, in normalised units.
        reward_weight: weight of the reward; None for 10 (a given reward, in its own units) or 20 (a learned reward,
            in standard deviations of the first data's rewards).
        sampler: "gauss-newton", "langevin", "mppi", "cem" or a sampler; None for the default of `planner_for`, also
            in place of "gauss-newton" for models that it does not suit.
        chains: chains per problem, see `planner_for`.
        weight: weight of an energy relative to the costs, see `planner_for`.
        policy: a policy and a value that are learned beside the model: chains begin with the policy's rollouts, and
            plans end with the value. Only with a `LearnedReward` (its `known` takes a reward function).
        guide: settings of routes around walls, which are fitted to the executed positions; None for no routes. Only
            for the environment's goals. A run whose goals are set by `goals=` acts without routes.

    Raises:
        InputError: both a cost and a reward are set, or a number is out of its range.

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
        chains: int | None = None,
        weight: float | None = None,
        policy: PlanPolicy | None = None,
        guide: GuideSettings | None = None,
    ) -> None:
        require_number("horizon", horizon, 1, whole=True)
        require_number("goal_weight", goal_weight, 0, above=True)
        if reward_weight is not None:
            require_number("reward_weight", reward_weight, 0, above=True)
        require(cost is None or reward is None, "cost", given="a reward too", expected="one of them")
        learned = isinstance(reward, LearnedReward)
        require(
            policy is None or learned, "policy", given=shown(reward), expected="one beside a LearnedReward"
        )
        for name, value in (("cost", cost), ("reward", reward)):
            known = value is None or callable(value) or isinstance(value, LearnedReward)
            require(known, name, given=type(value).__name__, expected="a function")
        self.horizon, self.cost, self.reward, self.sampler = horizon, cost, reward, sampler
        self.goal_weight, self.reward_weight = goal_weight, reward_weight
        self.goal_index = None if goal_index is None else tuple(goal_index)
        self.chains, self.weight, self.policy = chains, weight, policy
        free = guide is None or (cost is None and reward is None)
        require(free, "guide", given="one beside a cost or a reward", expected="one for goals alone")
        self.guide = guide
        self._fitted: tuple[int, FittedGuide | None] = (0, None)
        self._learning: OnlineLearning | None = None
        self._trained_until = 0

    def bind(self, learning: OnlineLearning) -> None:
        """Plan in this run. `OnlineLearning` calls this; the environment is reset to detect its goals.

        Raises:
            InputError: the environment has goals, but their observation coordinates cannot be determined.

        """
        self._learning = learning
        if self.cost is None and self.reward is None and self.goal_index is None:
            self.goal_index = goal_coordinates(learning.environments.all[0])
            if self.goal_index is None:
                self.reward = LearnedReward(seed=learning.settings.seed)

    def __call__(self, model: Model, step: int) -> AnyPlanner:
        """Planner with the model after `step` steps."""
        found = self._unguided(model, step)
        return found if self.guide is None else self._routes(self.guide, step).around(found, model.normalizer)

    def acting(self, model: Model, step: int) -> AnyPlanner:
        """Planner of the run itself: without routes while others set the goals, which are near then."""
        explores = self._learning is not None and self._learning.goals is not None
        return self._unguided(model, step) if explores else self(model, step)

    def _routes(self, settings: GuideSettings, step: int) -> FittedGuide:
        """The guide of the present experience; fitted again once that has grown by `REFIT`."""
        assert self._learning is not None
        assert self.goal_index is not None
        fitted, guide = self._fitted
        if guide is None or step > REFIT * fitted:
            data, seed = self._learning.experience.data, self._learning.settings.seed
            guide = fit_guide(data, self.goal_index, settings, seed=seed, progress=False)
            self._fitted = step, guide
        return guide

    def _unguided(self, model: Model, step: int) -> Planner:
        if self._learning is None:
            raise InputError("planner: expected one that OnlineLearning was given, got one of no run")
        by_goals = self.cost is None and self.reward is None
        second = self.sampler == "gauss-newton" and second_order(model)
        # With a learned reward, first-order steps over states would invent some that no action leads to.
        learned = isinstance(self.reward, LearnedReward)
        shooting = False if by_goals else not second if learned else None
        found = planner_for(
            model,
            self._cost(model, self._learning),
            self.horizon,
            action_space=self._learning.action_space,
            sampler=None if self.sampler == "gauss-newton" and not second else self.sampler,
            chains=self.chains,
            weight=self.weight,
            shooting=shooting,
            generator=torch.Generator().manual_seed(step),
            preset="reward" if learned and second else "online",
            policy=None if self.policy is None else self.policy.act,
        )
        if self.policy is not None and found.dynamics is not None:
            self._train(self.policy, self._learning, found.dynamics)
        return found

    def state_dict(self) -> dict[str, Any]:
        """State of the policy, if there is one, for checkpoints of the run."""
        if self.policy is None:
            return {}
        return {"policy": self.policy.state_dict(), "trained_until": self._trained_until}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, once bound to the run that is resumed."""
        if self.policy is not None and state:
            assert self._learning is not None
            try:
                self.policy.load_state_dict(state["policy"], self._learning.action_space)
            except (KeyError, RuntimeError, ValueError) as error:
                given = f"a {type(self.policy).__name__} of other settings"
                raise InputError(f"policy: expected that of the checkpoint, got {given} ({error})") from error
            self._trained_until = int(state["trained_until"])

    def _train(self, policy: PlanPolicy, learning: OnlineLearning, dynamics: Dynamics) -> None:
        """Train the policy for the steps since the last round."""
        assert isinstance(self.reward, LearnedReward)
        steps = learning.progress.step - self._trained_until
        if steps == 0:  # a further planner of the same round
            return
        self._trained_until = learning.progress.step
        policy.learn(learning.experience.data, policy.count(steps), dynamics, self.reward.rated)

    def _cost(self, model: Model, learning: OnlineLearning) -> Energy:
        if self.cost is not None:
            return self.cost if isinstance(self.cost, Energy) else self.cost(model)
        if isinstance(self.reward, LearnedReward):
            weight = LEARNED_WEIGHT if self.reward_weight is None else self.reward_weight
            if self.policy is None:
                return weight * self.reward.cost(learning)
            self.reward.fit(learning)
            assert learning.normalizer is not None
            if self.policy.normalizer is None:
                self.policy.begin(learning.normalizer, learning.action_space, self.reward.unit)
            self.policy.heed(learning.normalizer)
            total = self.reward.cost(learning, self.policy.value, self.policy.discount)
            unlike = self.policy.cost()
            return weight * (total if unlike is None else total + unlike)
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
    """The planner argument of `OnlineLearning`, or an `OnlinePlanner` for None.

    Raises:
        InputError: a cost, a reward or goal coordinates are set together with a planner, which has its own.

    """
    if planner is None:
        return OnlinePlanner(horizon, cost=cost, reward=reward, goal_index=goal_index)
    for name, value in (("cost", cost), ("reward", reward), ("goal_index", goal_index)):
        require(
            value is None, name, given="one beside a planner", expected="None, as the planner has its own"
        )
    require(callable(planner), "planner", given=shown(planner), expected="a function that makes planners")
    return planner
