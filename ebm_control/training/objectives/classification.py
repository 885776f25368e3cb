"""Cross-entropy in addition to a density objective, which makes a conditional energy a good classifier."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ebm_control.checks import require, require_number
from ebm_control.data.batch import Batch
from ebm_control.energies.base import Energy
from ebm_control.energies.image import ImageEnergy
from ebm_control.samplers.chain import Chain
from ebm_control.training.objectives.contrastive import LossTerms, Objective, Source


@dataclass(frozen=True)
class Classified:
    """An objective plus the cross-entropy of `p(y | x) ∝ exp(-E(x | y))` (Grathwohl et al. 2020).

    An energy of noised images is classified at log-uniform noise levels: features that hold under much noise are
    robust to small perturbations.

    Args:
        objective: objective of the density.
        weight: weight of the cross-entropy.

    """

    objective: Objective
    weight: float = 1.0

    def __post_init__(self) -> None:
        require_number("weight", self.weight, 0)

    @property
    def uses_chains(self) -> bool:
        """Whether the density objective uses chains."""
        return self.objective.uses_chains

    def of_batch(self, energy: Energy, batch: Batch, source: Source) -> tuple[LossTerms, Chain | None]:
        """The objective's loss, and the cross-entropy over the data that have a label."""
        require(
            isinstance(energy, ImageEnergy) and energy.classes > 0 and batch.context is not None,
            "energy",
            given=type(energy).__name__,
            expected="a conditional image energy, with labelled batches",
        )
        assert isinstance(energy, ImageEnergy)
        assert batch.context is not None
        terms, chain = self.objective.of_batch(energy, batch, source)
        labelled = batch.context[:, : energy.classes].any(dim=1)
        x, level = self._noised(energy, batch.x, source.generator)
        logits = -energy.of_classes(x, level)
        labels = batch.context[:, : energy.classes].argmax(dim=1)
        entropy = functional.cross_entropy(logits, labels, reduction="none")
        total = terms.total + self.weight * (entropy * labelled).sum() / labelled.sum().clamp(min=1)
        return terms._replace(total=total), chain

    @staticmethod
    def _noised(energy: ImageEnergy, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        if energy.noise is None:
            return x, None
        low, high = (math.log(level) for level in energy.noise)
        draw = torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype)
        level = (low + (high - low) * draw).exp()
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return x + level[:, None, None, None] * noise, level
