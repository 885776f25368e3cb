"""Energies of noised data. They are conditioned on the noise level, whose logarithm is the last context column."""

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
from ebm_control.energies.curvature import Quadratic


def split_context(
    x: Tensor, context: Tensor | None, context_dim: int, noisy: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Split a context into the condition `(B, context_dim)` and the log noise level `(B, 1)`, each None if absent.

    Raises:
        InputError: the context is missing or has another shape.

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
    """Residuals `(B, ...)` of noised samples in stds of the noised base, and the factor by which the tilt grows.

    The given residuals are in stds of the base and contain noise of std `σ = exp(log_level)`, so their std is
    `√(1 + σ²)`. A tilt that grows as `√(1 + σ²) / σ` has the gradient of a score (Song & Ermon 2019).
    """
    level = log_level.exp()
    wide = (1 + level.square()).sqrt()
    return residual / wide, wide / level


class AtNoise(Energy):
    """An energy of noised samples at one fixed noise level, which is then no longer part of the context.

    Args:
        energy: an energy whose context ends with the logarithm of a noise level.
        level: the noise level σ.

    """

    def __init__(self, energy: Energy, level: float) -> None:
        super().__init__()
        require_number("level", level, 0, above=True)
        self.energy, self.level = energy, level

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of samples `(B, *shape) -> (B,)`; `context` is the part before the noise level."""
        return self.energy(x, self._context(x, context))

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base and tilt at this noise level, each `(B,)`."""
        return self.energy.split(x, self._context(x, context))

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energy `(B,)` and gradient of samples `(B, *shape)`; see `forward` for the context."""
        return self.energy.value_and_gradient(x, self._context(x, context))

    def quadratic(self, x: Tensor, context: Tensor | None = None) -> Quadratic:
        """Energy, gradient and curvature of trajectories; see `forward` for the context."""
        return self.energy.quadratic(x, self._context(x, context))

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of the curvature of trajectories; see `forward` for the context."""
        return self.energy.curvature(x, self._context(x, context))

    def _context(self, x: Tensor, context: Tensor | None) -> Tensor:
        noise = x.new_full((len(x), 1), math.log(self.level))
        return noise if context is None else torch.cat([context, noise], dim=-1)


class Given(Energy):
    """An energy with the first part of its context fixed, such as a class; only the rest remains as context.

    Energies with different conditions add up to a product of experts:
    `Given(shape, ...) + Given(size, ...)`.

    Args:
        energy: an energy whose context begins with the condition.
        condition: `(k,)` for all samples, or `(B, k)`.

    """

    condition: Tensor

    def __init__(self, energy: Energy, condition: Tensor) -> None:
        super().__init__()
        require_tensor("condition", condition)
        condition = (
            condition if condition.is_floating_point() else condition.float()
        )  # a class may be given as integers
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
        """Energy of samples `(B, *shape) -> (B,)`; `context` is the part after the condition."""
        return self.energy(x, self._context(x, context))

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base and tilt of samples `(B, *shape)`, `(B,)` each; `context` is the part after the condition."""
        return self.energy.split(x, self._context(x, context))

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energy `(B,)` and gradient of samples `(B, *shape)`; see `forward` for the context."""
        return self.energy.value_and_gradient(x, self._context(x, context))

    def quadratic(self, x: Tensor, context: Tensor | None = None) -> Quadratic:
        """Energy, gradient and curvature of trajectories; see `forward` for the context."""
        return self.energy.quadratic(x, self._context(x, context))

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of the curvature of trajectories; see `forward` for the context."""
        return self.energy.curvature(x, self._context(x, context))

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
    """An energy of noised samples with some coordinates observed, for `Annealed`.

    Fixing coordinates with a mask would mix clean coordinates with noised ones, which the energy was not trained on.
    Here observed coordinates are noised like all others: `|x - y|² / 2σ²` alone draws them to the observed values, so
    their std is σ at every level and vanishes with it. The others follow the energy given them (the replacement method
    of Song et al. 2021, as an energy). At the end observed coordinates match up to rounding. The others lag a little at
    every level; Langevin steps there (`Annealed(steps=...)`) let them catch up. Under `ProbabilityFlow`, which draws no
    noise on the way, they lag much.

    Args:
        energy: an energy whose context ends with the logarithm of the noise level.
        known: boolean mask of observed coordinates, broadcast to a sample or to the batch.
        values: `(B, *shape)` observed values; other entries are ignored.
        scale: scale of the noise, equal to that of `Annealed`.

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

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energy `(B,)` and gradient of samples; observed coordinates are drawn to their values alone."""
        context = require_given(context, "context", expected="one that ends with the noise level")
        level = context[:, -1].exp().reshape(-1, *[1] * (x.ndim - 1)) * self.scale
        zero = torch.zeros_like(x)
        away = torch.where(self.known, (x - self.values) / level, zero)
        energy, gradient = self.energy.value_and_gradient(x, context)
        pull = torch.where(self.known, away / level, gradient)
        return energy + 0.5 * away.flatten(1).square().sum(dim=1), pull
