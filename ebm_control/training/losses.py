"""Contrastive objectives: push the energy of data down and that of the model's own samples up."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ebm_control.checks import require
from ebm_control.energies.base import Energy


class LossTerms(NamedTuple):
    """A loss and the energies it was made from."""

    total: Tensor  # ()
    positive: Tensor  # (B,) energies of data
    negative: Tensor  # (M,) energies of samples
    tilt: Tensor  # (B + M,) the learned part of both


@dataclass(frozen=True)
class ContrastiveLoss(ABC):
    """What the objectives share: one pass for data and samples, and a penalty on the energy's size.

    Args:
        energy_l2: weight of the mean squared tilt of data and samples, which keeps energies near 0
            (Du & Mordatch 2019). The base measure is never penalised.

    """

    energy_l2: float = 0.1

    def __call__(
        self,
        energy: Energy,
        positives: Tensor,
        negatives: Tensor,
        context: Tensor | None = None,
        negative_context: Tensor | None = None,
    ) -> LossTerms:
        """Loss of a batch.

        Args:
            energy: the energy in training.
            positives: `(B, *shape)` data.
            negatives: `(M, *shape)` samples of the model.
            context: `(B, ...)` of the data.
            negative_context: `(M, ...)` of the samples.

        """
        both = None
        if context is not None:
            require(
                negative_context is not None,
                "negative_context",
                given=None,
                expected=f"{len(negatives)} rows, one for each negative",
            )
            assert negative_context is not None
            both = torch.cat([context, negative_context])
        base, tilt = energy.split(torch.cat([positives, negatives]), both)
        positive, negative = (base + tilt).tensor_split([len(positives)])
        total = self.contrast(positive, negative) + self.energy_l2 * self._size(tilt, len(positives))
        return LossTerms(total, positive.detach(), negative.detach(), tilt.detach())

    @abstractmethod
    def contrast(self, positive: Tensor, negative: Tensor) -> Tensor:
        """The objective, from energies of data `(B,)` and of samples `(M,)`."""

    @staticmethod
    def _size(tilt: Tensor, positives: int) -> Tensor:
        data, samples = tilt.tensor_split([positives])
        return data.square().mean() + samples.square().mean()


@dataclass(frozen=True)
class ContrastiveDivergence(ContrastiveLoss):
    """`E(x⁺) - E(x⁻)` (Hinton 2002; Du & Mordatch 2019): maximum likelihood by samples."""

    def contrast(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Mean energy of data less that of samples."""
        return positive.mean() - negative.mean()


@dataclass(frozen=True)
class Softplus(ContrastiveLoss):
    """`log(1 + exp(E(x⁺))) + log(1 + exp(-E(x⁻)))`: logistic classification of data against samples."""

    def contrast(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Logistic loss; saturates once data and samples are told apart."""
        return functional.softplus(positive).mean() + functional.softplus(-negative).mean()


@dataclass(frozen=True)
class LogSumExp(ContrastiveLoss):
    """`E(x⁺) + log mean exp(-E(x⁻))`: samples weighted by their own likelihood.

    The normaliser of maximum likelihood by importance sampling from the negatives: samples of low
    energy count most.
    """

    def contrast(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Mean energy of data plus the log mean weight of the samples."""
        return positive.mean() + torch.logsumexp(-negative, dim=0) - math.log(len(negative))


@dataclass(frozen=True)
class InfoNCE(ContrastiveLoss):
    """Pick the datum out of itself and its own K negatives (van den Oord et al. 2018).

    Negatives are read in K rounds over the data, as the trainer strings them together: `M = K B`, and negative
    `j` stands against datum `j mod B`.
    """

    def contrast(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Cross-entropy of the datum among itself and its negatives."""
        count = len(positive)
        require(
            len(negative) % count == 0,
            "negatives",
            given=f"{len(negative)} for {count} data",
            expected="a multiple",
        )
        logits = -torch.cat([positive[:, None], negative.reshape(-1, count).T], dim=1)
        return -functional.log_softmax(logits, dim=1)[:, 0].mean()
