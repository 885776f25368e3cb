"""Environments under one regime, and what they do."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

import ebm_envs  # noqa: F401  (registers the environments)
from ebm_envs.switch import DynamicsSwitch, Regime

PARTICLE, MAZE, REACHER, ARM7 = (f"ebm/{name}-v0" for name in ("Particle", "Maze", "Reacher", "Arm7"))


def switched(name: str, regime: Regime | None, **arguments) -> DynamicsSwitch:
    """The environment with `regime` in force."""
    env = DynamicsSwitch(gym.make(name, **arguments), {1: regime})
    env.switch_to(1)
    return env


def rollout(env: gym.Env, steps: int = 30) -> np.ndarray:
    """Observations and rewards of an episode of random actions, one row a step."""
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    rows = [[*observation["observation"], 0.0]]
    for _ in range(steps):
        observation, reward, *_ = env.step(env.action_space.sample())
        rows.append([*observation["observation"], reward])
    return np.array(rows)


def replay(name: str, actions: np.ndarray, **options) -> tuple[float, np.ndarray]:
    """Return and observations of `actions`."""
    env = gym.make(name).unwrapped
    states = [env.reset(options=options)[0]["observation"]]
    total = 0.0
    for action in actions:
        observation, reward, *_ = env.step(action)
        states.append(observation["observation"])
        total += reward
    return total, np.array(states)
