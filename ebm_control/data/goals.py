"""Which observation coordinates an environment's goals refer to: detected by acting in it, or checked if given."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import require
from ebm_control.data.adapt import adapt, form_of
from ebm_control.data.environments import EnvLike, action_box, observation_box, plain_observation
from ebm_control.data.periods import observation_periods
from ebm_control.energies.layout import TrajectoryLayout

EPISODES, STEPS = 4, 8  # of random actions: coordinates may be equal by chance at the start of an episode
FOUND = 1e-5  # largest difference, in multiples of 1 + |goal|, for a coordinate to be detected as a goal's
GIVEN = 1e-3  # largest difference if the user names the coordinates


def goal_space(env: gym.Env) -> Box | None:
    """Space of an environment's goals (`achieved_goal`, `desired_goal`); None if it has no goals.

    Raises:
        InputError: goals are not flat vectors.

    """
    parts = env.observation_space.spaces if isinstance(env.observation_space, Dict) else {}
    goal = parts.get("desired_goal")
    if not isinstance(goal, Box) or "achieved_goal" not in parts:
        return None
    require(len(goal.shape) == 1, "env", given=f"{goal}", expected="flat Boxes as spaces of goals")
    return goal


def goal_coordinates(env: EnvLike) -> tuple[int, ...] | None:
    """Observation coordinates that hold the achieved goal, in the goal's order; None without goals.

    Compares values, coordinate by coordinate, over a few short episodes of random actions. An existing environment is
    reset for that and left in the middle of an episode; the generator of its action space is not used.

    Args:
        env: environment, its id, or a function that makes it.

    Raises:
        InputError: a part of the achieved goal equals no coordinate of the observation, or more than one.

    """
    made = adapt(env)
    try:
        if goal_space(made) is None:
            return None
        off, achieved = _differences(made, EPISODES, STEPS)
    finally:
        if not isinstance(env, gym.Env):
            made.close()
    off = off[..., : _latest(made)]
    same = (off <= FOUND * (1 + achieved.abs())[:, :, None]).all(dim=0)
    candidates = [np.flatnonzero(row).tolist() for row in same.numpy()]
    for i, found in enumerate(candidates):
        require(
            len(found) == 1,
            "goal_index",
            given=f"{found or 'none'} for coordinate {i} of the goal, by comparing {EPISODES} short episodes",
            expected="one observation coordinate that always equals the achieved goal's; give goal_index, the "
            f"coordinates (in 0..{off.shape[2] - 1}) that the goal names",
        )
    return tuple(found[0] for found in candidates)


def _latest(env: gym.Env) -> int | None:
    """Number of coordinates of the latest observation, of a state that holds earlier ones too."""
    form = form_of(env)
    return None if form is None else form.frame


def require_goal_coordinates(env: EnvLike, index: Sequence[int]) -> None:
    """Raise `InputError` unless the observation coordinates `index` hold the achieved goal of an environment.

    They are compared after one random action. An existing environment is reset for that.
    """
    made = adapt(env)
    try:
        goal, width = goal_space(made), observation_box(made.observation_space).shape[0]
        require(goal is not None, "env", given=f"{made}", expected="an environment with goals")
        assert goal is not None
        require(
            len(index) == goal.shape[0] and all(0 <= i < width for i in index),
            "goal_index",
            given=tuple(index),
            expected=f"the {goal.shape[0]} coordinates in 0..{width - 1} that the goals of {made} name",
        )
        off, achieved = _differences(made, 1, 1)
    finally:
        if not isinstance(env, gym.Env):
            made.close()
    rows = torch.arange(len(index))
    require(
        bool((off[0, rows, list(index)] < GIVEN).all()),
        "goal_index",
        given=f"{tuple(index)}, which are off by {off[0, rows, list(index)].tolist()}",
        expected=f"coordinates that hold the achieved goal, here {achieved[0].tolist()}",
    )


def _differences(env: gym.Env, episodes: int, steps: int) -> tuple[Tensor, Tensor]:
    """Distance of every part of the achieved goal from every observation coordinate, after each random action.

    Returns:
        `(episodes * steps, goals, obs_dim)` distances, modulo the period of periodic coordinates, and the achieved
        goals `(episodes * steps, goals)`.

    """
    actions: Box = copy.deepcopy(action_box(env.action_space))
    actions.seed(0)
    states, achieved = [], []
    for seed in range(episodes):
        env.reset(seed=seed)
        for _ in range(steps):
            observed, _, terminated, truncated, _ = env.step(actions.sample())
            states.append(_vector(plain_observation(observed)))
            achieved.append(_vector(observed["achieved_goal"]))
            if terminated or truncated:
                env.reset()
    state, goal = (torch.from_numpy(np.stack(part)) for part in (states, achieved))
    layout = TrajectoryLayout(state.shape[1], periods=observation_periods(env))
    repeated = goal[:, :, None].expand(-1, -1, state.shape[1])
    return layout.difference(repeated, state[:, None]).abs(), goal


def _vector(value: Any) -> NDArray[np.float64]:
    return np.array(value, np.float64)
