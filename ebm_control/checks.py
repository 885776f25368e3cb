"""Input checks with clear messages: the argument, the given value, the expected value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")
_GREATEST_SEED = 2**62  # numbers are added to some seeds, and torch accepts 64 bits
_GREATEST_WHOLE = 2**63 - 1  # greatest integer of torch and NumPy
_FEW = 4096  # numbers of which NumPy takes less time than torch
_SHOWN = 200  # greatest length of a value in a message


class InputError(ValueError):
    """Invalid input, raised before any work is lost.

    Attributes:
        rollouts: the `RolloutBuffer` of finished episodes if collection ended early; None otherwise.

    """

    rollouts: Any = None


def require(condition: bool, argument: str, *, given: object, expected: str) -> None:
    """Raise `InputError` with `argument`, the `given` value and what was `expected`, unless `condition`."""
    if not condition:
        raise InputError(f"{argument}: expected {expected}, got {given}")


def require_is(value: object, kind: type[T], argument: str, *, expected: str | None = None) -> T:
    """Return `value` with the type `kind`, for type checkers.

    Raises:
        InputError: it has another type; the message contains `expected`, or the name of `kind` if that is None.

    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise InputError(
            f"{argument}: expected {expected or f'{article} {kind.__name__}'}, got {type(value).__name__}"
        )
    return value


def require_given(value: T | None, argument: str, *, expected: str) -> T:
    """Return `value` without None in its type, for type checkers.

    Raises:
        InputError: it is None; the message contains `expected`.

    """
    if value is None:
        raise InputError(f"{argument}: expected {expected}, got None")
    return value


class Shown:
    """`shown(value)`, made when a message is: for checks that run at every step of something fast."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        return shown(self.value)


def shown(value: object) -> str:
    """The value in one short line: its `repr` without the line breaks of arrays."""
    words = " ".join(repr(value).split())
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."


def is_sequence(value: object) -> bool:
    """Whether `value` is an ordered collection (a list, a tuple, an array or a tensor with an axis), but no string."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def require_tensor(argument: str, value: object) -> Tensor:
    """Return `value`; raise `InputError` unless it is a tensor."""
    if not isinstance(value, Tensor):
        raise InputError(f"{argument}: expected a tensor, got {type(value).__name__} {shown(value)}")
    return value


def require_floats(argument: str, value: object) -> None:
    """Raise `InputError` unless `value` is a tensor of a float type: integers and booleans have no gradients."""
    tensor = require_tensor(argument, value)
    given = f"a tensor of {tensor.dtype}"
    require(tensor.is_floating_point(), argument, given=given, expected="a tensor of floats")


def require_mask(argument: str, value: object) -> None:
    """Raise `InputError` unless `value` is a tensor of booleans."""
    dtype = require_tensor(argument, value).dtype
    require(dtype == torch.bool, argument, given=dtype, expected="a boolean mask")


def require_shape(argument: str, value: Tensor, expected: tuple[int | None, ...]) -> None:
    """Raise `InputError` unless `value` is a tensor of the `expected` shape (None stands for any size)."""
    require_tensor(argument, value)
    shape = tuple(value.shape)
    matches = len(shape) == len(expected) and all(
        e is None or e == s for s, e in zip(shape, expected, strict=False)
    )
    if not matches:  # samplers check at every step: the message is made for those who read it
        wanted = "(" + ", ".join("any" if e is None else str(e) for e in expected) + ")"
        raise InputError(f"{argument}: expected shape {wanted}, got shape {shape}")


def require_finite(argument: str, value: Tensor) -> None:
    """Raise `InputError` unless `value` is a finite tensor; the message counts and locates NaN and infinities."""
    require_tensor(argument, value)
    if value.is_cpu and value.dtype in (torch.float32, torch.float64) and value.numel() <= _FEW:
        if np.logical_and.reduce(np.isfinite(value.detach().numpy()), None):
            return
    # A sum is finite if its terms are, and costs a fraction of looking at each; it may overflow though.
    elif value.is_floating_point() and math.isfinite(float(value.detach().sum())):
        return
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
    below: bool = False,
    whole: bool = False,
) -> None:
    """Raise `InputError` unless `value` is a finite number in `[low, high]`; used for all numeric settings.

    Args:
        argument: name of the setting.
        value: value of the setting; NaN, infinities and anything but a number are refused.
        low: least value.
        high: greatest value.
        above: refuse `low` itself too.
        below: refuse `high` itself too.
        whole: accept only whole numbers, of 64 bits.

    """
    kind = Integral if whole else Real
    number = isinstance(value, kind) and not isinstance(value, bool) and -math.inf < value < math.inf  # type: ignore[operator]
    within = number and low <= value <= high  # type: ignore[operator]
    fits = not whole or not number or abs(value) <= _GREATEST_WHOLE  # type: ignore[arg-type]
    if within and fits and not (above and value == low) and not (below and value == high):
        return
    noun = "a whole number" if whole else "a number"
    if low == -math.inf and high == math.inf:
        expected = f"{noun}, finite"
    elif high == math.inf:
        expected = f"{noun} above {low:g}" if above else f"{noun} of at least {low:g}"
    else:
        most = f"below {high:g}" if below else f"at most {high:g}" if above else f"{high:g}"
        expected = f"{noun} above {low:g} and {most}" if above else f"{noun} from {low:g} to {most}"
    bits = "" if fits else " and 64 bits"
    raise InputError(f"{argument}: expected {expected}{bits}, got {shown(value)}")


def require_positive(argument: str, value: Tensor | float) -> None:
    """Raise `InputError` unless `value` is a positive number, or a tensor of finite ones."""
    if not isinstance(value, Tensor):
        require_number(argument, value, 0, above=True)
        return
    sound = bool((value.isfinite() & (value > 0)).all())
    require(sound, argument, given=value.tolist(), expected="positive numbers")


def require_flag(argument: str, value: object) -> None:
    """Raise `InputError` unless `value` is True or False; other types are refused because "no" would count as True."""
    require(isinstance(value, bool), argument, given=shown(value), expected="True or False")


def require_seed(argument: str, value: object) -> None:
    """Raise `InputError` unless `value` is a seed: a whole number of at least 0 that all generators accept."""
    require_number(argument, value, 0, _GREATEST_SEED, whole=True)


def require_widths(argument: str, value: object, *, least: int = 0) -> None:
    """Raise `InputError` unless `value` is a sequence of at least `least` whole numbers, each 1 or more."""
    sequence = isinstance(value, Sequence) and is_sequence(value) and len(value) >= least
    require(sequence, argument, given=shown(value), expected=f"a sequence of at least {least} whole numbers")
    for width in value:  # type: ignore[attr-defined]
        require_number(argument, width, 1, whole=True)


def require_levels(argument: str, value: object) -> None:
    """Raise `InputError` unless `value` is a pair of noise levels, `0 < low < high`."""
    if not (isinstance(value, Sequence) and is_sequence(value) and len(value) == 2):
        raise InputError(f"{argument}: expected two noise levels, 0 < low < high, got {shown(value)}")
    require_number(argument, value[0], 0, above=True)
    require_number(argument, value[1], value[0], above=True)


def as_python(settings: object) -> None:
    """Convert a frozen dataclass's numbers to Python's own and its lists to tuples, as settings are saved as JSON."""
    for field in fields(settings):  # type: ignore[arg-type]
        object.__setattr__(settings, field.name, _as_python(getattr(settings, field.name)))


def _as_python(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple(_as_python(part) for part in value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)
