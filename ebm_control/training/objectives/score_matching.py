"""Denoising score matching: training without samples of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebm_control.checks import require_number, require_positive
from ebm_control.data.batch import Batch
from ebm_control.energies.base import Energy
from ebm_control.samplers.chain import Chain
from ebm_control.training.objectives.contrastive import LossTerms, Source

FOCUS = 0.8  # std of the log levels around the data's own scale


@dataclass(frozen=True)
class DenoisingScoreMatching:
    """`|σ S ∇E(x + σ S ε, σ) - ε|²` over a range of noise levels σ (Vincent 2011; Song & Ermon 2019).

    The gradient of an energy of noised data points from the noised to the clean data. The energy's context ends with
    log σ; `Annealed` samples it. Fixed coordinates are not noised. Half of the levels are log-uniform, half log-normal
    around the scale of the data (Karras et al. 2022), where the probabilities of modes are learned.

    Args:
        low: least noise level.
        high: greatest noise level.
        scale: S, std of the noise at level 1, broadcast to a sample.

    """

    low: float = 0.03
    high: float = 10.0
    scale: Tensor | float = 1.0

    def __post_init__(self) -> None:
        require_number("high", self.high, 0, above=True)
        require_number("low", self.low, 0, self.high, above=True, below=True)
        require_positive("scale", self.scale)

    @property
    def uses_chains(self) -> bool:
        """False: no samples of the model are used."""
        return False

    def of_batch(self, energy: Energy, batch: Batch, source: Source) -> tuple[LossTerms, Chain | None]:
        """Mean squared error of the noise predicted by the gradient, over coordinates that are not fixed."""
        x, generator = batch.x, source.generator
        place = {"generator": generator, "device": x.device, "dtype": x.dtype}
        log_level = self._levels(len(x), place)
        noise = torch.randn(x.shape, **place)  # type: ignore[call-overload]
        free = torch.ones_like(x[0], dtype=torch.bool) if source.fixed is None else ~source.fixed
        noise = noise * free
        step = log_level.exp().reshape(-1, *[1] * (x.ndim - 1)) * torch.as_tensor(self.scale).to(x)
        context = log_level if batch.context is None else torch.cat([batch.context, log_level], dim=-1)
        noised = (x + step * noise).requires_grad_()
        base, tilt = energy.split(noised, context)
        (gradient,) = torch.autograd.grad((base + tilt).sum(), noised, create_graph=True)
        error = (step * gradient - noise).square() * free
        total = error.sum() / (free.expand_as(x).sum())
        # The tilt of an energy of noised data grows as 1/σ: the guard watches it divided by that.
        watched = (tilt * log_level[:, 0].exp()).detach()
        return LossTerms(total, (base + tilt).detach(), x.new_zeros(0), watched), None

    def _levels(self, count: int, place: dict[str, Any]) -> Tensor:
        """Logarithms of levels `(count, 1)`: half of them uniform, half around the log of the data's std."""
        low, high = math.log(self.low), math.log(self.high)
        anywhere = low + (high - low) * torch.rand((count, 1), **place)
        near = (FOCUS * torch.randn((count, 1), **place) - FOCUS / 2).clamp(low, high)
        return torch.where(torch.rand((count, 1), **place) < 0.5, anywhere, near)
