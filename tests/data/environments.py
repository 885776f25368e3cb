"""Small environments whose true data are known, and ones that misbehave."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box


class Point(gym.Env):
    """s' = s + gain * a in each coordinate, reward -|s - target|."""

    def __init__(
        self,
        dim=2,
        low=-1.0,
        high=1.0,
        gain=0.1,
        limit=20,
        dtype=np.float32,
        target=0.5,
        offset=0.0,
        end_at=None,
    ):
        self.dim, self.gain, self.limit, self.target, self.offset, self.end_at = (
            dim,
            gain,
            limit,
            target,
            offset,
            end_at,
        )
        low, high = (np.broadcast_to(np.asarray(bound, dtype), (dim,)).copy() for bound in (low, high))
        self.action_space = Box(low, high, dtype=dtype)
        self.observation_space = Box(-np.inf, np.inf, (dim,), np.float64)

    def seen(self):
        return self.s + self.offset

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s, self.t = self.np_random.uniform(-1, 1, self.dim), 0
        return self.seen(), {}

    def step(self, action):
        self.s = self.s + self.gain * np.asarray(action, np.float64)
        self.t += 1
        ended = self.end_at is not None and bool(np.abs(self.s).max() > self.end_at)
        return self.seen(), -float(np.abs(self.s - self.target).sum()), ended, self.t >= self.limit, {}


class Noisy(Point):
    """s' = 0.9 s + 0.1 a + 0.1 u with u drawn from the environment's own generator."""

    def step(self, action):
        _, reward, ended, cut, info = super().step(np.zeros(self.dim))
        u = self.np_random.uniform(-1, 1, self.dim)
        self.s = 0.9 * self.s + 0.1 * np.asarray(action, np.float64) + 0.1 * u
        return self.seen(), reward, ended, cut, info


class Broken(Point):
    """A reading that is not finite, or an exception, in one step of one episode."""

    def __init__(self, what="observation", episode=3, step=7, **options):
        super().__init__(**options)
        self.what, self.at, self.episode = what, (episode, step), 0

    def reset(self, *, seed=None, options=None):
        self.episode += 1
        return super().reset(seed=seed, options=options)

    def step(self, action):
        observation, reward, ended, cut, info = super().step(action)
        if (self.episode, self.t) == self.at:
            if self.what == "error":
                raise ValueError("the motor is hot")
            if self.what == "observation":
                observation = np.where(np.arange(self.dim) == self.dim - 1, np.inf, observation)
            if self.what == "reward":
                reward = float("nan")
        return observation, reward, ended, cut, info
