"""Classifiers: by a conditional energy, with or without refinement, and a plain network as a baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ebm_control.checks import require, require_floats, require_number, require_seed, require_shape
from ebm_control.data.batch import Batch
from ebm_control.data.images import ImageBatches, ImageSet
from ebm_control.energies.image import ImageEnergy, SmallCNN
from ebm_control.energies.noise import AtNoise
from ebm_control.samplers.langevin import Langevin
from ebm_control.training.logger import Logger
from ebm_control.training.regression import regress, seeded

Logits = Callable[[Tensor], Tensor]  # images `(N, C, H, W)` to `(N, classes)`
Perturb = Callable[[Logits, Tensor, Tensor], Tensor]  # classifier, images and labels to perturbed images


def energy_logits(energy: ImageEnergy, level: float | None = None) -> Logits:
    """Logits `-E(x | y)` of a conditional energy: `log p(y | x)` up to a constant.

    Args:
        energy: conditional.
        level: noise level at which the energy is evaluated, if it has noise levels; a high one ignores small details.

    Raises:
        InputError: the energy has no classes, or a level is missing, or given without noise levels.

    """
    _check(energy, level)

    def logits(images: Tensor) -> Tensor:
        return -energy.of_classes(images, level)

    return logits


def refined_logits(
    energy: ImageEnergy,
    radius: float,
    *,
    level: float | None = None,
    steps: int = 5,
    step_size: float | None = None,
) -> Logits:
    """Logits after the image has moved to lower energy, each pixel by at most `radius` (Du & Mordatch 2019).

    Gradients go through the refinement, so that an attack can differentiate all of it.

    Args:
        energy: conditional.
        radius: largest change of any pixel.
        level: noise level, see `energy_logits`.
        steps: number of Langevin steps, without noise.
        step_size: size of each step; None for σ² / 4 at a noise level, 1 without noise levels.

    Raises:
        InputError: the energy has no classes, or the level does not fit it; see `energy_logits`.

    """
    require_number("radius", radius, 0, above=True)
    require_number("steps", steps, 1, whole=True)
    logits = energy_logits(energy, level)
    if step_size is not None:
        require_number("step_size", step_size, 0, above=True)
    size = (1.0 if level is None else level**2 / 4) if step_size is None else step_size
    likely = energy if level is None else AtNoise(energy, level)

    def refined(images: Tensor) -> Tensor:
        ball = ((images - radius).clamp(min=-1e-6), (images + radius).clamp(max=1 + 1e-6))
        dynamics = Langevin(steps, size, noise=0.0, clamp=ball)
        return logits(dynamics.differentiable_step(likely, images, steps=steps))

    return refined


def _check(energy: ImageEnergy, level: float | None) -> None:
    require(energy.classes > 0, "energy", given="no classes", expected="a conditional one")
    noisy = energy.noise is not None
    known = "a noise level" if noisy else "None: the energy has no noise levels"
    require((level is not None) == noisy, "level", given=level, expected=known)
    if level is not None:
        require_number("level", level, 0, above=True)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network trained by cross-entropy, with the architecture and size of an energy's network.

    Attributes:
        network: `SmallCNN`.

    """

    network: SmallCNN

    def __call__(self, images: Tensor) -> Tensor:
        """Logits `(N, classes)` of images `(N, C, H, W)` in [0, 1]."""
        return self.network(2 * images - 1, images.new_zeros(len(images), 0))

    def features(self, images: Tensor) -> list[Tensor]:
        """Outputs of its layers on images, `(N, C_i, H_i, W_i)` each."""
        return self.network.layer_outputs(2 * images - 1, images.new_zeros(len(images), 0))

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of images `(N, C, H, W)` with labels `(N,)` that are classified correctly."""
        return accuracy(self, images, labels)


def fit_classifier(
    data: ImageSet,
    *,
    width: int = 32,
    updates: int = 2000,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    noise: float = 0.0,
    perturb: Perturb | None = None,
    seed: int = 0,
    progress: bool = True,
    device: torch.device | str = "cpu",
) -> Classifier:
    """Train a classifier by cross-entropy.

    Args:
        data: see `load_images`.
        width: channels of its first layer.
        updates: number of Adam updates; the learning rate falls to 0 along a cosine.
        batch_size: images per update.
        learning_rate: initial learning rate.
        noise: Gaussian noise on the images, with a std drawn uniformly from 0 up to this value.
        perturb: adversary for adversarial training (Madry et al. 2018), `lambda f, x, y: attacked(f, x, y, ...)`.
        seed: seed of weights and batches.
        progress: show a progress bar; without a terminal, print a line per minute on stderr.
        device: where to train.

    """
    for name, value in (("width", width), ("updates", updates), ("batch_size", batch_size)):
        require_number(name, value, 1, whole=True)
    require_number("learning_rate", learning_rate, 0, above=True)
    require_number("noise", noise, 0)
    require_seed("seed", seed)
    with seeded(seed):
        made = Classifier(SmallCNN(data.shape, data.classes, width).to(device))
    generator = torch.Generator(device).manual_seed(int(seed) + 2)
    batches = ImageBatches(
        data.images, batch_size, labels=data.labels, classes=data.classes, seed=seed + 1, device=device
    )

    def loss(drawn: Batch) -> Tensor:
        assert drawn.context is not None
        x, labels = _noised(drawn.x, noise, generator), drawn.context.argmax(dim=1)
        if perturb is not None:
            x = perturb(made, x, labels)
        return functional.cross_entropy(made(x), labels)

    regress(
        made.network.parameters(),
        loss,
        batches,
        updates,
        learning_rate=learning_rate,
        logger=Logger(progress=progress),
        name="classifier",
    )
    made.network.eval().requires_grad_(False)
    return made


def _noised(x: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Images with Gaussian noise, each with a std drawn uniformly from 0 up to `noise`; 0 draws nothing."""
    if not noise:
        return x
    level = noise * torch.rand((len(x), 1, 1, 1), generator=generator, device=x.device, dtype=x.dtype)
    return x + level * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


@torch.no_grad()
def accuracy(logits: Logits, images: Tensor, labels: Tensor, size: int = 512) -> float:
    """Share of images `(N, C, H, W)` whose greatest logit is that of their label `(N,)`."""
    require_floats("images", images)
    require(len(images) > 0, "images", given="none", expected="some")
    require_shape("labels", labels, (len(images),))
    parts = zip(images.split(size), labels.split(size), strict=True)
    right = [(logits(part).argmax(dim=1) == truth).sum() for part, truth in parts]
    return float(torch.stack(right).sum()) / len(images)


def parameters_of(network: nn.Module) -> int:
    """Number of weights of a network."""
    return sum(parameter.numel() for parameter in network.parameters())
