"""Class-conditional energies by contrastive divergence with a sample buffer (Du & Mordatch 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebm_control.checks import require, require_number, require_seed
from ebm_control.continual.generative import ClassEnergies
from ebm_control.continual.learners import Learner
from ebm_control.continual.networks import GatedEnergy
from ebm_control.data.batch import Batch
from ebm_control.data.streams import StreamBatch
from ebm_control.images.classify import parameters_of
from ebm_control.samplers.recipes import cold_langevin
from ebm_control.training.objectives.contrastive import ContrastiveDivergence
from ebm_control.training.sample_buffer import SampleBuffer, uniform
from ebm_control.training.trainer import Trainer


class Divergence(Learner):
    """Class-conditional energies by contrastive divergence (Du & Mordatch 2019); predicts the class of least energy.

    Chains are conditioned on the classes of the batch, wherever in the buffer they start. Samples of earlier classes
    left in the buffer so become negative samples of the new classes, although no image of theirs is stored.

    Args:
        energy: one network for all classes, as in the paper, or one per class.
        learning_rate: learning rate of Adam, without momentum.
        steps: Langevin steps of each chain per update.
        chains: number of chains in the sample buffer.
        energy_l2: weight of the squared energy, which keeps the energies of all classes near 0 and so comparable.
        data_noise: std of the Gaussian noise added to training images.
        seed: seed of chains and noise.

    """

    def __init__(
        self,
        energy: GatedEnergy | ClassEnergies,
        *,
        learning_rate: float = 1e-4,
        steps: int = 10,
        chains: int = 8192,
        energy_l2: float = 0.1,
        data_noise: float = 0.03,
        seed: int = 0,
    ) -> None:
        plain = not isinstance(energy, ClassEnergies) or energy.noise is None
        require(plain, "energy", given="one of noised images", expected="one of images as they are")
        require_number("learning_rate", learning_rate, 0, above=True)
        require_number("steps", steps, 1, whole=True)
        require_number("chains", chains, 1, whole=True)
        require_number("data_noise", data_noise, 0)
        require_seed("seed", seed)
        self.energy, self.data_noise = energy, data_noise
        self._noise = torch.Generator().manual_seed(int(seed) + 1)
        self._seen = torch.zeros(energy.classes, dtype=torch.bool)
        self.trainer = Trainer(
            energy,
            cold_langevin(steps),
            SampleBuffer(chains, energy.shape, uniform()),
            ContrastiveDivergence(energy_l2),
            torch.optim.Adam(energy.parameters(), lr=learning_rate, betas=(0.0, 0.999), fused=True),
            ema=0.0,
            seed=seed,
        )

    @property
    def parameters(self) -> int:
        """Number of weights of the energies of all classes."""
        return parameters_of(self.energy)

    def observe(self, batch: StreamBatch) -> float:
        """One update with one chain per image; returns its loss."""
        self._seen[batch.labels] = True
        condition = nn.functional.one_hot(batch.labels, self.energy.classes).to(batch.x)
        noise = torch.randn(batch.x.shape, generator=self._noise)
        return self.trainer.update(Batch(batch.x + self.data_noise * noise, condition))

    def logits(self, x: Tensor) -> Tensor:
        """Negative energies `(B, classes)`; minus infinity for classes that were not observed yet."""
        return self.energy.logits(x, self._seen)
