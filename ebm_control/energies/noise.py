"""Energies of noised data: conditioned on the noise level, whose logarithm ends their context."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm_control.checks import (
    require,
    require_finite,
    require_floats,
    require_given,
    require_mask,
    require_number,
    require_positive,
    require_shape,
    require_tensor,
)
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
    context = require_given(context, "context", expected=f"shape ({len(x)}, {width})")
    require_shape("context", context, (x.shape[0], width))
    return (
        context[:, :context_dim] if context_dim else None,
        context[:, context_dim:] if noisy else None,
    )


def noised_residual(residual: Tensor, log_level: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals `(B, ...)` of noised samples in stds of their own base, and the rate that the tilt grows by.

    To residuals in stds of the base noise of `σ = exp(log_level)` was added, so that their std is `√(1 + σ²)`; a tilt
    that grows as `√(1 + σ²) / σ` has the gradient of a score at every level (Song & Ermon 2019).
    """
    level = log_level.exp()
    wide = (1 + level.square()).sqrt()
    return residual / wide, wide / level


class AtNoise(Energy):
    """An energy of noised samples at one noise level, as an energy without that context.

    Args:
        energy: its context ends with the logarithm of a noise level.
        level: the level, σ.

    """

    def __init__(self, energy: Energy, level: float) -> None:
        super().__init__()
        require_number("level", level, 0, above=True)
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


class Given(Energy):
    """An energy conditioned on one class or whatever else begins its context: a plain energy of the rest.

    Energies that are conditioned on different things add up to a product of experts, `Given(shape, ...) + Given(size,
    ...)`: each has its own.

    Args:
        energy: its context begins with what is given.
        condition: `(k,)` what is given, for all samples, or `(B, k)`.

    """

    condition: Tensor

    def __init__(self, energy: Energy, condition: Tensor) -> None:
        super().__init__()
        require_tensor("condition", condition)
        condition = (
            condition if condition.is_floating_point() else condition.float()
        )  # a class may come in whole numbers
        require(
            condition.ndim in (1, 2),
            "condition",
            given=f"shape {tuple(condition.shape)}",
            expected="(k,) or (B, k)",
        )
        require_finite("condition", condition)
        self.energy = energy
        self.register_buffer("condition", condition)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of samples `(B, *shape) -> (B,)`; `context` is what follows the part that is given."""
        return self.energy(x, self._context(x, context))

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base and tilt of samples `(B, *shape)`, `(B,)` each; the context is as in `forward`."""
        return self.energy.split(x, self._context(x, context))

    def _context(self, x: Tensor, context: Tensor | None) -> Tensor:
        one = self.condition.ndim == 1 or len(self.condition) in (1, len(x))
        require(
            one,
            "x",
            given=f"{len(x)} samples",
            expected=f"{len(self.condition)}, one for each row of the condition",
        )
        condition = self.condition.to(x).expand(len(x), -1)
        return condition if context is None else torch.cat([condition, context], dim=1)


class Observed(Energy):
    """An energy of noised samples of which some coordinates are known, for `Annealed`.

    A mask that fixes coordinates would show the energy clean ones among noised ones, which it was not trained on. Here
    known coordinates are noised as all are: they are drawn to what is known by `|x - y|² / 2σ²` alone, so that their
    deviation is σ at every level and vanishes with it, and the others follow the energy given them (the replacement
    method of Song et al. 2021, as an energy). At the end they are as known but for rounding. The unknown ones lag a
    little at every level; Langevin steps there (`Annealed(steps=...)`) have them catch up.

    Args:
        energy: its context ends with the logarithm of the noise level.
        known: boolean, broadcast to a sample or to the batch: coordinates that are known.
        values: `(B, *shape)` theirs; others are not read.
        scale: of the noise, as in `Annealed`.

    """

    known: Tensor
    values: Tensor
    scale: Tensor

    def __init__(self, energy: Energy, known: Tensor, values: Tensor, scale: Tensor | float = 1.0) -> None:
        super().__init__()
        require_mask("known", known)
        require_floats("values", values)
        require_positive("scale", scale)
        unit = torch.as_tensor(scale, dtype=values.dtype)
        held = torch.where(known, values, torch.zeros_like(values))
        require_finite("values", held)
        self.energy = energy
        self.register_buffer("known", known)
        self.register_buffer("values", held)
        self.register_buffer("scale", unit)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of samples `(B, *shape) -> (B,)`."""
        require(context is not None, "context", given=None, expected="one that ends with the noise level")
        assert context is not None
        seen = torch.where(self.known, x.detach(), x)
        level = context[:, -1].exp().reshape(-1, *[1] * (x.ndim - 1)) * self.scale
        away = torch.where(self.known, (x - self.values) / level, torch.zeros_like(x))
        return self.energy(seen, context) + 0.5 * away.flatten(1).square().sum(dim=1)
