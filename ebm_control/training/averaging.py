"""Averages of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def warm_ema(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average over lists of tensors, for `AveragedModel`; values stay on the device."""

    def update(averaged: Any, current: Any, count: Tensor | int) -> None:
        n = torch.as_tensor(count, dtype=torch.float32)
        share = 1 - torch.clamp((1 + n) / (10 + n), max=decay)
        for average, value in zip(averaged, current, strict=True):
            average.lerp_(value, share.to(average))

    return update
