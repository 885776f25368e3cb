"""Which observation coordinates are periodic, such as angles: declared by the environment or given by the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Space

from ebm_control.checks import InputError, require
from ebm_control.data.adapt import FlatEnv
from ebm_control.data.environments import observation_box, plain_observation
from ebm_control.data.forms import FlatForm
from ebm_control.energies.layout import as_periods

ATTRIBUTE = "observation_periods"
# Wrappers of these packages change observations only as `ObservationWrapper`s or with a space of their own.
_KNOWN = ("gymnasium.", "gymnasium_robotics.", "stable_baselines3.", "ebm_envs.")


def observation_periods(env: gym.Env, given: Sequence[float] | None = None) -> tuple[float, ...]:
    """Period of each observation coordinate, 0 if it does not wrap; () if none does.

    An environment declares them in an attribute `observation_periods`. The search goes from the outermost wrapper
    inwards, as long as wrappers leave the coordinates unchanged: a wrapper that rescales, reorders or appends
    coordinates has its own periods, or none. A custom wrapper that overrides `reset` or `step` without changing
    observations declares that by `keeps_observations = True`. An environment with named parts may declare a dictionary
    of their periods, and periods of one observation are those of each in a history.

    Args:
        env: environment.
        given: periods given by the user, which take precedence; None takes the environment's.

    Raises:
        InputError: they are not one number of 0 or more for each coordinate.

    """
    width = observation_box(env.observation_space).shape[0]
    flat = env if isinstance(env, FlatEnv) else None
    found = _declared(env if flat is None else flat.env) if given is None else ("periods", given)
    if found is None:
        return ()
    name, value = found
    if flat is not None and (isinstance(value, Mapping) or len(value) != width):
        value = _repeated(flat.form, name, value)
    return checked_periods(name, value, width)


def _declared(level: gym.Env) -> tuple[str, Any] | None:
    """Name and value of the periods that an environment declares, or None."""
    while True:
        if hasattr(level, ATTRIBUTE):
            return f"env.{ATTRIBUTE}", getattr(level, ATTRIBUTE)
        if not isinstance(level, gym.Wrapper) or not _keeps_coordinates(level):
            return None
        level = level.env


def _repeated(form: FlatForm, argument: str, value: Any) -> tuple[float, ...]:
    """Periods of one observation, given as numbers or by the names of parts, for all observations of a history."""
    named = replace(form, history=1).parts
    if isinstance(value, Mapping):
        unknown = [str(name) for name in value if name not in named]
        require(not unknown, argument, given=unknown, expected=f"names among {list(named)}")
        periods = np.zeros(form.frame)
        for name, part in value.items():
            size = named[name].stop - named[name].start
            periods[named[name]] = as_periods(argument, np.atleast_1d(part), size) or 0.0
        return form.repeated(periods.tolist())
    given = as_periods(argument, value)
    # Periods of the entry "observation", which comes first, say nothing of those beside it.
    if len(given) == form.observations[0].size:
        given += (0.0,) * (form.frame - len(given))
    return form.repeated(as_periods(argument, given, form.frame) or (0.0,) * form.frame)


def checked_periods(argument: str, value: Any, width: int) -> tuple[float, ...]:
    """`value` as a tuple of `width` periods, or ().

    Raises:
        InputError: it is anything else.

    """
    periods = as_periods(argument, value, width)
    return periods if any(periods) else ()


def _keeps_coordinates(wrapper: gym.Wrapper) -> bool:
    """Whether observations have the same coordinates outside a wrapper as inside."""
    if not _same_box(wrapper.observation_space, wrapper.env.observation_space):
        return False
    if not isinstance(wrapper, gym.ObservationWrapper):
        return _leaves_observations(wrapper)
    if hasattr(wrapper, "obs_rms"):
        return False  # a trial observation would change its running statistics
    # Equal bounds prove little, because unbounded coordinates may be reordered: test with an observation.
    sample = _distinct_observation(wrapper.env.observation_space)
    try:
        shown = plain_observation(wrapper.observation(sample))
    except Exception:  # a wrapper that needs a reset first counts as changing coordinates
        return False
    return bool(np.array_equal(shown, plain_observation(sample)))


def _leaves_observations(wrapper: gym.Wrapper) -> bool:
    """Whether a wrapper that is no `ObservationWrapper` surely leaves observations of `reset` and `step` unchanged."""
    kind = type(wrapper)
    own = any(getattr(kind, name) is not getattr(gym.Wrapper, name) for name in ("reset", "step"))
    action_or_reward = isinstance(wrapper, gym.ActionWrapper | gym.RewardWrapper)
    known = kind.__module__.startswith(_KNOWN)
    return not own or action_or_reward or known or bool(getattr(wrapper, "keeps_observations", False))


def _same_box(outer: Space, inner: Space) -> bool:
    try:
        one, other = observation_box(outer), observation_box(inner)
    except InputError:
        return bool(outer == inner)
    equal = np.array_equal(one.low, other.low) and np.array_equal(one.high, other.high)
    return one.shape == other.shape and bool(equal)


def _distinct_observation(space: Space) -> Any:
    """An observation of the space whose coordinates all differ, drawn without the space's own generator."""
    if isinstance(space, gym.spaces.Dict):
        return {name: _distinct_observation(part) for name, part in space.spaces.items()}
    if not isinstance(space, gym.spaces.Box):
        return None
    low, high = np.maximum(space.low, -1.0), np.minimum(space.high, 1.0)
    middle = np.where(low <= high, low, space.low)
    width = np.where(low <= high, high - low, 0.0)
    ramp = np.linspace(0.21, 0.83, max(int(np.prod(space.shape)), 1)).reshape(space.shape)
    return (middle + width * ramp**1.1).astype(space.dtype)
