"""Actions in the form an environment accepts: within its bounds, in its dtype, whole if that is an integer type."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

# Greater bounds count as none: unlimited spaces are often declared with float32's largest number.
UNBOUNDED = 1e15


def as_actions(values: ArrayLike, box: Box) -> NDArray[np.generic]:
    """`values` `(..., act_dim)` clipped to the space, in its dtype; rounded if that is an integer type."""
    wanted = np.asarray(values, np.float64)
    low, high = box.low, box.high
    inside = (wanted > low) & (wanted < high)
    middle = np.where(inside, wanted, 0.0)
    if _whole(box):
        middle = np.floor(middle + 0.5)  # rounding half to even would favour even actions
    # Bounds are copied exactly: float64 cannot represent all of int64, nor float32 all of float64.
    cast = middle.astype(box.dtype)
    within = np.where(inside, cast, np.where(wanted >= high, high, low))
    return np.minimum(np.maximum(within, low), high).astype(box.dtype)


def _whole(box: Box) -> bool:
    return np.dtype(box.dtype).kind in "iub"


def action_limits(box: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high `(act_dim,)` as float64; infinite if a coordinate has no bound."""
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    return np.where(low <= -UNBOUNDED, -np.inf, low), np.where(high >= UNBOUNDED, np.inf, high)


def random_actions(box: Box, rng: np.random.Generator, shape: tuple[int, ...] = ()) -> NDArray[np.generic]:
    """Random actions `(*shape, act_dim)` of a space.

    Uniform between two bounds (integers equally likely), exponential from a single bound, normal without bounds: the
    distributions of Gymnasium's `Box.sample`, but from the caller's generator.
    """
    low, high = action_limits(box)
    size = (*shape, *box.shape)
    if _whole(box):
        low, high = np.where(np.isfinite(low), low - 0.5, low), np.where(np.isfinite(high), high + 0.5, high)
    both = np.isfinite(low) & np.isfinite(high)
    width = np.where(both, np.where(both, high, 0.0) - np.where(both, low, 0.0), 0.0)
    uniform = np.where(both, low, 0.0) + width * rng.random(size)
    if both.all():
        return as_actions(uniform, box)
    far, normal = rng.exponential(size=size), rng.standard_normal(size)
    one_sided = np.where(np.isfinite(low), low + far, np.where(np.isfinite(high), high - far, normal))
    return as_actions(np.where(both, uniform, one_sided), box)


def half_widths(box: Box, otherwise: ArrayLike = 1.0) -> NDArray[np.float64]:
    """Half the width of each action's range, `(act_dim,)`; `otherwise` if it lacks a bound."""
    low, high = action_limits(box)
    bounded = np.isfinite(low) & np.isfinite(high)
    half = (np.where(bounded, high, 0.0) - np.where(bounded, low, 0.0)) / 2
    return np.where(bounded, half, otherwise)
