"""Rewards and flags of an environment's step as plain floats and bools, whatever type the environment returns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from ebm_control.checks import InputError


def scalar_reward(value: Any, where: str, *, finite: bool = True) -> float:
    """One reward as a float.

    Args:
        value: a number, a boolean, or an array or tensor of one element and any shape.
        where: place of the reward for the message, for example "environment 2, step 31".
        finite: refuse NaN and infinities; False if the caller leaves such a step out.

    Raises:
        InputError: anything else (None, several numbers, text); NaN or an infinity if `finite`.

    """
    array = _single(value)
    number = array is not None and array.dtype.kind in "fiub"
    if array is None or not number or (finite and not math.isfinite(array.item())):
        expected = "one finite number" if finite else "one number"
        raise InputError(f"reward of {where}: expected {expected}, got {_shown(value)}")
    return float(array.item())


def scalar_flag(value: Any, where: str) -> bool:
    """Whether an episode ended: the terminated or truncated flag of a step as a bool.

    Args:
        value: a boolean, 0 or 1, or an array or tensor of one such element and any shape.
        where: name and place of the flag for the message: "terminated of environment 2, step 31".

    Raises:
        InputError: anything else.

    """
    array = _single(value)
    if array is None or array.dtype.kind not in "fiub" or array.item() not in (0, 1):
        raise InputError(f"{where}: expected True or False, got {_shown(value)}")
    return bool(array.item())


def _single(value: Any) -> np.ndarray[Any, Any] | None:
    """`value` as an array of shape (); None if it does not have exactly one element."""
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except ValueError:  # lists of different lengths
        return None
    return array.reshape(()) if array.size == 1 else None


def _shown(value: Any) -> str:
    """The value in one line, for messages."""
    shape = getattr(value, "shape", ())
    text = " ".join(repr(value).split())
    return f"shape {tuple(shape)}, {text[:80]}" if shape else text[:80]
