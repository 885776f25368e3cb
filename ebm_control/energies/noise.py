"""Energies of noised data: conditioned on the noise level, whose logarithm ends their context."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm_control.checks import require, require_shape
from ebm_control.energies.base import Energy


def split_context(
    x: Tensor, context: Tensor | None, context_dim: int, noisy: bool
) -> tuple[Tensor | None, Tensor | None]:
    """What a context holds: `(B, context_dim)` to be conditioned on, and the logarithm `(B, 1)` of the noise level.

    Raises:
        InputError: it has another shape, or is not given.

    """
    width = context_dim + noisy
    if width == 0:
        return None, None
    require(context is not None, "context", given=None, expected=f"shape ({len(x)}, {width})")
    assert context is not None
    require_shape("context", context, (x.shape[0], width))
    return (
        context[:, :context_dim] if context_dim else None,
        context[:, context_dim:] if noisy else None,
    )


class AtNoise(Energy):
    """An energy of noised samples at one noise level, as an energy without that context.

    Args:
        energy: its context ends with the logarithm of a noise level.
        level: the level, σ.

    """

    def __init__(self, energy: Energy, level: float) -> None:
        super().__init__()
        require(level > 0, "level", given=level, expected="a positive number")
        self.energy, self.level = energy, level

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of samples `(B, *shape) -> (B,)`; `context` is what precedes the noise level."""
        return self.energy(x, self._context(x, context))

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base and tilt at the level, each `(B,)`."""
        return self.energy.split(x, self._context(x, context))

    def _context(self, x: Tensor, context: Tensor | None) -> Tensor:
        noise = x.new_full((len(x), 1), math.log(self.level))
        return noise if context is None else torch.cat([context, noise], dim=-1)
