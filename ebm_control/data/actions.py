"""Actions in the form an environment accepts: within its bounds, in its dtype, whole if that is an integer type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from ebm_control.data.forms import Part

# Greater bounds count as none: unlimited spaces are often declared with float32's largest number.
UNBOUNDED = 1e15


class FlatActions(Box):
    """Vectors that stand for actions of a space with choices: a choice is one-hot, see `ebm_control.data.spaces`.

    Args:
        parts: parts of an action.
        low: `(act_dim,)`.
        high: `(act_dim,)`.
        dtype: type of all coordinates: what is recorded has the precision of what is taken.

    """

    def __init__(
        self,
        parts: Sequence[Part],
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        dtype: np.dtype[Any] | type[np.floating] = np.float64,
    ) -> None:
        super().__init__(low, high, dtype=dtype)
        self.parts = tuple(parts)

    def __repr__(self) -> str:
        return f"FlatActions({', '.join(map(str, self.parts))})"

    def of_kind(self, *kinds: str) -> NDArray[np.bool_]:
        """Mask `(act_dim,)` of the coordinates of these kinds."""
        return np.repeat([part.kind in kinds for part in self.parts], [part.size for part in self.parts])

    @property
    def discrete(self) -> bool:
        """Whether any part is a choice, a flag or a whole number."""
        return any(part.kind != "numbers" for part in self.parts)

    @property
    def choices(self) -> list[slice]:
        """Slices of the one-hot parts."""
        ends = np.cumsum([part.size for part in self.parts]).tolist()
        pairs = zip(self.parts, ends, strict=True)
        return [slice(end - part.size, end) for part, end in pairs if part.kind == "choice"]


def as_actions(values: ArrayLike, box: Box) -> NDArray[np.generic]:
    """`values` `(..., act_dim)` clipped to the space, in its dtype; rounded if that is an integer type.

    Of a choice the greatest coordinate becomes 1 and the others 0.
    """
    wanted = np.asarray(values, np.float64)
    low, high = box.low, box.high
    inside = (wanted > low) & (wanted < high)
    middle = np.where(inside, wanted, 0.0)
    whole = _whole(box)
    if np.any(whole):
        middle = np.where(
            whole, np.floor(middle + 0.5), middle
        )  # rounding half to even would favour even actions
    # Bounds are copied exactly: float64 cannot represent all of int64, nor float32 all of float64.
    cast = middle.astype(box.dtype)
    within = np.where(inside, cast, np.where(wanted >= high, high, low))
    found = np.minimum(np.maximum(within, low), high).astype(box.dtype)
    for columns in box.choices if isinstance(box, FlatActions) else ():
        best = wanted[..., columns].argmax(axis=-1)[..., None]
        found[..., columns] = np.arange(columns.stop - columns.start) == best
    return found


def _whole(box: Box) -> bool | NDArray[np.bool_]:
    """Whether actions are whole numbers, for the whole space or `(act_dim,)`."""
    return (
        box.of_kind("whole", "flags") if isinstance(box, FlatActions) else np.dtype(box.dtype).kind in "iub"
    )


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
    whole = _whole(box)
    if np.any(whole):
        low = np.where(whole & np.isfinite(low), low - 0.5, low)
        high = np.where(whole & np.isfinite(high), high + 0.5, high)
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
