"""Settings of online learning that were found by trials, by families of environments, and one that fits any other.

`python -m experiments.mujoco.trials` compares settings on seeds of their own and records what it tried.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gymnasium.spaces import Box

from ebm_control.checks import require, require_seed, shown
from ebm_control.control.agent import GOAL_WEIGHT
from ebm_control.control.guide import GuideSettings
from ebm_control.control.presets import PlanSampler
from ebm_control.data.environments import EnvLike, make_env
from ebm_control.data.goals import goal_space
from ebm_control.extras import MissingExtraError
from ebm_control.models import ModelSettings, TrainSettings
from ebm_control.online.actor_critic import ActorCritic
from ebm_control.online.cloned import ClonedPolicy
from ebm_control.online.exploration.frontier import FrontierGoals
from ebm_control.online.learner import BaselineLearner, EnergyLearner, Learner
from ebm_control.online.loop import OnlineLearning, Report
from ebm_control.online.planner import Cost, OnlinePlanner, Reward
from ebm_control.online.policy import PlanPolicy
from ebm_control.online.recipe import KINDS, Kind
from ebm_control.online.reward import LearnedReward
from ebm_control.online.settings import OnlineSettings
from ebm_control.samplers.population import MPPI


@dataclass(frozen=True)
class OnlinePreset:
    """Settings of one family of environments.

    Args:
        horizon: planning horizon in steps.
        sampler: sampler of plans; None for the default of `OnlinePlanner`.
        chains: chains per problem, see `planner_for`.
        policy: arguments of an `ActorCritic`, or of a `ClonedPolicy` if `cloned`; None for plans without a policy and a
            value.
        acting: fields of `OnlineSettings` other than `steps` and `seed`.
        tilt: widths of the tilt's hidden layers.
        base: widths of the hidden layers of the base, and of a feed-forward network.
        updates: updates of the tilt per round.
        base_updates: regression updates per round.
        reward_updates: updates of the learned reward per round.
        barrier: weight of the logit of an end in plans, see `LearnedReward`.
        weight: weight of an energy relative to the costs, see `planner_for`; 0 leaves its tilt out of plans over
            actions.
        guide: settings of routes to the environment's goals, see `OnlinePlanner`; None for plans straight to them.
        cloned: whether the policy is that of the data, for learning from recorded rollouts alone.
        places: size of a place, in the environment's units, of a run that explores the space of goals by
            `FrontierGoals`; None for one that acts towards the environment's goals.

    """

    horizon: int = 12
    sampler: PlanSampler | str | None = None
    chains: int | None = None
    policy: Mapping[str, Any] | None = None
    acting: Mapping[str, Any] | None = None
    tilt: tuple[int, ...] = (128, 128)
    base: tuple[int, ...] = (256, 256)
    updates: int = 30
    base_updates: int = 200
    reward_updates: int = 300
    barrier: float = 0.0
    weight: float | None = None
    guide: GuideSettings | None = None
    cloned: bool = False
    places: float | None = None

    def learner(self, kind: Kind, steps: int, seed: int) -> Learner:
        """An untrained model for a run of `steps` steps; all kinds have the same regression updates."""
        require(kind in KINDS, "learner", given=shown(kind), expected=f"a Learner or one of {KINDS}")
        if kind == "energy":
            model = ModelSettings(hidden=self.tilt, base_hidden=self.base)
            settings = TrainSettings(model, updates=self.updates, base_updates=self.base_updates, seed=seed)
            return EnergyLearner(settings, steps)
        members = 5 if kind == "ensemble" else 1
        # As wide as half of a single network, so that five of them take about as long.
        hidden = tuple(max(16, width // 2) for width in self.base) if members > 1 else self.base
        return BaselineLearner(members, hidden, self.base_updates, seed=seed)


# Choosing among rollouts of the policy and the plan of the step before, by the energy, without a search around them.
CHOICE = MPPI(0, 2)
# A short search around the plan of the step before and around the policy's.
SEARCH = MPPI(
    2,
    32,
    noise=1.0,
    temperature=0.2,
    elites=6,
    adapt=0.5,
    smooth=False,
    colour=1.0,
    free=True,
    engine="eager",
)
_LEARNED = {"discount": 0.99, "updates": 2.0, "imagined": 0.5, "branch": 1, "hidden": (128, 128)}
_ACTING = {"environments": 4, "warm_up": 1000, "every": 250, "growth": 0.0, "noise": 0.1, "replan_every": 1}
# Few steps: a search, which is right before the policy is; one environment, so that rounds come soon in each episode.
REWARD = OnlinePreset(
    12,
    SEARCH,
    2,
    {**_LEARNED, "hidden": (64, 64), "learning_rate": 1e-3, "updates": 4.0},
    {**_ACTING, "environments": 1, "warm_up": 300, "every": 100},
    tilt=(64, 64),
    base=(128, 128),
    updates=10,
    base_updates=100,
    reward_updates=300,
)
# Contacts and many joints: a search exploits the errors of a young model, a choice much less.
LOCOMOTION = OnlinePreset(
    5,
    CHOICE,
    4,
    {**_LEARNED, "updates": 4.0, "imagined": 0.8},
    _ACTING,
    (64, 64),
    (200, 200),
    updates=10,
    base_updates=300,
    reward_updates=100,
)
# Choices: ends beyond the plan count by their logit, since the value of so few steps is not to be trusted.
CHOICES = replace(
    REWARD,
    horizon=20,
    sampler=replace(SEARCH, steps=3),
    policy={
        **_LEARNED,
        "hidden": (64, 64),
        "learning_rate": 1e-3,
        "updates": 6.0,
        "imagined": 0.8,
        "branch": 5,
    },
    barrier=0.1,
)
# Smooth rewards of where a limb or a load is: second-order steps through the learned dynamics and the learned reward.
REACHING = OnlinePreset(
    12,
    "gauss-newton",
    acting={**_ACTING, "environments": 1, "warm_up": 500},
    tilt=(64, 64),
    base=(128, 128),
    updates=10,
)
# Recorded rollouts: a short search around the policy of the data, with behaviour regularisation.
OFFLINE = OnlinePreset(
    3,
    replace(SEARCH, steps=3, noise=0.3),
    2,
    {"expectile": 0.8},
    {"environments": 1},
    tilt=(64, 64),
    base=(200, 200),
    updates=10,
    base_updates=300,
    cloned=True,
)
GOALS = OnlinePreset(12, "gauss-newton")
# Walls between starts and goals: go everywhere first, then plan along routes. A cell of a maze is one unit wide.
MAZES = OnlinePreset(
    12,
    "gauss-newton",
    acting={"environments": 16, "warm_up": 800, "every": 500, "growth": 0.2, "noise": 0.2, "replan_every": 4},
    tilt=(64, 64),
    base=(128, 128),
    updates=10,
    guide=GuideSettings(),
    places=0.25,
)
PRESETS: dict[str, OnlinePreset] = {
    "reward": REWARD,
    "locomotion": LOCOMOTION,
    "reaching": REACHING,
    "offline": OFFLINE,
    "choices": CHOICES,
    "goals": GOALS,
    "mazes": MAZES,
}
# The first pattern that an environment's id begins with.
ZOO: dict[str, str] = {
    r"PointMaze": "mazes",
    r"(Reacher|Pusher)-": "reaching",
    r"(HalfCheetah|Hopper|Walker2d|Ant|Humanoid|Swimmer)-": "locomotion",
}


def preset_of(env: str | None, *, goals: bool = False, choices: bool = False) -> str:
    """Name of the preset for an environment's id, with or without its package; else of one of its kind.

    Args:
        env: id; None for an environment without one.
        goals: whether it is controlled by its goals.
        choices: whether its actions are choices.

    """
    name = (env or "").rpartition(":")[2]
    for pattern, preset in ZOO.items():
        if re.match(pattern, name):
            return preset
    return "goals" if goals else "choices" if choices else "reward"


def learn_online(
    env: EnvLike, steps: int = 20_000, *, report: Report | None = None, **options: Any
) -> OnlineLearning:
    """Learn to control an environment from nothing: `learn_online(env, 2_000).agent()` is the agent.

    Plans are for the cost, the reward, or the environment's goals; otherwise the reward is learned, and termination too
    where episodes end.

    Args:
        env: id, function or environment; a function is called once per parallel environment.
        steps: environment steps in all.
        report: called after every round, see `OnlineLearning.run`.
        options: further arguments of `prepare_online`.

    Returns:
        The finished run, which holds the model, the experience and the progress.

    Raises:
        InputError: see `prepare_online`.

    """
    run = prepare_online(env, steps, **options)
    run.run(report=report)
    return run


def prepare_online(
    env: EnvLike,
    steps: int = 20_000,
    *,
    learner: Learner | Kind = "energy",
    reward: Reward | LearnedReward | None = None,
    cost: Cost | None = None,
    goal_index: Sequence[int] | None = None,
    preset: OnlinePreset | str | None = None,
    goal_weight: float = GOAL_WEIGHT,
    reward_weight: float | None = None,
    seed: int = 0,
    **options: Any,
) -> OnlineLearning:
    """The run of `learn_online`, not yet begun.

    Args:
        env: see `learn_online`.
        steps: see `learn_online`.
        learner: "energy", "feed-forward", "ensemble" or a `Learner`.
        reward: function from states, actions and next states to rewards, see `OnlinePlanner`.
        cost: an energy, see `OnlinePlanner`.
        goal_index: observation coordinates of the environment's goal; None detects them.
        preset: settings, or their name; None for those of the environment's id, see `preset_of`.
        goal_weight: see `OnlinePlanner`.
        reward_weight: see `OnlinePlanner`.
        seed: seed of all random numbers; a `LearnedReward` or a preset's policy may have its own.
        options: further arguments of `OnlineLearning`, such as `folder` and `progress`.

    Raises:
        InputError: see `OnlineLearning`; or the preset does not exist.

    """
    require_seed("seed", seed)
    usual, goals = _kind(env, options.get("env_kwargs"), reward)
    chosen = _chosen(preset, usual)
    by_reward = cost is None and not goals
    policy = _policy(chosen, seed) if by_reward else None
    if policy is None and chosen.policy is not None:
        chosen = replace(chosen, horizon=12, sampler=None, chains=None)
    planner = OnlinePlanner(
        chosen.horizon,
        cost=cost,
        reward=_reward(chosen, seed, reward) if by_reward else reward,
        goal_index=goal_index,
        goal_weight=goal_weight,
        reward_weight=reward_weight,
        sampler=chosen.sampler,
        chains=chosen.chains,
        weight=chosen.weight,
        policy=policy,
        guide=chosen.guide if goals and cost is None else None,
    )
    settings = OnlineSettings(steps=steps, seed=seed, **(chosen.acting or {}))
    if isinstance(learner, str):
        learner = chosen.learner(learner, steps + settings.environments, seed)
    run = OnlineLearning(env, learner, planner, settings, **options)
    _explore(run, planner, chosen.places)
    return run


def _explore(run: OnlineLearning, planner: OnlinePlanner, places: float | None) -> None:
    """Let a run with goals head for places that are new, if the preset has a size of places."""
    if places is not None and run.goals is None and planner.goal_index is not None:
        width, seed = run.observation_space.shape[0], run.settings.seed
        run.goals = FrontierGoals(width, planner.goal_index, places, seed=seed)


def _kind(env: EnvLike, arguments: Any, reward: Reward | LearnedReward | None) -> tuple[str, bool]:
    """Name of the environment's preset, and whether plans are for its goals."""
    made = make_env(env, arguments)
    try:
        goals = goal_space(made) is not None and reward is None
        identity = None if made.spec is None else made.spec.id
        return preset_of(identity, goals=goals, choices=not isinstance(made.action_space, Box)), goals
    finally:
        if made is not env:
            made.close()


def _chosen(preset: OnlinePreset | str | None, usual: str) -> OnlinePreset:
    """The preset itself, that of a name, or the usual one."""
    if isinstance(preset, OnlinePreset):
        return preset
    name = usual if preset is None else preset
    require(
        name in PRESETS, "preset", given=shown(name), expected=f"an OnlinePreset or one of {sorted(PRESETS)}"
    )
    return PRESETS[name]


def _reward(preset: OnlinePreset, seed: int, reward: Reward | LearnedReward | None) -> LearnedReward:
    """The reward itself if it has settings of its own; else one that is learned, or known beside learned ends."""
    if isinstance(reward, LearnedReward):
        return reward
    return LearnedReward(preset.reward_updates, seed, reward, preset.barrier)


def _policy(preset: OnlinePreset, seed: int) -> PlanPolicy | None:
    """The policy of a preset that has one; None with a warning if Stable-Baselines3 is not installed."""
    if preset.policy is None:
        return None
    if preset.cloned:
        return ClonedPolicy(**{"seed": seed} | dict(preset.policy))
    try:
        return ActorCritic(**{"seed": seed} | dict(preset.policy))
    except MissingExtraError as error:
        warnings.warn(f"{error}; plans go without a learned policy and value, and are longer", stacklevel=4)
        return None
