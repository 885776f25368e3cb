"""Images drawn from an energy: one sampler call."""

from __future__ import annotations

from dataclasses import replace

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import require, require_number, require_shape
from ebm_control.energies.base import Energy
from ebm_control.energies.image import ImageEnergy
from ebm_control.energies.noise import Given
from ebm_control.images.pixels import pixels
from ebm_control.samplers.chain import Chain, Sampler
from ebm_control.samplers.recipes import image_sampler
from ebm_control.tensors import generator_on


def starts_for(energy: ImageEnergy, count: int, generator: torch.Generator) -> Tensor:
    """Initial states of `image_sampler`'s chains, `(count, C, H, W)`: the mean image, or uniform noise."""
    if energy.noise is not None:
        return energy.mean.expand(count, -1, -1, -1).clone()
    place = energy.mean.device
    return torch.rand((count, *energy.shape), generator=generator, device=place, dtype=torch.float32)


def labelled(energy: ImageEnergy, labels: Tensor | None, count: int) -> Energy:
    """The energy conditioned on classes `(count,)`; without labels, the energy of all classes.

    Raises:
        InputError: labels for an energy without classes, labels out of range, or not `count` labels.

    """
    if labels is None:
        return energy
    require_shape("labels", labels, (count,))
    whole = not labels.is_floating_point() and not labels.is_complex()
    require(whole, "labels", given=labels.dtype, expected="integers")
    require(energy.classes > 0, "labels", given="some", expected="None: the energy has no classes")
    inside = bool(((labels >= 0) & (labels < energy.classes)).all())
    require(inside, "labels", given=labels.tolist(), expected=f"classes 0 to {energy.classes - 1}")
    condition = torch.nn.functional.one_hot(labels.long(), energy.classes)
    return Given(energy, condition.to(energy.mean))


def generate(
    energy: ImageEnergy,
    count: int,
    *,
    labels: Tensor | None = None,
    sampler: Sampler | None = None,
    start: Tensor | ArrayLike | None = None,
    generator: torch.Generator | None = None,
    trace: int = 0,
) -> Chain:
    """Draw images.

    Args:
        energy: trained.
        count: images.
        labels: `(count,)` their classes, for a conditional energy; None for any class.
        sampler: None for `image_sampler(energy)`.
        start: `(count, C, H, W)` initial states, such as images of a sample buffer; None for `starts_for`.
        generator: source of noise; None seeds from the system.
        trace: store every `trace`-th state of the chains.

    Returns:
        A chain whose images, and those of its trace, are clipped to [0, 1].

    Raises:
        InputError: a shape does not fit.

    """
    require_number("count", count, 1, whole=True)
    generator = generator_on(energy.mean.device, generator)
    if start is None:
        start = starts_for(energy, count, generator)
    start = pixels("start", start, energy.shape, device=energy.mean.device)
    require_shape("start", start, (count, *energy.shape))
    chain = (sampler or image_sampler(energy))(
        labelled(energy, labels, count), start, generator=generator, trace=trace
    )
    kept = None if chain.trace is None else chain.trace.clamp(0, 1)
    return replace(chain, x=chain.x.clamp(0, 1), trace=kept)
