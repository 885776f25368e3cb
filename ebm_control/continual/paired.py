"""Discriminative and generative energies side by side: the one replays draws of the other, or they are added up."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.checks import require_number
from ebm_control.continual.generative import Generative
from ebm_control.continual.learners import Learner
from ebm_control.continual.memory import Memory
from ebm_control.data.streams import StreamBatch
from ebm_control.images import generate


class Dreams(Memory):
    """A memory of draws: of the images that it is given it keeps their classes alone, which it draws once each.

    Args:
        source: whose energies are drawn from.
        per_class: draws of each class.
        seed: of them.

    """

    needs_boundaries = True

    def __init__(self, source: Generative, per_class: int, seed: int = 0) -> None:
        require_number("per_class", per_class, 1, whole=True)
        super().__init__(per_class * source.energy.classes, seed)
        self.source, self.per_class = source, per_class
        self._noise = torch.Generator().manual_seed(int(seed) + 1)

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Draw images of every class there is among `labels`."""
        del images
        known = set(self.classes.tolist()) if len(self) else set()
        for label in sorted(set(labels.tolist()) - known):
            drawn = generate(self.source.energy.of(label), self.per_class, generator=self._noise).x
            super().add(drawn, labels.new_full((self.per_class,), label))


class Paired(Learner):
    """A learner with generative energies beside it, which learn from the same batches.

    It may replay draws of theirs (`Dreams` as its memory: after Shin et al. 2017), and its energies and theirs may add
    up: the product of two experts.

    Args:
        learner: that tells classes.
        source: energies of classes.
        weight: of the errors of `source` among the learner's logits; 0 for the learner alone.

    """

    def __init__(self, learner: Learner, source: Generative, weight: float = 0.0) -> None:
        require_number("weight", weight, 0)
        self.learner, self.source, self.weight = learner, source, weight

    @property
    def parameters(self) -> int:
        """Number of weights of the learner and of the generative energies together."""
        return self.learner.parameters + self.source.parameters

    @property
    def needs_boundaries(self) -> bool:
        """Draws are taken when a task ends."""
        return self.learner.needs_boundaries

    def observe(self, batch: StreamBatch) -> float:
        """One update of each; the loss is the learner's."""
        self.source.observe(batch)
        return self.learner.observe(batch)

    def logits(self, x: Tensor) -> Tensor:
        """Logits `(B, classes)` of the learner, those of the energies added with their weight."""
        found = self.learner.logits(x)
        return found + self.weight * self.source.logits(x) if self.weight else found

    def finish_task(self, images: Tensor, labels: Tensor) -> None:
        """The learner's memory is filled: by draws, if it is one of `Dreams`."""
        self.learner.finish_task(images, labels)
