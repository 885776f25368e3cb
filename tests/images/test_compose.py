"""Energies of attributes, combined: sums by hand, and laws that are known."""

import pytest
import torch
from torch.nn.functional import one_hot

from ebm_control.checks import InputError
from ebm_control.energies import mixture
from ebm_control.images import all_of, anything, compose, has
from tests.helpers import assert_equal_up_to_rounding, seeded
from tests.images.helpers import DEVIATION, SHAPE, at, bowls, gaussian, gaussians, greys, images

pytestmark = pytest.mark.slow

TONES = (0.3, 0.7)


def corners():
    """Means `(a, b, C, H, W)`: a is the tone of the left half, b that of the right."""
    means = torch.empty(2, 2, *SHAPE)
    for i, left in enumerate(TONES):
        for j, right in enumerate(TONES):
            means[i, j, ..., :4], means[i, j, ..., 4:] = left, right
    return means


def halves():
    """An energy of images by the tone of their left half, and one by that of their right."""
    return gaussians(corners()), gaussians(corners().transpose(0, 1))


@pytest.mark.parametrize("level", [0.02, 0.5])
def test_attributes_that_are_independent_compose_to_the_law_of_both(level):
    left, right = (energy.double() for energy in halves())
    x = images(20, *SHAPE).double()
    for a in (0, 1):
        for b in (0, 1):
            whole = all_of([left, right], torch.tensor([[a, b]]).expand(20, 2))
            both = (x - corners()[a, b]).square().sum(dim=(1, 2, 3)) / (2 * (DEVIATION**2 + level**2))
            apart = whole(x, at(level, 20).double()) - both
            assert float(apart.std()) < 1e-5 * float(both.std())


def test_composed_images_have_all_their_attributes():
    asked = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]] * 5)
    drawn = compose(halves(), asked, generator=seeded())
    tones = torch.stack([drawn[..., :4].mean(dim=(1, 2, 3)), drawn[..., 4:].mean(dim=(1, 2, 3))], dim=1)
    expected = torch.tensor(TONES)[asked]
    assert torch.allclose(tones, expected, atol=5 * DEVIATION / 32**0.5)
    away = drawn - corners()[asked[:, 0], asked[:, 1]]
    assert 0.8 * DEVIATION < away.std() < 1.1 * DEVIATION


def test_energies_that_know_one_half_each_need_nothing_taken_off():
    """Bowls that are flat where they know nothing: plain energies add up as they are."""
    left, right = (bowls(means) for means in (greys(*TONES)[:, 0], greys(0.1, 0.5)[:, 0]))
    asked = torch.tensor([[0, 1], [1, 1], [1, 0]])
    drawn = compose([left, right], asked, common=0, generator=seeded())
    expected = (torch.tensor(TONES)[asked[:, 0]] + torch.tensor((0.1, 0.5))[asked[:, 1]]) / 2
    assert torch.allclose(drawn.mean(dim=(1, 2, 3)), expected, atol=0.01)


@pytest.mark.parametrize("strength", [1.0, 3.0])
@pytest.mark.parametrize("common", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("noised", [False, True])
def test_the_sum_is_the_one_by_hand_row_by_row(common, strength, noised):
    if noised:
        energies = [*halves(), gaussians(greys(0.1, 0.5, 0.9))]
        context = at(0.4, 6)
    else:
        energies = [bowls(images(count, *SHAPE, seed=count)) for count in (2, 2, 3)]
        context = torch.zeros(6, 0)
    x, asked = (
        images(6, *SHAPE),
        torch.tensor([[0, 0, 2], [0, 1, 1], [1, 0, 0], [1, 1, 2], [0, 0, 0], [1, 0, 1]]),
    )
    by_hand = torch.zeros(6)
    for i, energy in enumerate(energies):
        told = one_hot(asked[:, i], energy.classes).float()
        of_attribute = energy(x, torch.cat([told, context], dim=1))
        of_any = energy(x, context if noised else None)
        by_hand += of_attribute + (strength - 1) * (of_attribute - of_any) - common * (i > 0) * of_any
    whole = all_of(energies, asked, common=common, strength=strength)
    found = whole(x, context if noised else None)
    assert torch.allclose(found, by_hand, rtol=1e-4)
    base, tilt = whole.split(x, context if noised else None)
    assert torch.allclose(base + tilt, found, rtol=1e-4)


def test_one_energy_alone_has_nothing_taken_off():
    left, _ = halves()
    x, context = images(3, *SHAPE), at(0.2, 3)
    assert torch.allclose(all_of([left], torch.tensor([[1], [1], [1]]))(x, context), has(left, 1)(x, context))


@pytest.mark.parametrize("energy", [halves()[0], bowls(images(2, *SHAPE))], ids=["noised", "plain"])
def test_an_attribute_is_a_class_and_anything_is_all_of_them(energy):
    x = images(4, *SHAPE)
    context = None if energy.noise is None else at(0.3, 4)
    for label in (0, 1):
        told = one_hot(torch.full((4,), label), 2).float()
        given = told if context is None else torch.cat([told, context], dim=1)
        # Contexts that are equal, but laid out in another way.
        assert_equal_up_to_rounding(has(energy, label)(x, context), energy(x, given))
    assert_equal_up_to_rounding(anything(energy)(x, context), energy(x, context))
    assert not torch.allclose(has(energy, 0)(x, context), has(energy, 1)(x, context))


def test_attributes_are_combined_by_the_algebra_of_energies():
    left, right = halves()
    x, context = images(4, *SHAPE), at(0.3, 4)
    both = has(left, 0) + has(right, 1) - anything(right)
    asked = torch.tensor([[0, 1]]).expand(4, 2)
    assert torch.allclose(both(x, context), all_of([left, right], asked)(x, context), rtol=1e-4)
    either = mixture([has(left, 0), has(left, 1)])
    expected = anything(left)(x, context) + torch.tensor(2.0).log()
    assert torch.allclose(either(x, context), expected, rtol=1e-4)


def test_equal_seeds_compose_equal_images_in_the_range_of_pixels():
    wide = [gaussian(std=1.0, classes=2), gaussian(std=1.0, classes=3)]
    asked = torch.tensor([[0, 2], [1, 1]])
    a, b, c = (compose(wide, asked, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.min() == 0
    assert a.max() == 1


def test_what_does_not_fit_is_named():
    left, right = halves()
    with pytest.raises(InputError, match=r"^energies: expected at least one, got none"):
        all_of([], torch.zeros(2, 0, dtype=torch.long))
    with pytest.raises(InputError, match=r"^attributes: expected shape \(any, 2\), got shape \(3, 1\)"):
        all_of([left, right], torch.zeros(3, 1, dtype=torch.long))
    with pytest.raises(InputError, match=r"^attributes: expected 0 to 1 in column 1, got \[0, 2\]"):
        all_of([left, right], torch.tensor([[0, 0], [1, 2]]))
    with pytest.raises(InputError, match=r"^attribute: expected a whole number from 0 to 1, got 2"):
        has(left, 2)
    with pytest.raises(InputError, match=r"^energy: expected a conditional one, got no classes"):
        has(gaussian(), 0)
