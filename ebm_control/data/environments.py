"""What collection and planning need to know of a Gymnasium environment, checked before the first step."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import NDArray

import ebm_envs  # noqa: F401  (registers `ebm/...`, for ids to work with no import by the user)
from ebm_control.checks import InputError, require, require_is, require_number
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.extras import extra_hint

EnvLike = str | gym.Env | Callable[[], gym.Env]


def ended_early(message: str, rollouts: RolloutBuffer) -> InputError:
    """The error of a collection that ended early: its `rollouts` holds what was whole by then."""
    error = InputError(message)
    error.rollouts = rollouts
    return error


def make_env(env: EnvLike) -> gym.Env:
    """Environment from its id or a function that makes it; one that exists already is handed back as it is.

    Raises:
        InputError: the id is not registered (the message lists similar ones), the environment cannot be made, or what
            is given or made is no single Gymnasium environment.

    """
    if isinstance(env, str):
        return _make_by_id(env)
    made = env() if callable(env) and not isinstance(env, gym.Env | gym.vector.VectorEnv) else env
    if isinstance(made, gym.vector.VectorEnv):
        raise InputError(
            f"env: expected a single environment, got the vectorised {made}; give the id or function that makes one"
        )
    return require_is(made, gym.Env, "env", expected="a gymnasium.Env")


def _make_by_id(env: str) -> gym.Env:
    try:
        return gym.make(env)
    except Exception as error:  # an environment's own code may fail in any way
        known = gym.registry.keys()
        unknown = isinstance(error, gym.error.UnregisteredEnv | gym.error.DeprecatedEnv)
        close = difflib.get_close_matches(env, known, n=4, cutoff=0.5) if unknown else []
        hint = f"; close to {', '.join(close)}" if close else extra_hint(error)
        kind = "a registered environment id" if unknown else "an environment that can be made here"
        reason = " ".join(str(error).split())
        raise InputError(
            f"env: expected {kind}, got {env!r} ({type(error).__name__}: {reason}){hint}"
        ) from error


def make_envs(env: EnvLike, count: int) -> list[gym.Env]:
    """`count` environments that share nothing.

    Raises:
        InputError: as `make_env`; or `env` is an environment (or a function that hands back one and the same) although
            more than one is asked for: side by side its episodes would be mixed up.

    """
    require_number("num_envs", count, 1, whole=True)
    require(
        count == 1 or not isinstance(env, gym.Env),
        "env",
        given="one environment",
        expected=f"an id or a function, to make {count} of it",
    )
    made = [make_env(env) for _ in range(count)]
    require_distinct(made)
    return made


def require_distinct(environments: Sequence[gym.Env]) -> None:
    """Raise `InputError` where two of several environments are one, whatever wrappers they have."""
    cores = [id(env.unwrapped) for env in environments]
    require(
        len(set(cores)) == len(cores),
        "env",
        given=f"{len(cores)} of which {len(cores) - len(set(cores)) + 1} are one and the same",
        expected="environments of their own: a function that makes a new one at each call",
    )


def observation_box(space: Space) -> Box:
    """The flat Box of an observation space; of a Dict space, that of its `observation`.

    Raises:
        InputError: there is none.

    """
    inner = space.spaces.get("observation") if isinstance(space, Dict) else space
    if isinstance(inner, Box) and len(inner.shape) == 1 and inner.shape[0] > 0:
        return inner
    raise InputError(
        f"env: expected a flat Box as observation space, or a Dict with one as 'observation', got {space}"
    )


def action_box(space: Space) -> Box:
    """The action space, if it is a flat Box.

    Raises:
        InputError: it is not.

    """
    if isinstance(space, Box) and len(space.shape) == 1 and space.shape[0] > 0:
        return space
    raise InputError(
        f"env: expected a continuous action space (a flat Box, the only kind supported), got {space}; "
        "wrap a discrete environment so that it takes a vector of real numbers"
    )


def plain_observation(observation: Any) -> NDArray[Any]:
    """Observation as an array: of a dictionary, its `observation`."""
    return np.asarray(observation["observation"] if isinstance(observation, dict) else observation)


def require_steps(steps: int) -> None:
    """Raise `InputError` unless `steps` to collect is a whole number of at least 1."""
    require_number("steps", steps, 1, whole=True)
