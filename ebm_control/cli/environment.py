"""Flags shared by commands with environments: arguments of the environment, and the length of its episodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym

from ebm_control.checks import InputError, require_number
from ebm_control.data.environments import make_env


@dataclass(kw_only=True)
class EnvironmentSettings:
    """Flags for building an environment, inherited by commands."""

    env_kwargs: tuple[str, ...] = ()
    """Arguments of the environment: NAME=VALUE pairs, each VALUE as JSON or else as text, or one JSON object."""
    max_episode_steps: int | None = None
    """Step limit of an episode; default: that of the environment."""

    def made_from(self, env: str, **more: Any) -> Callable[[], gym.Env]:
        """A function that makes the environment with this id, with the additional arguments `more`.

        Raises:
            InputError: a flag is malformed.

        """
        if self.max_episode_steps is not None:
            require_number("max_episode_steps", self.max_episode_steps, 1, whole=True)
        return partial(make_env, env, parsed_arguments(self.env_kwargs) | more, self.max_episode_steps)


def parsed_arguments(given: Sequence[str]) -> dict[str, Any]:
    """Arguments by name from NAME=VALUE pairs, or from one JSON object.

    Raises:
        InputError: the arguments are neither of the two.

    """
    expected = "NAME=VALUE pairs or one JSON object"
    if len(given) == 1 and given[0].lstrip().startswith("{"):
        try:
            return dict(json.loads(given[0]))
        except ValueError as error:
            raise InputError(f"env_kwargs: expected {expected}, got {given[0]} ({error})") from error
    found: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"env_kwargs: expected {expected}, got {pair!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
