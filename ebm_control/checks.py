"""Input checks that speak plainly: the argument, what was given, what was expected."""

from __future__ import annotations

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
