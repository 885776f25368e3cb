"""Exploration by reinforcement learning: SAC with a reward for rarely visited places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from ebm_control.seeds import seeds
from experiments.planning.reinforcement import sac

Place = tuple[int, ...]


class CountBonus(gym.Wrapper[Any, Any, Any, Any]):
    """Plain observations, actions in [-1, 1], and `1 / sqrt(n)` for the n-th visit to a place (Strehl & Littman 2008).

    Args:
        env: a goal environment; its goals and rewards are dropped.
        place: maps an observation to its place.
        counts: visits by place, shared by all environments.
        see: called with each observation.

    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        place: Callable[[NDArray[Any]], Place],
        counts: Counter[Place],
        see: Callable[[NDArray[Any]], None],
    ) -> None:
        env = gym.wrappers.TransformObservation(
            env,
            lambda given: given["observation"].astype(np.float32),
            env.observation_space["observation"],  # type: ignore[index]
        )
        super().__init__(gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1)))
        self.place, self.counts, self.see_ = place, counts, see

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the environment, with the bonus as reward."""
        observation, _, terminated, truncated, info = self.env.step(action)
        self.see_(observation[None].astype(np.float64))
        here = self.place(observation)
        self.counts[here] += 1
        return observation, float(self.counts[here] ** -0.5), terminated, truncated, info


class Until(BaseCallback):
    """Ends a training once a condition holds."""

    def __init__(self, done: Callable[[], bool]) -> None:
        super().__init__()
        self.done = done

    def _on_step(self) -> bool:
        return not self.done()


def counting_sac(
    make: Callable[[], gym.Env[Any, Any]], environments: int, steps: int, seed: int, done: Callable[[], bool]
) -> SAC:
    """SAC with the settings of the planning table, one update per step, trained on the bonus as reward."""
    envs = DummyVecEnv([make] * environments)
    settings = sac(1.0) | {"gradient_steps": environments, "learning_starts": 100, "buffer_size": steps}
    (own,) = seeds(seed, "reinforcement learning", 1)  # environment seeds that no other run uses
    model = SAC("MlpPolicy", envs, gamma=0.98, seed=own, device="cpu", **settings)
    return model.learn(steps, callback=Until(done))
