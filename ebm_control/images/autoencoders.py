"""Autoencoders with about as many weights as an energy: baselines for image energies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ebm_control.checks import require, require_number, require_seed, require_widths
from ebm_control.data.batch import Batch
from ebm_control.data.images import ImageBatches, ImageSet
from ebm_control.images.detect import in_parts
from ebm_control.tensors import ordinary_tensors
from ebm_control.training.logger import Logger
from ebm_control.training.regression import regress, seeded

Spoil = Callable[
    [Tensor, torch.Generator], tuple[Tensor, Tensor]
]  # images to corrupted images and a mask of the intact pixels


class Autoencoder(nn.Module):
    """Convolutions down to a code and up again.

    Args:
        shape: shape (C, H, W) of one image.
        code: length of the code.
        width: channels of the first layer; the second has twice as many.
        variational: the encoder gives mean and log variance of the code (Kingma & Welling 2014).
        masked: the mask of known pixels is a further input, in channels of its own.

    """

    @ordinary_tensors()
    def __init__(
        self,
        shape: tuple[int, int, int],
        code: int = 32,
        width: int = 32,
        *,
        variational: bool = False,
        masked: bool = False,
    ) -> None:
        super().__init__()
        require_widths("shape", shape, least=3)
        require_number("code", code, 1, whole=True)
        require_number("width", width, 1, whole=True)
        channels, height, wide = shape
        require(height % 4 == wide % 4 == 0, "shape", given=shape, expected="sides that are multiples of 4")
        self.shape, self.code, self.variational, self.masked = shape, code, variational, masked
        self.down = nn.Sequential(
            nn.Conv2d(channels * (1 + masked), width, 4, 2, 1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.SiLU(),
            nn.Flatten(),
        )
        self.small = (2 * width, height // 4, wide // 4)
        flat = 2 * width * (height // 4) * (wide // 4)
        self.encode = nn.Linear(flat, code * (1 + variational))
        self.decode = nn.Linear(code, flat)
        self.up = nn.Sequential(
            nn.SiLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(width, channels, 4, 2, 1),
        )

    def encoded(self, images: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Code `(N, code)` of images in [0, 1], and its log variance if it has one."""
        parts = [2 * images - 1]
        if self.masked:
            mask = torch.ones_like(images) if known is None else known.expand_as(images).to(images)
            parts = [torch.where(mask > 0, 2 * images - 1, 0.0), mask]
        found = self.encode(self.down(torch.cat(parts, dim=1)))
        if not self.variational:
            return found, None
        mean, log_variance = found.chunk(2, dim=1)
        return mean, log_variance

    def decoded(self, code: Tensor) -> Tensor:
        """Logits of pixels, `(N, C, H, W)`."""
        return self.up(self.decode(code).unflatten(1, self.small))

    def forward(self, images: Tensor, known: Tensor | None = None) -> Tensor:
        """Reconstructed images, `(N, C, H, W)` in [0, 1]."""
        return self.decoded(self.encoded(images, known)[0]).sigmoid()


@dataclass(frozen=True)
class AutoencoderSettings:
    """How an autoencoder is trained.

    Args:
        code: length of the code.
        width: channels of the first layer.
        updates: number of Adam updates; the learning rate falls to 0 along a cosine.
        batch_size: images per update.
        learning_rate: initial learning rate.
        beta: weight of the KL divergence of a variational autoencoder.
        seed: seed of weights, batches and noise.

    """

    code: int = 32
    width: int = 32
    updates: int = 3000
    batch_size: int = 128
    learning_rate: float = 1e-3
    beta: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("code", "width", "updates", "batch_size"):
            require_number(name, getattr(self, name), 1, whole=True)
        require_number("learning_rate", self.learning_rate, 0, above=True)
        require_number("beta", self.beta, 0)
        require_seed("seed", self.seed)


def fit_autoencoder(
    data: ImageSet,
    settings: AutoencoderSettings | None = None,
    *,
    variational: bool = False,
    spoil: Spoil | None = None,
    progress: bool = True,
    device: torch.device | str = "cpu",
) -> Autoencoder:
    """Train an autoencoder: plain, variational, or denoising, which undoes what `spoil` does to images.

    Args:
        data: see `load_images`.
        settings: see `AutoencoderSettings`.
        variational: maximise the evidence lower bound, with pixels as probabilities.
        spoil: maps images `(B, C, H, W)` to corrupted images and a boolean mask of the intact pixels.
        progress: show a progress bar; without a terminal, print a line per minute on stderr.
        device: where to train.

    """
    settings = settings or AutoencoderSettings()
    with seeded(settings.seed):
        made = Autoencoder(
            data.shape, settings.code, settings.width, variational=variational, masked=spoil is not None
        ).to(device)
    generator = torch.Generator(device).manual_seed(settings.seed + 2)
    batches = ImageBatches(
        data.images, settings.batch_size, dequantize=False, seed=settings.seed + 1, device=device
    )

    def loss(drawn: Batch) -> Tensor:
        x, known = drawn.x, None
        if spoil is not None:
            x, known = spoil(drawn.x, generator)
        code, log_variance = made.encoded(x, known)
        if log_variance is None:
            return (made.decoded(code).sigmoid() - drawn.x).square().mean()
        noise = torch.randn(code.shape, generator=generator, device=code.device, dtype=code.dtype)
        logits = made.decoded(code + (0.5 * log_variance).exp() * noise)
        error = functional.binary_cross_entropy_with_logits(logits, drawn.x, reduction="none").flatten(1)
        spread = 0.5 * (code.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        return (error.sum(dim=1) + settings.beta * spread).mean() / error.shape[1]

    regress(
        made.parameters(),
        loss,
        batches,
        settings.updates,
        learning_rate=settings.learning_rate,
        logger=Logger(progress=progress),
        name="autoencoder",
    )
    made.eval().requires_grad_(False)
    return made


@torch.no_grad()
def samples_of(model: Autoencoder, count: int, generator: torch.Generator) -> Tensor:
    """Mean images `(count, C, H, W)` of a variational autoencoder for codes drawn from a standard normal."""
    require_number("count", count, 1, whole=True)
    code = torch.randn((count, model.code), generator=generator, device=generator.device, dtype=torch.float32)
    return model.decoded(code).sigmoid()


def reconstruction_score(model: Autoencoder) -> Callable[[Tensor], Tensor]:
    """Outlier score of images: mean squared reconstruction error, `(N,)`."""

    def score(images: Tensor) -> Tensor:
        return in_parts(lambda part: (model(part) - part).square().flatten(1).mean(dim=1), images)

    return score
