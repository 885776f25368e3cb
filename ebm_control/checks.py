"""Input checks that speak plainly: the argument, what was given, what was expected."""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from torch import Tensor


class InputError(ValueError):
    """Bad input, caught before any work is lost."""


def require(condition: bool, argument: str, *, given: object, expected: str) -> None:
    """Raise `InputError` naming `argument`, what was `given` and what was `expected`, unless `condition`."""
    if not condition:
        raise InputError(f"{argument}: expected {expected}, got {given}")


def require_shape(argument: str, value: Tensor, expected: tuple[int | None, ...]) -> None:
    """Raise `InputError` unless `value` has the `expected` shape (None stands for any size)."""
    shape = tuple(value.shape)
    matches = len(shape) == len(expected) and all(
        e is None or e == s for s, e in zip(shape, expected, strict=False)
    )
    wanted = "(" + ", ".join("any" if e is None else str(e) for e in expected) + ")"
    require(matches, argument, given=f"shape {shape}", expected=f"shape {wanted}")


def require_finite(argument: str, value: Tensor) -> None:
    """Raise `InputError` if `value` holds a NaN or an infinity, saying how many and where the first is."""
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        first = tuple(int(i) for i in bad.nonzero()[0])
        raise InputError(
            f"{argument}: expected finite values only, got {int(bad.sum())} non-finite, first at index {first}"
        )


def require_number(
    argument: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    whole: bool = False,
) -> None:
    """Raise `InputError` unless `value` is a finite number of `[low, high]`: what every setting is checked by.

    Args:
        argument: name of the setting.
        value: what was given; NaN, infinities and anything but a number are refused.
        low: least value.
        high: greatest value.
        above: `low` itself is refused too.
        whole: only whole numbers.

    """
    kind = Integral if whole else Real
    number = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(float(value))
    within = number and low <= value <= high and not (above and value == low)  # type: ignore[operator]
    if within:
        return
    noun = "a whole number" if whole else "a number"
    if low == -math.inf and high == math.inf:
        expected = f"{noun}, finite"
    elif high == math.inf:
        expected = f"{noun} above {low:g}" if above else f"{noun} of at least {low:g}"
    else:
        expected = (
            f"{noun} {'above' if above else 'from'} {low:g} {'and at most' if above else 'to'} {high:g}"
        )
    raise InputError(f"{argument}: expected {expected}, got {value!r}")
