"""Compares rollouts of a MuJoCo environment's physics with the environment itself, one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import InputError, require
from ebm_control.data.environments import plain_observation
from ebm_control.data.mujoco_simulator import ADVICE, Array, MujocoSimulator, Physics

Observe = Callable[[Array, Array], NDArray[Any]]

_TOLERANCE = 1e-8


class DisagreementError(InputError):
    """Rollouts differ from the environment's own steps."""


class _Step(NamedTuple):
    """One step of the environment."""

    before: Physics
    action: NDArray[Any]
    seen_before: NDArray[Any] | None  # None if the environment was only set to this state
    seen: NDArray[Any]
    state: Array


class EnvironmentCheck:
    """Steps of the environment itself, to be compared with one-step rollouts from the same states.

    A rollout uses the model and the inputs as the last reset left them, so anything the environment changes during
    an episode shows as a difference. Over a single step rounding errors cannot grow in contacts.

    Args:
        env: environment, wrappers included.
        simulator: simulator of the same environment.
        observe: function from positions `(..., nq)` and velocities `(..., nv)` to observations.

    """

    def __init__(self, env: gym.Env, simulator: MujocoSimulator, observe: Observe) -> None:
        self._env, self._simulator, self._observe = env, simulator, observe
        self._steps: list[_Step] = []
        self._seen: NDArray[Any] | None = None
        self._physics: Physics

    def reset(self, seed: int | None = None) -> Physics:
        """Reset the environment and return the physics after the reset."""
        self._seen = plain_observation(self._env.reset(seed=seed)[0])
        self._physics = self._simulator.current()
        return self._physics

    def step(self, action: NDArray[Any]) -> bool:
        """Take `action` `(nu,)` in the environment and record the step; False if its episode ended.

        Raises:
            DisagreementError: the environment failed.

        """
        state, warmstart = self._simulator.state()
        try:
            observation, _, terminated, truncated, _ = self._env.step(
                np.array(action)
            )  # some environments change it in place
        except Exception as error:
            raise DisagreementError(
                f"env: expected {self._env} to step from every state of its rollouts, got "
                f"{type(error).__name__}: {error}; {ADVICE}"
            ) from error
        seen, before = (
            plain_observation(observation),
            self._physics._replace(state=state, warmstart=warmstart),
        )
        self._steps.append(_Step(before, action, self._seen, seen, self._simulator.state()[0]))
        self._seen = seen
        return not (terminated or truncated)

    def step_from(self, states: Array, actions: NDArray[Any]) -> None:
        """Set the environment to each of `states` `(n, state_size)` and take each of `actions` `(n, nu)` there."""
        self.reset()
        for state, action in zip(states, actions, strict=True):
            self._simulator.place(state)
            self._seen = None
            if not self.step(action):
                self.reset()

    def require_agreement(self) -> None:
        """Raise `DisagreementError` unless rollouts match the steps recorded since the last call; clear these."""
        steps, self._steps = self._steps, []
        if not steps:
            return
        simulator = self._simulator
        actions = np.stack([step.action for step in steps])[:, None]
        paths, sound = simulator.paths([step.before for step in steps], actions)
        given = np.asarray(self._observe(paths[..., simulator.qpos], paths[..., simulator.qvel]))
        require(
            given.shape[2:] == steps[0].seen.shape,
            "observe",
            given=f"observations of shape {given.shape[2:]}",
            expected=f"shape {steps[0].seen.shape} as the environment gives",
        )
        stable = np.flatnonzero(sound == 1)
        shown = [i for i in stable if steps[i].seen_before is not None]
        labels = [f"observation coordinate {i}" for i in range(given.shape[2])]
        before = [steps[i].seen_before for i in shown]
        self._require_equal(given[shown, 0], before, labels, [f"at {_when(steps[i])}" for i in shown])
        after = [f"one step after {_when(steps[i])}" for i in stable]
        self._require_equal(given[stable, 1], [steps[i].seen for i in stable], labels, after)
        model = simulator.model
        kinds = (("position", model.nq), ("velocity", model.nv), ("activation", model.na))
        names = [f"{kind} {i}" for kind, count in kinds for i in range(count)]
        moved = slice(1, 1 + len(names))  # without the time, which an environment may change
        self._require_equal(paths[stable, 1, moved], [steps[i].state[moved] for i in stable], names, after)

    def _require_equal(self, given: Array, expected: list[Any], labels: list[str], when: list[str]) -> None:
        if not expected:
            return
        wanted = np.stack(expected)
        # An environment may return observations in single precision: allow for that rounding only.
        rounding = 4 * np.finfo(wanted.dtype).eps if np.issubdtype(wanted.dtype, np.floating) else 0.0
        error = np.nan_to_num(np.abs(given - wanted), nan=np.inf)
        excess = error - (_TOLERANCE + rounding * np.abs(wanted))
        if excess.size and not excess.max() <= 0:
            row, column = divmod(int(excess.argmax()), excess.shape[1])
            raise DisagreementError(
                f"env: expected rollouts that agree with stepping {self._env}, got a difference of "
                f"{error[row, column]:.2g} in {labels[column]} {when[row]}; {ADVICE}"
            )


def _when(step: _Step) -> str:
    return f"time {step.before.state[0]:.6g}"


def telling_states(
    paths: Array, where: slice, spread: int = 16
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Episodes and steps `(k,)` of the states to compare with the environment, from `paths` `(n, T + 1, state_size)`.

    They are the states with the least and the greatest value of each coordinate in `where`, and `spread` states at
    even distances. The last state of a path is excluded, because no action is taken there.
    """
    n, steps = len(paths), paths.shape[1] - 1
    part = paths[:, :-1, where].reshape(n * steps, -1)
    even = np.linspace(0, n * steps - 1, spread).astype(np.int64)
    rows = np.unique(np.concatenate([part.argmin(axis=0), part.argmax(axis=0), even]))
    episodes, taken = np.divmod(rows, steps)
    return episodes, taken
