"""Generative energies: one per class; the predicted class is the one whose energy explains the image best."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ebm_control.checks import require, require_is, require_levels, require_number, require_seed
from ebm_control.continual.learners import Learner
from ebm_control.data.batch import Batch
from ebm_control.data.streams import StreamBatch
from ebm_control.energies import ImageEnergy
from ebm_control.energies.base import SplitEnergy
from ebm_control.energies.networks import MLP
from ebm_control.images.classify import parameters_of
from ebm_control.samplers.langevin import Langevin
from ebm_control.training.objectives.score_matching import DenoisingScoreMatching
from ebm_control.training.regression import seeded
from ebm_control.training.sample_buffer import SampleBuffer, uniform
from ebm_control.training.trainer import Trainer

Shape = tuple[int, int, int]
NOISE = (0.1, 1.0)
BASE_IMAGES = 500  # images of a class to which its Gaussian base is fitted


class InnerProduct(nn.Module):
    """`⟨x, g(x, σ)⟩` with a perceptron g: `(B, C, H, W)` and `(B, 1)` to `(B, 1)`; see `UNet`.

    With few hidden units g spans few directions, but noise spans all. A gain per pixel models the remaining noise.

    Args:
        shape: shape (C, H, W) of one image.
        width: units of each of its two hidden layers.

    """

    def __init__(self, shape: Shape, width: int = 64) -> None:
        super().__init__()
        size = math.prod(shape)
        self.network = MLP(size + 1, (width, width), size)
        self.gain = MLP(1, (8,), size)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Values `(B, 1)` of images `x` `(B, C, H, W)`; `condition` `(B, 1)` is log σ."""
        flat = x.flatten(1)
        made = self.network(torch.cat([flat, condition], dim=1)) + self.gain(condition) * flat
        return (flat * made).sum(dim=1, keepdim=True)


class _Plain(nn.Module):
    """An unconditional perceptron of images: `(B, C, H, W)` and `(B, 0)` to `(B, 1)`."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.network = MLP(math.prod(shape), (width, width), 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        del condition
        return self.network(x.flatten(1))


class ClassEnergies(SplitEnergy):
    """One energy per class, `E_y(x)` or with noise levels `E_y(x, σ)`. No weights are shared, so nothing is forgotten.

    The context is the one-hot class, followed by log σ if there are noise levels, as for a conditional `ImageEnergy`
    with one shared network.

    Args:
        shape: shape (C, H, W) of one image.
        classes: number of energies.
        width: hidden units of each network.
        noise: lowest and highest noise level; None for energies without noise levels.

    """

    def __init__(
        self, shape: Shape, classes: int, width: int = 64, noise: tuple[float, float] | None = NOISE
    ) -> None:
        super().__init__()
        require_number("classes", classes, 1, whole=True)
        require_number("width", width, 1, whole=True)
        if noise is not None:
            require_levels("noise", noise)
        self.shape, self.classes, self.noise = shape, classes, noise
        made = _Plain if noise is None else InnerProduct
        self.energies = nn.ModuleList(
            ImageEnergy(made(shape, width), shape, noise=noise) for _ in range(classes)
        )

    def of(self, label: int) -> ImageEnergy:
        """The energy of images of the class `label`; its context is the noise level, if any."""
        return require_is(self.energies[label], ImageEnergy, "energies")

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base and network part of the energy of the image's class, `(B,)` each; the context is that of the class."""
        wide = self.classes + (self.noise is not None)
        expected = f"classes{'' if self.noise is None else ' and log σ'}, ({len(x)}, {wide})"
        fits = context is not None and context.shape == (len(x), wide)
        given = None if context is None else tuple(context.shape)
        require(fits, "context", given=given, expected=expected)
        assert context is not None
        labels = context[:, : self.classes].argmax(dim=1)
        base, tilt = x.new_zeros(len(x)), x.new_zeros(len(x))
        for label in labels.unique().tolist():
            rows = (labels == label).nonzero()[:, 0]
            of_base, of_tilt = self.of(label).split(x[rows], context[rows, self.classes :])
            base, tilt = base.index_add(0, rows, of_base), tilt.index_add(0, rows, of_tilt)
        return base, tilt

    def logits(self, x: Tensor, among: Tensor) -> Tensor:
        """Negative energies `(B, classes)`, without noise levels; minus infinity outside of `among` `(classes,)`."""
        require(self.noise is None, "energy", given=f"noise levels {self.noise}", expected="none")
        found = x.new_full((len(x), self.classes), float("-inf"))
        for label in among.nonzero()[:, 0].tolist():
            found[:, label] = -self.of(label)(x)
        return found


class Generative(Learner):
    """Class energies by denoising score matching; predicts the class whose gradient denoises the image best.

    `∫ E |σ ∇E_y(x + σ ε, σ) - ε|² d log σ` over all σ bounds `-log p(x | y)` up to a shared constant, so it compares
    classes that were never trained together. The energies themselves do not: each has a constant of its own. Here the
    integral is cut off at the lowest and highest level (Li et al. 2023 classify so with diffusion models).

    Args:
        shape: shape (C, H, W) of one image.
        classes: number of classes.
        width: hidden units of each class's network.
        learning_rate: learning rate of Adam.
        noise: lowest and highest noise level.
        levels: number of noise levels used for classification, with one draw of noise each.
        seed: seed of weights and noise.

    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        *,
        width: int = 64,
        learning_rate: float = 1e-3,
        noise: tuple[float, float] = NOISE,
        levels: int = 4,
        seed: int = 0,
    ) -> None:
        require_number("levels", levels, 1, whole=True)
        require_number("learning_rate", learning_rate, 0, above=True)
        require_seed("seed", seed)
        with seeded(seed):
            self.energy = ClassEnergies(shape, classes, width, noise)
        self._seen = torch.zeros(classes, dtype=torch.bool)
        self._moments = torch.zeros(classes, 2, *shape)  # sums of pixels and of their squares
        self._counts = torch.zeros(classes)
        low, high = noise
        self.levels = [low * (high / low) ** ((i + 0.5) / levels) for i in range(levels)]
        self._noise = torch.randn((levels, *shape), generator=torch.Generator().manual_seed(int(seed) + 1))
        self.trainer = Trainer(
            self.energy,
            Langevin(1, 1.0),
            SampleBuffer(1, shape, uniform()),
            DenoisingScoreMatching(*noise),
            torch.optim.Adam(self.energy.parameters(), lr=learning_rate, fused=True),
            ema=0.0,
            seed=seed + 2,
        )

    @property
    def parameters(self) -> int:
        """Number of weights of the energies of all classes."""
        return parameters_of(self.energy)

    def observe(self, batch: StreamBatch) -> float:
        """One update of the energies of the batch's classes; returns its loss."""
        for label in batch.labels.unique().tolist():
            if self._counts[label] < BASE_IMAGES:
                self._fit_base(label, batch.x[batch.labels == label])
        self._seen[batch.labels] = True
        condition = nn.functional.one_hot(batch.labels, self.energy.classes).to(batch.x)
        return self.trainer.update(Batch(batch.x, condition))

    def _fit_base(self, label: int, x: Tensor) -> None:
        """Fit mean and std of the base to the class's first images (at least two), which are not stored."""
        self._counts[label] += len(x)
        self._moments[label] += torch.stack([x.sum(dim=0), x.square().sum(dim=0)])
        if self._counts[label] >= 2:
            mean, squares = self._moments[label] / self._counts[label]
            base = self.energy.of(label)
            base.mean.copy_(mean)
            base.std.copy_((squares - mean.square()).mean().clamp(min=0.01).sqrt())

    def logits(self, x: Tensor) -> Tensor:
        """Negative denoising errors `(B, classes)`; minus infinity for classes that were not observed yet."""
        found = torch.full((len(x), self.energy.classes), float("-inf"))
        for label in self._seen.nonzero()[:, 0].tolist():
            found[:, label] = -self._error(x, self.energy.of(label))
        return found

    def _error(self, x: Tensor, energy: ImageEnergy) -> Tensor:
        total = x.new_zeros(len(x))
        for level, noise in zip(self.levels, self._noise, strict=True):
            context = x.new_full((len(x), 1), math.log(level))
            with torch.enable_grad():
                noised = (x + level * noise).requires_grad_()
                (gradient,) = torch.autograd.grad(energy(noised, context).sum(), noised)
            total += (level * gradient - noise).square().flatten(1).sum(dim=1)
        return total
