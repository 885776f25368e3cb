"""Figures that are equal but for rounding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def assert_equal_up_to_rounding(
    found: Tensor | np.ndarray | float, expected: Tensor | np.ndarray | float, ulps: int = 32
) -> None:
    """Two ways to the same figures: another batch size, another layout, one sum or two, a row alone.

    Kernels choose the order of their sums by the shape, the strides and the instruction set of the processor,
    so that last bits differ from machine to machine. The tolerance is `ulps` roundings of the largest figure.
    The same way taken twice (a seed, a resumed run) has equal bits and is not compared by this.
    """
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=ulps * torch.finfo(expected.dtype).eps * scale)
