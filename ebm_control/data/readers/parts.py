"""Named arrays as columns of one observation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import require, shown
from ebm_control.tensors import as_array


def checked_keys(keys: Sequence[str] | None) -> tuple[str, ...] | None:
    """`keys` as a tuple of different, non-empty names; None stays None.

    Raises:
        InputError: they are not.

    """
    if keys is None:
        return None
    names = isinstance(keys, Sequence) and not isinstance(keys, str)
    sound = names and len(keys) > 0 and all(isinstance(key, str) and key for key in keys)
    sound = sound and len(set(keys)) == len(keys)
    require(sound, "keys", given=shown(keys), expected="a sequence of different names of arrays, or None")
    return tuple(keys)


def columns(name: str, value: NDArray[Any]) -> NDArray[Any]:
    """An array of one number or one vector per row as `(T, d)`, in its own dtype.

    Raises:
        InputError: images or other arrays of more axes, no columns, or no numbers.

    """
    per_row = value.ndim in (1, 2)
    require(per_row, name, given=f"shape {value.shape}", expected="one vector per row; images are not read")
    as_array(name, value[:1])  # refuses what is no number
    matrix = value[:, None] if value.ndim == 1 else value
    require(matrix.shape[1] > 0, name, given=f"shape {matrix.shape}", expected="at least one column")
    return matrix


def side_by_side(named: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], dict[str, slice]]:
    """Arrays as one `(T, sum of d)`, in their order, and the columns of each.

    Raises:
        InputError: numbers of rows differ, or an array is refused by `columns`.

    """
    matrices = {name: columns(name, value) for name, value in named.items()}
    rows = len(next(iter(matrices.values())))
    parts, start = {}, 0
    for name, matrix in matrices.items():
        require(len(matrix) == rows, name, given=f"{len(matrix)} rows", expected=f"{rows} rows")
        parts[name] = slice(start, start + matrix.shape[1])
        start += matrix.shape[1]
    if len(matrices) == 1:
        return next(iter(matrices.values())), parts
    return np.concatenate(list(matrices.values()), axis=1), parts


def flags(name: str, value: NDArray[Any], rows: int) -> NDArray[np.bool_]:
    """Flags `(rows,)` or `(rows, 1)` of any type as `(rows,)` booleans.

    Raises:
        InputError: another shape, or values other than 0 and 1.

    """
    found = one_per_row(name, value, rows)
    sound = bool(np.isin(found, (0.0, 1.0)).all())
    require(sound, name, given=f"values such as {found[~np.isin(found, (0, 1))][:1]}", expected="0 or 1")
    return found.astype(bool)


def one_per_row(name: str, value: NDArray[Any], rows: int) -> NDArray[np.float64]:
    """Numbers `(rows,)` or `(rows, 1)` as `(rows,)`.

    Raises:
        InputError: another shape, or no numbers.

    """
    array = as_array(name, value)
    fits = array.shape in ((rows,), (rows, 1))
    require(fits, name, given=f"shape {array.shape}", expected=f"shape ({rows},), one for each observation")
    return array.reshape(rows)
