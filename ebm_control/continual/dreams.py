"""Generative replay: what is replayed of earlier classes was drawn from their energies, and no image is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.continual.generative import Generative
from ebm_control.continual.learners import Learner
from ebm_control.continual.memory import Memory
from ebm_control.data.streams import StreamBatch
from ebm_control.images import generate


class Dreams(Memory):
    """A memory of draws: of the images that it is given it keeps their classes alone.

    Args:
        source: whose energies are drawn from.
        per_class: draws of each class.
        seed: of them.

    """

    def __init__(self, source: Generative, per_class: int, seed: int = 0) -> None:
        super().__init__(per_class * source.energy.classes, seed)
        self.source, self.per_class = source, per_class
        self._noise = torch.Generator().manual_seed(seed)

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Draw images of every class there is among `labels`."""
        del images
        for label in labels.unique().tolist():
            drawn = generate(self.source.energy.of(label), self.per_class, generator=self._noise).x
            super().add(drawn, labels.new_full((self.per_class,), label))


class Dreaming(Learner):
    """A learner that replays draws from energies that learn beside it (after Shin et al. 2017).

    Args:
        learner: that tells classes; its memory is `Dreams` of `source`.
        source: energies of classes.

    """

    def __init__(self, learner: Learner, source: Generative) -> None:
        self.learner, self.source = learner, source

    def observe(self, batch: StreamBatch) -> float:
        """One update of each; the loss is the learner's."""
        self.source.observe(batch)
        return self.learner.observe(batch)

    def logits(self, x: Tensor) -> Tensor:
        """The learner's."""
        return self.learner.logits(x)

    def finish_task(self, images: Tensor, labels: Tensor) -> None:
        """Draw images of the task's classes, to be replayed from now on."""
        self.learner.finish_task(images, labels)
