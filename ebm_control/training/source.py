"""The source of an objective's negatives during training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ebm_control.checks import require
from ebm_control.data.batch import Batch
from ebm_control.samplers.chain import Chain, KernelSampler
from ebm_control.training.negatives import drawn_from

if TYPE_CHECKING:
    from ebm_control.training.trainer import Trainer


@dataclass(frozen=True)
class TrainerSource:
    """A trainer's samples for one batch; implements `objectives.contrastive.Source`."""

    trainer: Trainer
    batch: Batch

    @property
    def fixed(self) -> Tensor | None:
        """Coordinates that samples share with their data."""
        return self.trainer.fixed

    @property
    def generator(self) -> torch.Generator:
        """Random generator of all noise."""
        return self.trainer.generator

    def chains(self) -> Chain:
        """Samples of the model, one per datum, from the sample buffer."""
        trainer, batch = self.trainer, self.batch
        start, slots = trainer.sample_buffer.draw(
            len(batch.x), trainer.generator, slots=batch.index, data=batch.x
        )
        if trainer.fixed is not None:
            start = torch.where(trainer.fixed, batch.x, start)
        chain = trainer.sampler(
            trainer.energy, start, fixed=trainer.fixed, context=batch.context, generator=trainer.generator
        )
        trainer.sample_buffer.store(slots, chain.x)
        return chain

    def differentiable_step(self, x: Tensor) -> Tensor:
        """Samples after one more step, differentiable with respect to the energy's parameters."""
        sampler = self.trainer.sampler
        require(
            isinstance(sampler, KernelSampler),
            "sampler",
            given=type(sampler).__name__,
            expected="one with steps",
        )
        assert isinstance(sampler, KernelSampler)
        return sampler.differentiable_step(
            self.trainer.energy,
            x,
            fixed=self.trainer.fixed,
            context=self.batch.context,
            generator=self.trainer.generator,
        )

    def extra_negatives(self) -> Batch | None:
        """Further negatives of all sources, or None."""
        trainer = self.trainer
        return drawn_from(trainer.extra_negatives, trainer.step, self.batch)
