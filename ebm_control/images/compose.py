"""Composition: images that have several independent attributes, by a sum of energies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ebm_control.checks import require, require_number, require_shape
from ebm_control.energies.base import Energy, Sum
from ebm_control.energies.image import ImageEnergy
from ebm_control.energies.noise import Given
from ebm_control.images.sampling import starts_for
from ebm_control.samplers.chain import Sampler
from ebm_control.samplers.recipes import image_sampler
from ebm_control.tensors import generator_on


def has(energy: ImageEnergy, attribute: int) -> Given:
    """The energy of images that have the value `attribute`, which the conditional energy was trained on.

    Such energies are combined by `+`, `-` and `mixture`: both, not, either (Du, Li & Mordatch 2020).

    Raises:
        InputError: the energy has no classes, or `attribute` is not one of them.

    """
    require(energy.classes > 0, "energy", given="no classes", expected="a conditional one")
    require_number("attribute", attribute, 0, energy.classes - 1, whole=True)
    return Given(energy, one_hot(torch.tensor(attribute), energy.classes).to(energy.mean))


def anything(energy: ImageEnergy) -> Given:
    """The energy of all images, whatever their attribute."""
    return Given(energy, energy.mean.new_zeros(energy.classes))


def all_of(
    energies: Sequence[ImageEnergy], attributes: Tensor, *, common: float = 1.0, strength: float = 1.0
) -> Energy:
    """Images that have one attribute of each energy.

    `Σ_i E_i(x | a_i) - common Σ_{i>0} E_i(x) + (strength - 1) Σ_i (E_i(x | a_i) - E_i(x))`.

    By Bayes' rule, for attributes that are independent given the image: `p(x | a, b) ∝ p(x | a) p(x | b) / p(x)`. With
    `common=1` the unconditional energy counts once; with 0 it counts as often as there are energies.

    Args:
        energies: conditional, each on its own attribute; they may be trained separately, even on different sets.
        attributes: `(B, len(energies))` values for each image.
        common: share of the unconditional energies that is subtracted.
        strength: weight of the conditional against the unconditional energies, as in classifier-free guidance (Ho &
            Salimans 2022). An exact energy gives no density to combinations that were not in its data; values above
            1 give each attribute more weight than that.

    Raises:
        InputError: an attribute is not a class of its energy.

    """
    require(len(energies) > 0, "energies", given="none", expected="at least one")
    require_number("common", common, 0)
    require_number("strength", strength, 0)
    require_shape("attributes", attributes, (None, len(energies)))
    whole = not attributes.is_floating_point() and not attributes.is_complex()
    require(whole, "attributes", given=attributes.dtype, expected="integers")
    terms: list[Energy] = []
    for i, energy in enumerate(energies):
        asked = attributes[:, i].long()
        inside = bool(((asked >= 0) & (asked < energy.classes)).all())
        require(
            inside, "attributes", given=asked.tolist(), expected=f"0 to {energy.classes - 1} in column {i}"
        )
        terms.append(strength * Given(energy, one_hot(asked, energy.classes).to(energy.mean)))
        taken = strength - 1 + (common if i else 0.0)
        if taken:
            terms.append(-taken * anything(energy))
    return Sum(terms)


def compose(
    energies: Sequence[ImageEnergy],
    attributes: Tensor,
    *,
    common: float = 1.0,
    strength: float = 1.0,
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw images that have one attribute of each energy: `(B, C, H, W)` in [0, 1].

    Args:
        energies: see `all_of`.
        attributes: see `all_of`.
        common: see `all_of`.
        strength: see `all_of`.
        sampler: None for that of the first energy, with Langevin corrections at each noise level: except at the
            lowest level, the sum of noised energies is not the energy of the noised product (Du et al. 2023).
        generator: source of noise; None seeds from the system.

    """
    whole = all_of(energies, attributes, common=common, strength=strength)
    first = energies[0]
    generator = generator_on(first.mean.device, generator)
    start = starts_for(first, len(attributes), generator)
    sampler = sampler or image_sampler(first, 40, corrections=3)
    return sampler(whole, start, generator=generator).x.clamp(0, 1)
