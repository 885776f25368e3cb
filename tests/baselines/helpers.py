"""Small systems whose dynamics are known: a cart on a ring and a linear swing, pushed by their actions."""

import math

import numpy as np
import torch
from gymnasium import spaces

from ebm_control.baselines import BaselineSettings, fit_baseline
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


def swing(state, action):
    """Next `(position, velocity)` of a linear oscillator, a sixteenth of a turn on."""
    cos, sin = math.cos(math.pi / 8), math.sin(math.pi / 8)
    position, velocity = state[..., :1], state[..., 1:]
    turned = [cos * position + sin * velocity, cos * velocity - sin * position + 0.2 * action]
    return np.concatenate(turned, axis=-1)


def swings(episodes=80, steps=20, pushed=True, hidden=False, seed=0):
    """Rollouts of it: without effect of the actions where not `pushed`, of positions alone where `hidden`."""
    rng = np.random.default_rng(seed)
    buffer = RolloutBuffer(1 if hidden else 2, 1)
    for _ in range(episodes):
        states, actions = [rng.uniform(-1, 1, 2)], rng.uniform(-1, 1, (steps, 1))
        for action in actions:
            states.append(swing(states[-1], action * pushed))
        buffer.add_episode(np.stack(states)[:, : buffer.obs_dim], actions)
    return buffer


def cut(baseline, buffer, known, horizon, count=200):
    """Histories `(count, known, D)`, actions or None, and what followed `(count, horizon, obs_dim)`, normalised."""
    states, actions = buffer.sample_windows(count, known + horizon, rng=np.random.default_rng(0))
    x = baseline.normalizer.normalize(torch.from_numpy(states), torch.from_numpy(actions)).float()
    layout = baseline.layout
    given = layout.actions(x)[:, known - 1 : -1] if layout.act_dim else None
    return x[:, :known, : layout.dim], given, layout.states(x)[:, known:]


def fitted(buffer, kind, **settings):
    return fit_baseline(buffer, BaselineSettings(kind, **settings), progress=False)
