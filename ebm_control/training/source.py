"""Where a trainer's objective gets its samples from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ebm_control.checks import require
from ebm_control.data.batch import Batch
from ebm_control.samplers.chain import Chain, KernelSampler

if TYPE_CHECKING:
    from ebm_control.training.trainer import Trainer


@dataclass(frozen=True)
class TrainerSource:
    """A trainer's samples for one batch; see `losses.Source`."""

    trainer: Trainer
    batch: Batch

    @property
    def fixed(self) -> Tensor | None:
        """See `losses.Source`."""
        return self.trainer.fixed

    @property
    def generator(self) -> torch.Generator:
        """See `losses.Source`."""
        return self.trainer.generator

    def chains(self) -> Chain:
        """See `losses.Source`."""
        trainer, batch = self.trainer, self.batch
        start, slots = trainer.buffer.draw(len(batch.x), trainer.generator, slots=batch.index, data=batch.x)
        if trainer.fixed is not None:
            start = torch.where(trainer.fixed, batch.x, start)
        chain = trainer.sampler(
            trainer.energy, start, fixed=trainer.fixed, context=batch.context, generator=trainer.generator
        )
        trainer.buffer.store(slots, chain.x)
        return chain

    def further(self, x: Tensor) -> Tensor:
        """See `losses.Source`."""
        sampler = self.trainer.sampler
        require(
            isinstance(sampler, KernelSampler),
            "sampler",
            given=type(sampler).__name__,
            expected="one with steps",
        )
        assert isinstance(sampler, KernelSampler)
        return sampler.further(
            self.trainer.energy,
            x,
            fixed=self.trainer.fixed,
            context=self.batch.context,
            generator=self.trainer.generator,
        )

    def planned(self) -> Batch | None:
        """See `losses.Source`."""
        trainer = self.trainer
        return None if trainer.planned is None else trainer.planned(trainer.step, self.batch)
