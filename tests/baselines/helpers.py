"""A small system whose dynamics are known: a cart on a ring, pushed by its action."""

import math

import numpy as np
import torch
from gymnasium import spaces

from ebm_control.data import RolloutBuffer

SPACE = spaces.Box(-1.0, 1.0, (1,), np.float64)


def ring(state, action, noise=0.0):
    """Next `(angle / π, velocity)` of `(..., 2)` states under `(..., 1)` actions."""
    angle = state[..., :1] + 0.2 * state[..., 1:]
    velocity = 0.9 * state[..., 1:] + 0.3 * action - 0.1 * np.sin(math.pi * state[..., :1]) + noise
    return np.concatenate([(angle + 1) % 2 - 1, velocity], axis=-1)


def rollouts(episodes=100, steps=20, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    buffer = RolloutBuffer(2, 1, periods=(2.0, 0.0))
    for _ in range(episodes):
        states, actions = [rng.uniform(-1, 1, 2)], rng.uniform(-1, 1, (steps, 1))
        for action in actions:
            states.append(ring(states[-1], action, noise * rng.standard_normal(1)))
        buffer.add_episode(np.stack(states), actions)
    return buffer


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)
