"""Contrastive objectives: push the energy of data down and that of samples up.

All objectives share the interface `Objective`: one method, called with a batch and a source of the model's samples.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ebm_control.checks import require, require_number
from ebm_control.data.batch import Batch
from ebm_control.energies.base import Energy
from ebm_control.samplers.chain import Chain


class LossTerms(NamedTuple):
    """A loss and the energies it was computed from."""

    total: Tensor  # ()
    positive: Tensor  # (B,) energies of data
    negative: Tensor  # (M,) energies of samples; M = 0 without samples
    tilt: Tensor  # (B + M,) the learned part of both


class Source(Protocol):
    """What an objective can request for a batch."""

    @property
    def fixed(self) -> Tensor | None:
        """Coordinates that samples share with their data."""
        ...

    @property
    def generator(self) -> torch.Generator:
        """Random generator of all noise."""
        ...

    def chains(self) -> Chain:
        """Samples of the model, one per datum, from the sample buffer."""
        ...

    def differentiable_step(self, x: Tensor) -> Tensor:
        """Samples after one more step, differentiable with respect to the energy's parameters."""
        ...

    def extra_negatives(self) -> Batch | None:
        """Further negatives, for example a planner's own plans; or None."""
        ...


class Objective(Protocol):
    """A loss that a `Trainer` minimises."""

    @property
    def uses_chains(self) -> bool:
        """Whether it uses `Source.chains`."""
        ...

    def of_batch(self, energy: Energy, batch: Batch, source: Source) -> tuple[LossTerms, Chain | None]:
        """Loss of a batch, and the chains it was computed with, if any."""
        ...


@dataclass(frozen=True)
class ContrastiveLoss(ABC):
    """Shared part of the objectives: one pass for data and samples, and a penalty on the energy's size.

    Args:
        energy_l2: weight of the mean squared tilt of data and samples, which keeps energies near 0
            (Du & Mordatch 2019). The base measure is never penalised.

    """

    energy_l2: float = 0.1

    def __post_init__(self) -> None:
        require_number("energy_l2", self.energy_l2, 0)

    @property
    def uses_chains(self) -> bool:
        """True: one chain per datum."""
        return True

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

    def of_batch(self, energy: Energy, batch: Batch, source: Source) -> tuple[LossTerms, Chain | None]:
        """Loss of data against one chain per datum and against the extra negatives."""
        chain = source.chains()
        negatives, context = chain.x, batch.context
        planned = source.extra_negatives()
        if planned is not None:
            negatives = torch.cat([negatives, planned.x])
            if context is not None and planned.context is not None:
                context = torch.cat([context, planned.context])
        return self(energy, batch.x, negatives, batch.context, context), chain

    @abstractmethod
    def contrast(self, positive: Tensor, negative: Tensor) -> Tensor:
        """The objective from energies of data `(B,)` and of samples `(M,)`."""

    @staticmethod
    def _size(tilt: Tensor, positives: int) -> Tensor:
        data, samples = tilt.tensor_split([positives])
        return data.square().mean() + samples.square().mean()


@dataclass(frozen=True)
class ContrastiveDivergence(ContrastiveLoss):
    """`E(x⁺) - E(x⁻)` (Hinton 2002; Du & Mordatch 2019): maximum likelihood with samples."""

    def contrast(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Mean energy of data minus that of samples."""
        return positive.mean() - negative.mean()


@dataclass(frozen=True)
class Softplus(ContrastiveLoss):
    """`log(1 + exp(E(x⁺))) + log(1 + exp(-E(x⁻)))`: logistic classification of data against samples."""

    def contrast(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Logistic loss; saturates once data and samples are separated."""
        return functional.softplus(positive).mean() + functional.softplus(-negative).mean()


@dataclass(frozen=True)
class LogSumExp(ContrastiveLoss):
    """`E(x⁺) + log mean exp(-E(x⁻))`: samples weighted by their own likelihood.

    This estimates the normaliser of maximum likelihood by importance sampling from the negatives: samples of low
    energy count most.
    """

    def contrast(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Mean energy of data plus the log mean weight of the samples."""
        return positive.mean() + torch.logsumexp(-negative, dim=0) - math.log(len(negative))


@dataclass(frozen=True)
class InfoNCE(ContrastiveLoss):
    """Classify the datum among itself and its own K negatives (van den Oord et al. 2018).

    Negatives are in K rounds over the data, in the order in which the trainer concatenates them: `M = K B`, and
    negative `j` is compared with datum `j mod B`.

    With `proposals` negatives are draws from the energy's base instead of chains, and only the tilt is classified.
    The loss is least if the tilt is `-log` of the density ratio of data to base; as the base adds `-log` of its own
    density, the energy is then that of the data (Ma & Collins 2018; ranking noise-contrastive estimation).

    Args:
        proposals: draws from the base per datum (for an energy with `propose`); 0 for one chain per datum.

    """

    proposals: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("proposals", self.proposals, 0, whole=True)

    @property
    def uses_chains(self) -> bool:
        """Whether there are no proposals."""
        return not self.proposals

    def of_batch(self, energy: Energy, batch: Batch, source: Source) -> tuple[LossTerms, Chain | None]:
        """Loss of data against draws from the base, or against chains."""
        if not self.proposals:
            return super().of_batch(energy, batch, source)
        propose = getattr(energy, "propose", None)
        require(
            propose is not None,
            "energy",
            given=type(energy).__name__,
            expected="one with a base to draw from",
        )
        assert propose is not None
        k, count = self.proposals, len(batch.x)
        context = None if batch.context is None else batch.context.repeat(k + 1, 1)
        with torch.no_grad():
            known = None if context is None else context[count:]
            drawn = propose(batch.x.repeat(k, 1, 1), known, source.generator)
        base, tilt = energy.split(torch.cat([batch.x, drawn]), context)
        size = self.energy_l2 * self._size(tilt, count)
        total = self.contrast(*tilt.tensor_split([count])) + size
        positive, negative = (base + tilt).detach().tensor_split([count])
        return LossTerms(total, positive, negative, tilt.detach()), None

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
