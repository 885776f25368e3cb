"""Restoration: missing or corrupted pixels of an image, sampled given the others."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import require, require_finite, require_mask, require_number, require_shape
from ebm_control.energies.image import ImageEnergy
from ebm_control.energies.noise import Observed
from ebm_control.images.pixels import pixels
from ebm_control.images.sampling import labelled, starts_for
from ebm_control.samplers.chain import Sampler
from ebm_control.samplers.langevin import Langevin
from ebm_control.samplers.recipes import image_sampler
from ebm_control.tensors import generator_on


def inpaint(
    energy: ImageEnergy,
    images: Tensor | ArrayLike,
    known: Tensor,
    *,
    fills: int = 1,
    labels: Tensor | None = None,
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sample the unknown pixels of images given the known ones.

    An energy without noise levels is sampled with the known pixels fixed; one with noise levels with `Observed`.

    Args:
        energy: trained.
        images: `(N, C, H, W)`; unknown pixels are ignored.
        known: boolean mask, `(C, H, W)` or `(N, C, H, W)`.
        fills: samples per image, K.
        labels: `(N,)` classes, for a conditional energy; None for any class.
        sampler: None for `image_sampler(energy)`, with corrections at each noise level.
        generator: source of noise; None seeds from the system.

    Returns:
        `(N, K, C, H, W)`, in [0, 1]; known pixels are those of `images`, bit for bit.

    Raises:
        InputError: a shape or type does not fit, or a known pixel is not in [0, 1].

    """
    images = pixels("images", images, energy.shape, finite=False, device=energy.mean.device)
    require_number("fills", fills, 1, whole=True)
    require_mask("known", known)
    if labels is not None:
        require_shape("labels", labels, (len(images),))
    require(
        known.shape in (images.shape, images.shape[1:]),
        "known",
        given=f"shape {tuple(known.shape)}",
        expected=f"{tuple(images.shape)} or one mask for all",
    )
    known = known.to(images.device).expand_as(images)
    values = torch.where(known, images, torch.zeros_like(images))
    require_finite("images", values)
    low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
    within = low >= 0 and high <= 1
    require(within, "images", given=f"known ones from {low:g} to {high:g}", expected="known pixels in [0, 1]")
    generator = generator_on(images.device, generator)
    mask, values = (part.repeat_interleave(fills, dim=0) for part in (known, values))
    each = None if labels is None else labels.repeat_interleave(fills, dim=0)
    conditioned = labelled(energy, each, len(values))
    start = starts_for(energy, len(values), generator).to(images)
    sampler = sampler or image_sampler(energy, 40, corrections=2)
    if energy.noise is None:
        start = torch.where(mask, values, start)
        filled = sampler(conditioned, start, fixed=mask, generator=generator).x
    else:
        filled = sampler(Observed(conditioned, mask, values), start, generator=generator).x
    return torch.where(mask, values, filled.clamp(0, 1)).unflatten(0, (len(images), fills))


def denoise(
    energy: ImageEnergy,
    images: Tensor | ArrayLike,
    std: float,
    *,
    steps: int = 30,
    labels: Tensor | None = None,
) -> Tensor:
    """Remove Gaussian noise of a known std from images: `(N, C, H, W)` in [0, 1].

    An energy with noise levels gives the posterior mean `y - σ² ∇E(y, σ)` (Tweedie's formula), which is one Langevin
    step without noise. An energy without them is descended.

    Args:
        energy: trained.
        images: `(N, C, H, W)` with noise, not clipped to [0, 1].
        std: standard deviation of the noise.
        steps: descent steps, for an energy without noise levels.
        labels: `(N,)` classes, for a conditional energy.

    Raises:
        InputError: a shape or type does not fit, a pixel is not finite, a value is out of range, or `std` is outside
            the energy's noise levels.

    """
    images = pixels("images", images, energy.shape, device=energy.mean.device)
    require_number("std", std, 0, above=True)
    require_number("steps", steps, 0, whole=True)
    conditioned = labelled(energy, labels, len(images))
    if energy.noise is None:
        return _downhill(steps)(conditioned, images.clamp(0, 1)).x
    low, high = energy.noise
    require_number("std", std, low, high)
    once = Langevin(1, std**2, noise=0.0)
    level = torch.full((len(images), 1), std, device=images.device, dtype=images.dtype).log()
    return once(conditioned, images, context=level).x.clamp(0, 1)


def suspects(
    energy: ImageEnergy, images: Tensor | ArrayLike, *, level: float = 0.2, beyond: float = 0.15
) -> Tensor:
    """Mask of pixels that differ much from the denoised image, boolean `(N, C, H, W)`.

    Args:
        energy: trained.
        images: `(N, C, H, W)`, some pixels corrupted.
        level: noise level for denoising, high enough that corrupted pixels are plausible.
        beyond: difference from the denoised image above which a pixel is suspect.

    """
    require_number("level", level, *(energy.noise or (0.0,)))
    require_number("beyond", beyond, 0)
    images = pixels("images", images, energy.shape, device=energy.mean.device)
    return (images - denoise(energy, images, level)).abs() > beyond


def restore(
    energy: ImageEnergy,
    images: Tensor | ArrayLike,
    *,
    fills: int = 4,
    steps: int = 30,
    level: float = 0.2,
    beyond: float = 0.15,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Repair corrupted pixels whose position and number are unknown: `(N, C, H, W)` in [0, 1].

    With noise levels, the energy marks suspect pixels and fills them with the mean of `fills` samples. Without them,
    the energy is descended from the corrupted image (Du & Mordatch 2019).

    Args:
        energy: trained.
        images: `(N, C, H, W)` in [0, 1], some pixels corrupted.
        fills: samples that are averaged.
        steps: descent steps, for an energy without noise levels.
        level: see `suspects`.
        beyond: see `suspects`.
        generator: source of noise; None seeds from the system.

    Raises:
        InputError: a shape or type does not fit, a pixel is not in [0, 1], or a value is out of range.

    """
    images = pixels("images", images, energy.shape, device=energy.mean.device)
    for name, value, least in (("fills", fills, 1), ("steps", steps, 0)):
        require_number(name, value, least, whole=True)
    require_number("level", level, 0, above=True)
    require_number("beyond", beyond, 0)
    if energy.noise is None:
        return _downhill(steps)(energy, images.clamp(0, 1)).x
    known = ~suspects(energy, images, level=level, beyond=beyond)
    return inpaint(energy, images, known, fills=fills, generator=generator).mean(dim=1)


def _downhill(steps: int) -> Langevin:
    return Langevin(steps, 10.0, noise=0.0, gradient_clip=0.01, clamp=(0.0, 1.0))


def bottom_half(shape: tuple[int, int, int]) -> Tensor:
    """Mask `(C, H, W)` of known pixels: the upper half."""
    known = torch.zeros(shape, dtype=torch.bool)
    known[:, : shape[1] // 2] = True
    return known


def random_pixels(
    count: int, shape: tuple[int, int, int], fraction: float, generator: torch.Generator
) -> Tensor:
    """Masks `(count, C, H, W)` of known pixels, a `fraction` of all; the same for all channels of a pixel."""
    require_number("count", count, 1, whole=True)
    require_number("fraction", fraction, 0, 1)
    _, height, width = shape
    known = torch.rand((count, 1, height, width), generator=generator, device=generator.device) < fraction
    return known.expand(-1, shape[0], -1, -1)


def salt_and_pepper(
    images: Tensor | ArrayLike,
    generator: torch.Generator,
    *,
    fraction: float = 0.05,
    dark: float = 0.1,
    bright: float = 0.9,
) -> Tensor:
    """Images with a `fraction` of the pixels set to `dark` and as many to `bright` (Du & Mordatch 2019).

    Args:
        images: `(N, C, H, W)` of floats; all channels of a pixel are set together.
        generator: random source, on the device of the images.
        fraction: fraction of all pixels that is set to `dark`, and the same for `bright`.
        dark: grey level of the dark pixels.
        bright: grey level of the bright pixels.

    Raises:
        InputError: images of another shape or type, a pixel that is not finite, or a value out of range.

    """
    images = pixels("images", images)
    require_number("fraction", fraction, 0, 0.5)
    generator = generator_on(images.device, generator)
    require_number("dark", dark, 0, 1)
    require_number("bright", bright, 0, 1)
    draw = torch.rand(images[:, :1].shape, generator=generator, device=images.device)
    spoilt = torch.where(draw < fraction, torch.full_like(images, dark), images)
    return torch.where(draw > 1 - fraction, torch.full_like(images, bright), spoilt)
