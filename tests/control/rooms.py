"""Two rooms with a door: a wall between most starts and goals."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from ebm_control.control import GuideSettings
from ebm_control.models import ModelSettings, TrainSettings

WALL = np.array([[-0.25, -1.1], [0.25, 0.4]])  # low and high corner; the door is above y = 0.4
PAIRS = ModelSettings(
    base="gaussian",
    base_std=1.2,
    states_only=True,
    joint=True,
    hidden=(32, 32),
    frequencies=32,
    bandwidth=4.0,
)
QUICK = GuideSettings(
    nodes=200,
    quantile=0.97,
    training=TrainSettings(
        PAIRS, updates=250, loss="softplus", energy_l2=0.003, learning_rate=2e-3, langevin_steps=5
    ),
)


def blocked(place: np.ndarray) -> bool:
    return bool(((place > WALL[0]) & (place < WALL[1])).all())


class Rooms(gym.Env[Any, Any]):
    """A point that moves by a tenth of its action. Observed: the length of its last move, and its position.

    It starts left of the wall, and with any options anywhere; goals are on the right.
    """

    observation_space = Dict(
        observation=Box(-2, 2, (3,), np.float64),
        achieved_goal=Box(-1, 1, (2,), np.float64),
        desired_goal=Box(-1, 1, (2,), np.float64),
    )
    action_space = Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place, self.goal = (self.np_random.uniform([0.5, -0.9], [0.9, 0.0]) for _ in range(2))
        self.place[0] *= -1
        while options is not None:
            self.place = self.np_random.uniform(-0.95, 0.95, 2)
            if not blocked(self.place):
                break
        return self._seen(0.0), {}

    def step(self, action: Any) -> Any:
        there = np.clip(self.place + 0.1 * np.clip(action, -1, 1), -1, 1)
        before, self.place = self.place, self.place if blocked(there) else there
        success = bool(np.linalg.norm(self.place - self.goal) < 0.15)
        length = float(np.linalg.norm(self.place - before))
        return self._seen(length), float(success), success, False, {"is_success": success}

    def _seen(self, length: float) -> dict[str, np.ndarray]:
        return {
            "observation": np.array([length, *self.place]),
            "achieved_goal": self.place.copy(),
            "desired_goal": self.goal.copy(),
        }


def make_rooms() -> gym.Env[Any, Any]:
    return gym.wrappers.TimeLimit(Rooms(), 100)
