"""Making Gymnasium environments and checking their spaces before the first step."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import NDArray

import ebm_envs  # noqa: F401  (registers `ebm/...`, for ids to work with no import by the user)
from ebm_control.checks import InputError, require, require_is, require_number, shown
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.extras import extra_hint, missing

EnvLike = str | gym.Env | Callable[..., gym.Env]
# Beginnings of the ids of gymnasium-robotics.
_ROBOTICS = ("Fetch", "Hand", "Adroit", "PointMaze", "AntMaze", "FrankaKitchen")
_LONGEST = 300  # greatest number of characters of a space in a message


def ended_early(message: str, rollouts: RolloutBuffer) -> InputError:
    """The error of a collection that ended early; its `rollouts` holds the finished episodes."""
    error = InputError(message)
    error.rollouts = rollouts
    return error


def make_env(
    env: EnvLike, env_kwargs: Mapping[str, Any] | None = None, max_episode_steps: int | None = None
) -> gym.Env:
    """Environment from its id or a function that makes it; an existing environment is returned unchanged.

    Args:
        env: id, function or environment.
        env_kwargs: arguments of `gymnasium.make` or of the function.
        max_episode_steps: step limit of an episode instead of the registered one; for an id only.

    Raises:
        InputError: the id is not registered (the message lists similar ones), the environment cannot be made with these
            arguments, the argument or result is not a single Gymnasium environment, or arguments are given for an
            existing one.

    """
    if max_episode_steps is not None:
        require_number("max_episode_steps", max_episode_steps, 1, whole=True)
        require(
            isinstance(env, str), "env", given=shown(env), expected="an id where max_episode_steps is given"
        )
    if isinstance(env, str):
        limit = {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}
        return _make_by_id(env, {**(env_kwargs or {}), **limit})
    exists = isinstance(env, gym.Env | gym.vector.VectorEnv)
    require(
        not (exists and env_kwargs),
        "env_kwargs",
        given=env_kwargs,
        expected="none for an environment that exists",
    )
    made = env(**(env_kwargs or {})) if callable(env) and not exists else env
    if isinstance(made, gym.vector.VectorEnv):
        raise InputError(
            f"env: expected a single environment, got the vectorised {made}; give the id or function that makes one"
        )
    several = hasattr(made, "possible_agents") or hasattr(made, "num_envs")
    kind = "a gymnasium.Env of one agent" if several else "a gymnasium.Env"
    return require_is(made, gym.Env, "env", expected=kind)


def _make_by_id(env: str, options: dict[str, Any]) -> gym.Env:
    try:
        return gym.make(env, **options)
    except Exception as error:  # an environment's own code may raise anything
        if options and env in gym.registry:
            raise InputError(
                f"env_kwargs: expected arguments that {env} takes, got {shown(options)} "
                f"({type(error).__name__}: {' '.join(str(error).split())})"
            ) from error
        known = gym.registry.keys()
        if env not in known and env.startswith(_ROBOTICS):
            absent = find_spec("gymnasium_robotics") is None
            raise InputError(
                f"env: {missing('gymnasium_robotics', 'robotics')}"
                if absent
                else f"env: expected 'gymnasium_robotics:{env}', got {env!r}: its package is not imported yet"
            ) from error
        unknown = isinstance(error, gym.error.UnregisteredEnv | gym.error.DeprecatedEnv)
        close = difflib.get_close_matches(env, known, n=4, cutoff=0.5) if unknown else []
        hint = f"; close to {', '.join(close)}" if close else extra_hint(error)
        kind = "a registered environment id" if unknown else "an environment that can be made here"
        reason = " ".join(str(error).split())
        raise InputError(
            f"env: expected {kind}, got {env!r} ({type(error).__name__}: {reason}){hint}"
        ) from error


def make_envs(
    env: EnvLike,
    count: int,
    env_kwargs: Mapping[str, Any] | None = None,
    max_episode_steps: int | None = None,
) -> list[gym.Env]:
    """`count` environments that share nothing; see `make_env` for the arguments.

    Raises:
        InputError: see `make_env`; or `env` is an environment (or a function that returns the same one every time) but
            `count` is above 1, which would mix up its episodes.

    """
    require_number("num_envs", count, 1, whole=True)
    require(
        count == 1 or not isinstance(env, gym.Env),
        "env",
        given="one environment",
        expected=f"an id or a function, to make {count} of it",
    )
    made = [make_env(env, env_kwargs, max_episode_steps) for _ in range(count)]
    require_distinct(made)
    return made


def require_distinct(environments: Sequence[gym.Env]) -> None:
    """Raise `InputError` if two of the environments are the same one, whatever wrappers they have."""
    cores = [id(env.unwrapped) for env in environments]
    require(
        len(set(cores)) == len(cores),
        "env",
        given=f"{len(cores)} of which {len(cores) - len(set(cores)) + 1} are one and the same",
        expected="environments of their own: a function that makes a new one at each call",
    )


def observation_box(space: Space) -> Box:
    """The flat Box of an observation space; for a Dict space that of its `observation`.

    Raises:
        InputError: there is no such Box.

    """
    inner = space.spaces.get("observation") if isinstance(space, Dict) else space
    if isinstance(inner, Box) and len(inner.shape) == 1 and inner.shape[0] > 0:
        return inner
    raise InputError(
        f"env: expected a flat Box as observation space, or a Dict with one as 'observation', got {_one_line(space)}"
    )


def action_box(space: Space) -> Box:
    """The action space, if it is a flat Box.

    Raises:
        InputError: it is not a flat Box.

    """
    if isinstance(space, Box) and len(space.shape) == 1 and space.shape[0] > 0:
        return space
    raise InputError(
        f"env: expected a continuous action space (a flat Box, the only kind supported), got {_one_line(space)}"
    )


def _one_line(space: Space) -> str:
    words = " ".join(str(space).split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


def plain_observation(observation: Any) -> NDArray[Any]:
    """Observation as an array: of a dictionary its `observation`."""
    return np.asarray(observation["observation"] if isinstance(observation, dict) else observation)


def require_steps(steps: int) -> None:
    """Raise `InputError` unless `steps` is a whole number of at least 1."""
    require_number("steps", steps, 1, whole=True)
