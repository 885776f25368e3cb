"""Input check and conversion of images for image tasks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import require, require_finite, require_floats, require_shape
from ebm_control.tensors import as_array

ANY = (None, None, None)


def pixels(
    argument: str,
    value: Tensor | ArrayLike,
    shape: tuple[int | None, ...] = ANY,
    *,
    finite: bool = True,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Images `(N, *shape)` of floats: arrays and lists become a float32 tensor, tensors are returned unchanged.

    Args:
        argument: name of the argument, for the error message.
        value: floats; bytes and booleans are rejected because their scale is not [0, 1].
        shape: shape of an image; None for any size.
        finite: whether every pixel has to be finite.
        device: device of the tensor for arrays and lists.

    Raises:
        InputError: another shape or type, or a pixel that is not finite.

    """
    if not isinstance(value, Tensor):
        array = as_array(argument, value)
        floats = np.asarray(value).dtype.kind not in "biu"
        require(floats, argument, given="whole numbers or booleans", expected="floats")
        value = torch.from_numpy(np.array(array, dtype=np.float32, order="C")).to(device)
    require_floats(argument, value)
    require_shape(argument, value, (None, *shape))
    if finite:
        require_finite(argument, value)
    return value
