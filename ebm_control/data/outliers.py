"""Outliers that would distort units: rare values far from all others, and undeclared angles.

The library has one rule for invalid values (NaN, infinite or far outside): the transition is left out, its episode
is cut there, and a warning gives the number of such values and the place of the first.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.data.sound import add_finite_parts

Array = NDArray[np.float64]
RARE = 500  # at most one value in this many may be an outlier; more frequent ones are normal for the sensor
STEPS = 10.0  # distance of an outlier from the range of all others, in their largest steps
ACTION_RANGES = 20.0  # distance of an action's outlier from the middle of all others, in their half-ranges
DOMINATED = 20.0  # a std of this many half-ranges of the middle 98 % is no useful unit


class Rest(NamedTuple):
    """Statistics of all but the most extreme values of a coordinate: range and largest step."""

    low: float
    high: float
    step: float

    @property
    def half(self) -> float:
        """Half the range between the bounds."""
        return (self.high - self.low) / 2

    @property
    def middle(self) -> float:
        """Middle between the bounds."""
        return (self.high + self.low) / 2


def without_outliers(buffer: RolloutBuffer) -> RolloutBuffer:
    """The buffer itself, or one without the transitions that hold an outlier; a warning reports them.

    A value of an observation is an outlier if it is one of the 0.2 % that lie farthest out, it is further from the
    middle of the others than their whole range and ten of their largest steps beyond that range, and it was entered or
    left in a single step. Values that change once and stay, or that are far away for whole episodes, are no outliers;
    nor has a coordinate outliers if its other values are constant. An action is an outlier if it is as rare and 20
    half-ranges away from the others.
    """
    if len(buffer) == 0:
        return buffer
    observations, episode, step = _rows(buffer)
    wild = outlying(observations, episode, buffer.periods)
    actions = buffer.actions
    wild_actions: NDArray[np.bool_] = _outlying_actions(actions)
    if not wild.any() and not wild_actions.any():
        return buffer
    _warn(observations, wild, actions, wild_actions, episode, step)
    cleaned = buffer.empty()
    row = act = 0
    for e in buffer.episodes():
        bad = wild[row : row + len(e) + 1].any(axis=1, keepdims=True)
        bad_actions = wild_actions[act : act + len(e)].any(axis=1, keepdims=True)
        seen, done = np.where(bad, np.nan, e.observations), np.where(bad_actions, np.nan, e.actions)
        add_finite_parts(cleaned, seen, done, e.rewards, e.terminated)
        row, act = row + len(e) + 1, act + len(e)
    return cleaned


def outlying(
    observations: Array, episode: NDArray[np.int64], periods: tuple[float, ...] = ()
) -> NDArray[np.bool_]:
    """Mask `(N, obs_dim)` of observations that are outliers; `episode` `(N,)` is the episode of each time step.

    See `without_outliers` for the rule. Periodic coordinates have no outliers.
    """
    found = np.zeros(observations.shape, dtype=bool)
    same = episode[1:] == episode[:-1]
    for i in range(observations.shape[1]):
        if periods and periods[i] > 0:
            continue
        x = observations[:, i]
        rest = _rest(x, same)
        if rest is None or rest.step == 0:
            continue
        beyond = np.abs(x - rest.middle)
        far = beyond > np.maximum(2 * rest.half, rest.half + STEPS * rest.step)
        if far.any():
            found[:, i] = _entered_by_a_jump(x, far, same, STEPS * rest.step)
    return found


def _rest(x: Array, same: NDArray[np.bool_]) -> Rest | None:
    """All but the five-hundredth of the values farthest from the median; None for fewer than 20 values."""
    if len(x) < 20:
        return None
    count = max(1, len(x) // RARE)
    away = np.abs(x - np.median(x))
    kept = np.ones(len(x), dtype=bool)
    kept[np.argpartition(away, len(x) - count)[-count:]] = False
    ordinary = same & kept[1:] & kept[:-1]
    if not ordinary.any():
        return None
    return Rest(float(x[kept].min()), float(x[kept].max()), float(np.abs(np.diff(x))[ordinary].max()))


def _entered_by_a_jump(
    x: Array, far: NDArray[np.bool_], same: NDArray[np.bool_], jump: float
) -> NDArray[np.bool_]:
    """Those of the values `far` that belong to runs which a jump within an episode enters or leaves."""
    large = same & (np.abs(np.diff(x)) > jump) & (far[1:] != far[:-1])
    joined = same & far[1:] & far[:-1]
    run = np.concatenate([[0], np.cumsum(~joined)])  # neighbouring far values of an episode share a number
    edge = np.concatenate([large, [False]]) | np.concatenate([[False], large])
    return far & np.isin(run, np.unique(run[far & edge]))


def _outlying_actions(actions: Array) -> NDArray[np.bool_]:
    found = np.zeros(actions.shape, dtype=bool)
    for i in range(actions.shape[1]):
        rest = _rest(actions[:, i], np.ones(len(actions) - 1, dtype=bool))
        if rest is not None and rest.half > 0:
            found[:, i] = np.abs(actions[:, i] - rest.middle) > ACTION_RANGES * rest.half
    return found


def warn_of_units(buffer: RolloutBuffer) -> None:
    """Warn if a coordinate looks like an undeclared angle, or if a few values alone determine its unit."""
    observations, episode, _ = _rows(buffer)
    if len(observations) < 50:
        return
    same = episode[1:] == episode[:-1]
    for i in range(buffer.obs_dim):
        x = observations[:, i]
        if buffer.periods and buffer.periods[i] > 0:
            continue
        jumps = _whole_range_jumps(x, same)
        if jumps:
            warnings.warn(
                f"observation coordinate {i} jumps from one end of its range ({x.min():.4g} to {x.max():.4g}) to the "
                f"other in {jumps} steps and makes no other large step, as angles do: if it wraps around, give "
                "periods= when data are collected or read",
                stacklevel=3,
            )
        low, high = np.quantile(x, [0.01, 0.99])
        if 0 < DOMINATED * (high - low) / 2 < x.std():
            warnings.warn(
                f"observation coordinate {i} has a deviation of {x.std():.3g}, but 98 % of its readings lie within "
                f"{low:.3g} to {high:.3g}: they are hardly seen in that unit; clip the coordinate, or replace what "
                "stands for 'no reading'",
                stacklevel=3,
            )


def _whole_range_jumps(x: Array, same: NDArray[np.bool_]) -> int:
    """Number of leaps of a coordinate across its range; 0 unless all its other steps are small next to the range."""
    width = x.max() - x.min()
    if np.mean(np.abs(x - (x.max() + x.min()) / 2) < width / 4) < 0.1:
        return 0  # two values, or placeholders for 'no value': an angle takes values everywhere
    steps = np.abs(np.diff(x))[same] / (width if width > 0 else 1.0)
    whole = steps > 0.7
    return int(whole.sum()) if whole.sum() >= 2 and steps[~whole].max(initial=0.0) < 0.3 else 0


def _rows(buffer: RolloutBuffer) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Observations `(N, obs_dim)`, and for each time step its episode and its index in it."""
    lengths = np.array([len(e) + 1 for e in buffer.episodes()], dtype=np.int64)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return buffer.observations, episode, np.arange(len(episode)) - first


def _warn(
    observations: Array,
    wild: NDArray[np.bool_],
    actions: Array,
    wild_actions: NDArray[np.bool_],
    episode: NDArray[np.int64],
    step: NDArray[np.int64],
) -> None:
    count = int(wild.sum() + wild_actions.sum())
    if wild.any():
        row, i = (int(k) for k in np.argwhere(wild)[0])
        others = observations[~wild[:, i], i]
        what, value = f"observation coordinate {i}", observations[row, i]
    else:
        number, i = (int(k) for k in np.argwhere(wild_actions)[0])
        others = actions[~wild_actions[:, i], i]
        what, value = f"action coordinate {i}", actions[number, i]
        row = int(np.flatnonzero(np.append(episode[1:] == episode[:-1], False))[number])
    warnings.warn(
        f"buffer: {count} readings far outside of all others left out, with the transitions that hold them; the first "
        f"is {what} = {value:.4g} in episode {episode[row]}, row {step[row]}, where the rest lie within "
        f"{others.min():.4g} to {others.max():.4g}",
        stacklevel=4,
    )
