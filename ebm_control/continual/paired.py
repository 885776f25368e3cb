"""Discriminative with generative energies: generative replay, or a weighted sum of both."""

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
    """A memory of generated images: of added images it uses only the classes, and samples each class once.

    Args:
        source: learner whose energies are sampled.
        per_class: samples per class.
        seed: seed of the samples.

    """

    needs_boundaries = True

    def __init__(self, source: Generative, per_class: int, seed: int = 0) -> None:
        require_number("per_class", per_class, 1, whole=True)
        super().__init__(per_class * source.energy.classes, seed)
        self.source, self.per_class = source, per_class
        self._noise = torch.Generator().manual_seed(int(seed) + 1)

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Sample images of every class among `labels` `(B,)`; `images` are ignored."""
        del images
        known = set(self.classes.tolist()) if len(self) else set()
        for label in sorted(set(labels.tolist()) - known):
            drawn = generate(self.source.energy.of(label), self.per_class, generator=self._noise).x
            super().add(drawn, labels.new_full((self.per_class,), label))


class Paired(Learner):
    """A learner combined with generative energies, both trained on the same batches.

    The learner may replay their samples (`Dreams` as its memory, after Shin et al. 2017), and their logits may be added
    to its own, which is a product of two experts.

    Args:
        learner: discriminative learner.
        source: generative energies of the classes.
        weight: weight of the logits of `source` in the sum; 0 for only the learner.

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
        """Whether the learner needs them, as it does with a memory of `Dreams`."""
        return self.learner.needs_boundaries

    def observe(self, batch: StreamBatch) -> float:
        """One update of each; returns the learner's loss."""
        self.source.observe(batch)
        return self.learner.observe(batch)

    def logits(self, x: Tensor) -> Tensor:
        """Logits `(B, classes)` of the learner plus `weight` times those of the generative energies."""
        found = self.learner.logits(x)
        return found + self.weight * self.source.logits(x) if self.weight else found

    def finish_task(self, images: Tensor, labels: Tensor) -> None:
        """A task has ended: the learner fills its memory, with generated images if that is `Dreams`."""
        self.learner.finish_task(images, labels)
