"""Recorded episodes with values that are not finite: their valid parts are stored."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebm_control.checks import require
from ebm_control.tensors import as_array

if TYPE_CHECKING:
    from ebm_control.data.rollout_buffer import RolloutBuffer


def as_numbers(name: str, value: ArrayLike, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """`value` as a float64 array of the given shape, None standing for any size.

    Raises:
        InputError: not numbers, or another shape.

    """
    array = as_array(name, value)
    fits = array.ndim == len(shape) and all(e in (None, s) for e, s in zip(shape, array.shape, strict=False))
    wanted = str(shape).replace("None", "any")
    require(fits, name, given=f"shape {array.shape}", expected=f"shape {wanted}")
    return array


def add_finite_parts(
    buffer: RolloutBuffer,
    observations: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike | None,
    terminated: bool,
) -> tuple[int, str]:
    """Add an episode, cut around each transition that holds a value that is not finite.

    A transition is left out if its observation, its action, its reward or its next observation is not finite.
    The parts before and after become separate episodes. Only the part with the last transition is `terminated`.

    Args:
        buffer: buffer that stores the parts.
        observations: `(T + 1, obs_dim)`.
        actions: `(T, act_dim)`.
        rewards: `(T,)` or None.
        terminated: True if the environment ended the episode.

    Returns:
        Number of transitions left out, and a description of the first value that is not finite, "" without any.

    Raises:
        InputError: a wrong shape, or more steps in one piece than the capacity. Nothing is added.

    """
    act = as_numbers("actions", actions, (None, buffer.act_dim))
    steps = len(act)
    require(steps >= 1, "actions", given="an episode of no steps", expected="at least one")
    obs = as_numbers("observations", observations, (steps + 1, buffer.obs_dim))
    rew = None if rewards is None else as_numbers("rewards", rewards, (steps,))

    known = _finite_rows(obs)
    sound = known[:-1] & known[1:] & _finite_rows(act)
    if rew is not None:
        sound &= np.isfinite(rew)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], sound, [False]]).astype(np.int8)))
    pieces = [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
    longest = max((stop - start for start, stop in pieces), default=0)
    within = buffer.capacity is None or longest <= buffer.capacity
    require(within, "actions", given=f"{longest} steps", expected=f"at most the capacity, {buffer.capacity}")
    for start, stop in pieces:
        buffer.add_episode(
            obs[start : stop + 1],
            act[start:stop],
            None if rew is None else rew[start:stop],
            terminated and stop == steps,
        )
    left_out = steps - int(sound.sum())
    return left_out, _first(obs, act, rew) if left_out else ""


def warn_left_out(where: str, left_out: int, first: str) -> None:
    """Warn that transitions were left out: how many, and the first value that is not finite."""
    warnings.warn(
        f"{where}: {left_out} transition{'s' * (left_out != 1)} left out, with readings that are not finite; "
        f"the first is {first}",
        stacklevel=3,
    )


def _finite_rows(array: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(array).all(axis=1))


def _first(*arrays: NDArray[np.float64] | None) -> str:
    """Description of the non-finite value with the lowest time step: value, kind, time step and column."""
    found = []
    for order, (name, array) in enumerate(zip(("observation", "action", "reward"), arrays, strict=True)):
        bad = np.argwhere(~np.isfinite(array)) if array is not None else np.empty((0, 1), dtype=np.int64)
        if array is not None and len(bad):
            row, *column = (int(i) for i in bad[0])
            place = f"row {row}" + (f", column {column[0]}" if column else "")
            found.append((row, order, f"{array[tuple(bad[0])]} as {name} in {place}"))
    return min(found)[2]
