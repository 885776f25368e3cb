"""Model-free baselines of Stable-Baselines3: SAC, SAC with hindsight (HER) for goals, and DQN for choices.

Settings are known good ones (those of rl-baselines3-zoo where it has the environment), changed only where a run is
shorter than theirs: learning then begins earlier. All of them bootstrap at time limits, which are truncations.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import stable_baselines3
from stable_baselines3 import DQN, SAC, HerReplayBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from ebm_control.planning.episodes import Agent
from ebm_control.seeds import seeds
from experiments.mujoco.methods import Job, Method, Row, evaluated
from experiments.mujoco.problems import PROBLEMS, Problem
from experiments.planning.reinforcement import Deterministic

# Small ones: the learning rate of the zoo's Pendulum, small networks, and in these few steps four updates per step,
# with which two runs on Pendulum (seeds of no table) had -202 and -108 after 2,000 steps; three with one update and
# networks of 256 had -810 to -1,040. With ten times the steps one update per step is enough.
_SMALL = {
    "learning_rate": 1e-3,
    "learning_starts": 100,
    "gradient_steps": 4,
    "policy_kwargs": {"net_arch": [64, 64]},
}
# Locomotion: Stable-Baselines3's defaults, as in the zoo. It starts learning after 10,000 steps of a million; of
# 20,000 to 50,000 that would lose much.
_LARGE = {"learning_starts": 1000}
SAC_SETTINGS: dict[str, dict[str, Any]] = {
    "Pendulum-v1": _SMALL,
    "InvertedPendulum-v5": _SMALL,
    "Reacher-v5": _SMALL,
    "ebm/Crane-v0": _SMALL,
    "InvertedDoublePendulum-v5": _SMALL,
    "Swimmer-v5": _LARGE | {"gamma": 0.9999},  # a stroke pays off late
    "Pusher-v5": _LARGE,
    "HalfCheetah-v5": _LARGE,
    "Hopper-v5": _LARGE,
    "Walker2d-v5": _LARGE,
}
# The zoo's of FetchReach (there for 20,000 steps, hence more updates per step here). Rewards of -1 and 0 need less
# entropy than SAC begins with. Hindsight needs a finished episode before learning begins.
_FETCH = _SMALL | {"gamma": 0.95, "ent_coef": "auto_0.1"}
_MAZE = {"learning_starts": 1000}
HER_SETTINGS: dict[str, dict[str, Any]] = {
    "FetchReach-v4": _FETCH,
    "PointMaze_UMaze-v3": _MAZE,
    "PointMaze_Medium-v3": _MAZE,
    "PointMaze_Large-v3": _MAZE,
}
NORMALIZED = ("FetchReach-v4",)  # observations, as in the zoo: it moves by centimetres, in metres
HINDSIGHT = {"n_sampled_goal": 4, "goal_selection_strategy": "future"}
# The zoo's for 50,000 steps, but learning begins sooner (there after 1,000 steps), with an update per step in
# small rounds (there 128 updates after every 256 steps).
DQN_SETTINGS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {
        "learning_rate": 2.3e-3,
        "batch_size": 64,
        "learning_starts": 200,
        "target_update_interval": 10,
        "train_freq": 4,
        "gradient_steps": 4,
        "exploration_fraction": 0.16,
        "exploration_final_eps": 0.04,
        "policy_kwargs": {"net_arch": [256, 256]},
    }
}
_LONGER = {"learning_starts": 1000, "train_freq": 256, "gradient_steps": 128}


class StepsCost(gym.Wrapper[Any, Any, Any, Any]):
    """Rewards of -1 and 0 instead of 0 and 1.

    Hindsight relabels goals but not the ends of episodes. With 1 at the goal, staying there would seem to be worth more
    than the end of the episode; with 0, both are worth the same.
    """

    def step(self, action: Any) -> Any:
        observation, reward, *others = self.env.step(action)
        return observation, float(reward) - 1.0, *others

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return self.env.get_wrapper_attr("compute_reward")(achieved, desired, info) - 1.0


@dataclass(frozen=True)
class Normalized:
    """An agent that is shown normalised observations."""

    agent: Agent
    scale: VecNormalize

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        return self.agent.predict(self.scale.normalize_obs(observation), state, episode_start)


def training(problem: Problem) -> gym.Env[Any, Any]:
    """The environment to learn in."""
    env = problem.make()
    costs = problem.name.startswith("PointMaze")  # FetchReach has such rewards
    return Monitor(StepsCost(env) if costs else env)


def build(job: Job, algorithm: type[SAC] | type[DQN], settings: dict[str, Any], policy: str) -> SAC | DQN:
    """A new model, whose replay buffer holds all steps."""
    (own,) = seeds(job.seed, "reinforcement learning", 1)
    envs: VecEnv = DummyVecEnv([lambda: training(job.problem)])
    if job.env in NORMALIZED:
        envs = VecNormalize(envs, norm_reward=False)
    return algorithm(
        policy,
        envs,
        buffer_size=job.steps,
        seed=own,
        device="cpu",
        **deepcopy(settings),  # Stable-Baselines3 modifies policy_kwargs
    )


def _finished(job: Job, model: SAC | DQN, settings: dict[str, Any]) -> list[Row]:
    """The row of a model, once it has learned."""
    model.learn(job.steps)
    agent: Agent = Deterministic(model)
    scale = model.get_vec_normalize_env()
    if scale is not None:
        agent = Normalized(agent, scale)
    said = {name: value for name, value in settings.items() if name != "replay_buffer_class"}
    said["normalized_observations"] = scale is not None
    said["others"] = f"defaults of Stable-Baselines3 {stable_baselines3.__version__}"
    return [evaluated(agent, job.problem, job.seed, job.episodes) | {"hyperparameters": said}]


def sac(job: Job) -> list[Row]:
    """SAC, at the end of its steps; with more steps than the problem's, one update per step."""
    settings = SAC_SETTINGS[job.env] | ({"gradient_steps": 1} if job.compared.factor > 1 else {})
    return _finished(job, build(job, SAC, settings, "MlpPolicy"), settings)


def sac_as_often(job: Job) -> list[Row]:
    """SAC with as many updates per step as the policy beside the energy has."""
    settings = SAC_SETTINGS[job.env] | {"gradient_steps": 4}
    return _finished(job, build(job, SAC, settings, "MlpPolicy"), settings)


def hindsight(job: Job) -> list[Row]:
    """SAC with hindsight experience replay, at the end of its steps."""
    buffer = {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": HINDSIGHT}
    settings = HER_SETTINGS[job.env] | buffer
    return _finished(job, build(job, SAC, settings, "MultiInputPolicy"), settings)


def dqn(job: Job) -> list[Row]:
    """DQN, at the end of its steps; with more steps than the problem's, with the zoo's rounds."""
    settings = DQN_SETTINGS[job.env] | (_LONGER if job.compared.factor > 1 else {})
    return _finished(job, build(job, DQN, settings, "MlpPolicy"), settings)


def _in_order(names: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in PROBLEMS if name in names)


_SHORT = ("Pendulum-v1", "InvertedPendulum-v5", "Reacher-v5", "ebm/Crane-v0", "InvertedDoublePendulum-v5")
_LONG = tuple(name for name in _in_order(SAC_SETTINGS) if name not in _SHORT)
METHODS = (
    Method("SAC", sac, _in_order(SAC_SETTINGS)),
    Method("SAC, 4 updates", sac_as_often, _LONG, optional=_LONG),
    Method("DQN", dqn, _in_order(DQN_SETTINGS)),
    Method("SAC + HER", hindsight, _in_order(HER_SETTINGS)),
    Method("DQN 10x", dqn, _in_order(DQN_SETTINGS), factor=10),
    Method("SAC 10x", sac, _in_order(SAC_SETTINGS), optional=_LONG, factor=10),
)
