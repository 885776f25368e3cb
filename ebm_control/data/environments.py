"""What collection needs to know of a Gymnasium environment, checked before the first step."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import NDArray

import ebm_envs  # noqa: F401  (registers `ebm/...`, for ids to work with no import by the user)
from ebm_control.checks import InputError, require

EnvLike = str | gym.Env | Callable[[], gym.Env]


def make_env(env: EnvLike) -> gym.Env:
    """Environment from its id or a function that makes it; one that exists already is handed back as it is.

    Raises:
        InputError: no environment of that id is registered; the message lists those of similar names.

    """
    if isinstance(env, gym.Env):
        return env
    if not isinstance(env, str):
        return env()
    try:
        return gym.make(env)
    except (gym.error.UnregisteredEnv, gym.error.DeprecatedEnv) as error:
        close = difflib.get_close_matches(env, gym.registry, n=4, cutoff=0.5)
        hint = f"; close to {', '.join(close)}" if close else ""
        raise InputError(f"env: expected a registered environment id, got {env!r}{hint}") from error


def observation_box(space: Space) -> Box:
    """The flat Box of an observation space; of a Dict space, that of its `observation`.

    Raises:
        InputError: there is none.

    """
    inner = space.spaces.get("observation") if isinstance(space, Dict) else space
    if isinstance(inner, Box) and len(inner.shape) == 1:
        return inner
    raise InputError(
        f"env: expected a flat Box as observation space, or a Dict with one as 'observation', got {space}"
    )


def action_box(space: Space) -> Box:
    """The action space, if it is a flat Box.

    Raises:
        InputError: it is not.

    """
    if isinstance(space, Box) and len(space.shape) == 1:
        return space
    raise InputError(
        f"env: expected a continuous action space (a flat Box, the only kind supported), got {space}; "
        "wrap a discrete environment so that it takes a vector of real numbers"
    )


def plain_observation(observation: Any) -> NDArray[Any]:
    """Observation as an array: of a dictionary, its `observation`."""
    return np.asarray(observation["observation"] if isinstance(observation, dict) else observation)


def observation_periods(env: gym.Env) -> tuple[float, ...]:
    """Periods that the environment declares for its observation coordinates, () where it declares none."""
    return tuple(float(p) for p in getattr(env.unwrapped, "periods", ()))


def require_steps(steps: int) -> None:
    """Raise `InputError` unless there is at least one step to collect."""
    require(steps >= 1, "steps", given=steps, expected="at least 1")
