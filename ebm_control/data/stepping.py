"""Several environments, stepped in turn, with checks of everything that they return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import InputError, require
from ebm_control.data.adapt import FlatEnv, adapt, form_of
from ebm_control.data.environments import (
    action_box,
    observation_box,
    plain_observation,
    require_distinct,
)
from ebm_control.data.scalars import scalar_flag, scalar_reward
from ebm_control.data.spaces import batch, flattened

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_API = (
    "the interface of Gymnasium (reset(seed=, options=) -> (observation, info), step(action) -> five values)"
)
_TRIES = 10  # consecutive resets that may return an observation that is not finite


class Step(NamedTuple):
    """One step of `N` environments.

    Attributes:
        rewards: `(N,)`.
        terminated: `(N,)`.
        truncated: `(N,)`.
        finite: `(N,)` False if the observation or the reward is not finite.

    """

    rewards: Array
    terminated: Mask
    truncated: Mask
    finite: Mask


class Environments:
    """`N` environments of one kind.

    Gymnasium's `SyncVectorEnv` silently casts observations to the dtype of the space and rewards to float, and fails
    with internal errors if it cannot. This class raises one message that names the environment and step instead.

    Args:
        environments: distinct environments; those whose spaces are no vectors are adapted, see `adapt`.
        history: see `adapt`.

    Attributes:
        all: the environments, adapted where needed.
        form: how observations and actions become vectors; None if they are vectors.
        states: `(N, obs_dim)` float64 current observations.
        infos: info dictionary of each environment's last step; empty before the first.

    Raises:
        InputError: two of them are the same, or their spaces have no vectors of the same shape.

    """

    def __init__(self, environments: Sequence[gym.Env], history: int = 1) -> None:
        require_distinct(environments)
        self.all = [adapt(env, history) for env in environments]
        first = self.all[0]
        self.form = form_of(first)
        self._native = environments[0]
        self._adapted = first is not environments[0]
        self.observation_space = observation_box(first.observation_space)
        self.action_space = action_box(first.action_space)
        for env in self.all[1:]:
            shapes = observation_box(env.observation_space).shape, action_box(env.action_space).shape
            expected = self.observation_space.shape, self.action_space.shape
            require(shapes == expected, "env", given=f"shapes {shapes}", expected=f"all alike, {expected}")
        self._observations: list[Any] = [None] * len(self.all)
        self.infos: list[Any] = [{} for _ in self.all]
        self.states: Array = np.zeros((len(self.all), *self.observation_space.shape))
        self._episode = np.zeros(len(self.all), np.int64)
        self._step = np.zeros(len(self.all), np.int64)

    def __len__(self) -> int:
        return len(self.all)

    @property
    def observations(self) -> Any:
        """All observations as vectors: one array, or with goals a dictionary of arrays."""
        return batch(self._observations)

    @property
    def seen(self) -> Any:
        """All observations in the environments' own form, for a policy or an agent."""
        if not self._adapted:
            return self.observations
        return batch([env.native for env in self.all if isinstance(env, FlatEnv)])

    @property
    def spaces(self) -> dict[str, Any]:
        """Spaces of the environments as they were given, as arguments of an agent; of vectors the actions' alone."""
        if not self._adapted:
            return {"action_space": self.action_space}
        return {
            "action_space": self._native.action_space,
            "observation_space": self._native.observation_space,
        }

    def flat_actions(self, argument: str, given: Any) -> Any:
        """Actions that a policy gave in the environments' own form, as vectors; those of vector spaces unchanged."""
        return flattened(self._native.action_space, given, argument) if self._adapted else given

    def where(self, i: int) -> str:
        """Description of environment `i` for messages."""
        return f"environment {i}, its episode {self._episode[i]}, step {self._step[i]}"

    def reset(
        self,
        which: Mask | None = None,
        seeds: Sequence[int] | None = None,
        options: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        """Begin new episodes.

        Args:
            which: `(N,)` mask of environments to reset; None for all.
            seeds: one for each environment.
            options: options of the resets, one for each environment that is reset, in order.

        Raises:
            InputError: an environment fails, has another interface, or returns no finite observation.

        """
        chosen = range(len(self.all)) if which is None else np.flatnonzero(which).tolist()
        for j, i in enumerate(chosen):
            given: dict[str, Any] = {} if seeds is None else {"seed": seeds[i]}
            given |= {} if options is None else {"options": options[j]}
            self._episode[i] += 1
            self._step[i] = 0
            self.infos[i] = {}
            for _ in range(_TRIES):
                self._observations[i] = self._begun(i, given)
                self.states[i] = self._state(i)
                if np.isfinite(self.states[i]).all():
                    break
                given.pop("seed", None)
            else:
                raise InputError(
                    f"env: expected finite observations, got {_TRIES} resets in a row without ({self.where(i)})"
                )

    def step(self, actions: NDArray[Any], which: Mask | None = None) -> Step:
        """Take `actions` `(N, act_dim)`; see `Step`.

        Args:
            actions: actions of all environments.
            which: `(N,)` mask of environments to step, None for all; the others stay unchanged and their values are 0.

        Raises:
            InputError: an environment fails, or violates Gymnasium's interface.

        """
        count = len(self.all)
        step = Step(np.zeros(count), np.zeros(count, bool), np.zeros(count, bool), np.ones(count, bool))
        for i, action in enumerate(actions):
            if which is not None and not which[i]:
                continue
            self._step[i] += 1
            # A copy, because some environments change the action in place; the original is recorded.
            found = self._called(i, "step", self.all[i].step, np.array(action))
            five = isinstance(found, tuple) and len(found) == 5
            given = f"{len(found)} values" if isinstance(found, tuple) else type(found).__name__
            require(five, "env", given=f"step that gave {given} ({self.where(i)})", expected=_API)
            self._observations[i], reward, terminated, truncated, self.infos[i] = found
            where = self.where(i)
            self.states[i] = self._state(i)
            step.rewards[i] = scalar_reward(reward, where, finite=False)
            step.terminated[i] = scalar_flag(terminated, f"terminated of {where}")
            step.truncated[i] = scalar_flag(truncated, f"truncated of {where}")
            step.finite[i] = bool(np.isfinite(self.states[i]).all() and np.isfinite(step.rewards[i]))
        return step

    def close(self) -> None:
        """Close every environment and free its resources."""
        for env in self.all:
            env.close()

    def _begun(self, i: int, given: dict[str, Any]) -> Any:
        found = self._called(i, "reset", self.all[i].reset, **given)
        pair = isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict)
        require(pair, "env", given=f"reset that gave {type(found).__name__} ({self.where(i)})", expected=_API)
        return found[0]

    def _called(self, i: int, name: str, call: Any, *arguments: Any, **named: Any) -> Any:
        """Result of the environment's method; any error becomes one message."""
        try:
            return call(*arguments, **named)
        except Exception as error:
            old = isinstance(error, TypeError) and "unexpected keyword argument" in str(error)
            reason = " ".join(str(error).split())
            raise InputError(
                f"env: expected {_API if old else f'{name} to succeed'}, got {type(error).__name__}: {reason} "
                f"({self.where(i)})"
            ) from error

    def _state(self, i: int) -> Array:
        observation = self._observations[i]
        require(
            not isinstance(observation, Mapping) or "observation" in observation,
            "env",
            given=f"an observation without 'observation' ({self.where(i)})",
            expected="what its observation space says",
        )
        try:
            state = np.asarray(plain_observation(observation), np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"env: expected numbers as observation, got {error} ({self.where(i)})"
            ) from error
        shape = self.observation_space.shape
        require(
            state.shape == shape,
            "env",
            given=f"an observation of shape {state.shape} ({self.where(i)})",
            expected=f"shape {shape}, as its observation space says",
        )
        return state
