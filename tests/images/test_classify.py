"""Classifiers: what an energy says of classes, with and without refinement, and what training withstands."""

import math

import pytest
import torch
from torch import nn

from ebm_control.checks import InputError
from ebm_control.energies import ImageEnergy, SmallCNN
from ebm_control.images import Attack, accuracy, energy_logits, fit_classifier, refined_logits, withstood
from ebm_control.images.classify import parameters_of
from tests.helpers import assert_equal_up_to_rounding, seeded
from tests.images.helpers import DEVIATION, SHAPE, at, bowls, gaussian, gaussians, greys, images

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("level", [0.02, 0.3])
def test_an_energy_s_logits_obey_bayes_rule(level):
    means = greys(0.45, 0.5, 0.55, shape=(1, 2, 2))
    x = 0.4 + 0.2 * images(20, 1, 2, 2)
    apart = (x[:, None] - means[:, 0]).square().sum(dim=(2, 3, 4))
    expected = (-apart / (2 * (DEVIATION**2 + level**2))).softmax(dim=1)
    found = energy_logits(gaussians(means), level)(x).softmax(dim=1)
    assert torch.allclose(found, expected, atol=1e-4)
    assert expected.max(dim=1).values.min() < 0.9


def test_a_plain_energy_s_logits_are_minus_its_energies():
    x, energy = images(5, *SHAPE), bowls(images(3, *SHAPE, seed=1))
    for label in range(3):
        told = nn.functional.one_hot(torch.full((5,), label), 3).float()
        assert torch.allclose(energy_logits(energy)(x)[:, label], -energy(x, told))


def test_a_noised_energy_of_digits_classifies_them(noised, digits):
    x, labels = digits.part("test", 200), digits.test_labels[:200]
    read = [accuracy(energy_logits(noised, level), x, labels) for level in (0.3, 4.0)]
    assert read[0] > 0.5
    assert read[1] < read[0]


class Pixels(nn.Module):
    """Of as many classes as there are pixels: `E(x | y) = steep x_y`, so that logits tell where an image went."""

    def __init__(self, steep):
        super().__init__()
        self.steep = steep

    def forward(self, x, told):
        return self.steep * x.flatten(1)


def pixels(steep=1.0, count=9):
    return ImageEnergy(Pixels(steep), (1, 3, count // 3), classes=count)


@pytest.mark.parametrize("radius", [0.01, 0.1, 0.5])
def test_refinement_moves_no_pixel_beyond_its_radius_or_its_range(radius):
    x = images(6, 1, 3, 3)
    refined = (1 - refined_logits(pixels(), radius, steps=20)(x).reshape(x.shape)) / 2
    assert ((refined - x).abs() <= radius + 2e-6).all()
    assert refined.min() >= -2e-6
    assert refined.max() <= 1 + 2e-6
    # All go down in this energy, and where steps are many as far as they may.
    expected = (x - radius).clamp(min=0)
    assert torch.allclose(refined, expected, atol=1e-5) or radius == 0.5
    assert (refined < x).all()


def test_refinement_takes_the_steps_it_is_told_downhill(noised, digits):
    x, level = digits.part("test", 5), 0.3
    moved = x
    for _ in range(3):
        given = moved.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(noised(given, at(level, 5)).sum(), given)
        moved = (moved - 0.02 * gradient).clamp(min=x - 0.1, max=x + 0.1).clamp(0, 1)
    found = refined_logits(noised, 0.1, level=level, steps=3, step_size=0.02)(x)
    assert torch.allclose(found, energy_logits(noised, level)(moved), atol=1e-3)
    assert not torch.allclose(found, energy_logits(noised, level)(x), atol=0.1)
    assert (noised(moved, at(level, 5)) < noised(x, at(level, 5))).all()
    by_default = refined_logits(noised, 0.1, level=level)(x)
    told = refined_logits(noised, 0.1, level=level, steps=5, step_size=level**2 / 4)(x)
    assert torch.equal(by_default, told)


@pytest.mark.parametrize("radius", [0.02, 0.5])
def test_gradients_go_through_the_refinement(radius):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        energy = ImageEnergy(SmallCNN((1, 4, 4), 3, 2), (1, 4, 4), classes=3).double().requires_grad_(False)
    x = (0.25 + 0.5 * images(2, 1, 4, 4)).double().requires_grad_()
    refined, plain = refined_logits(energy, radius, steps=3, step_size=5.0), energy_logits(energy)
    assert torch.autograd.gradcheck(refined, x)
    gradients = [torch.autograd.grad(logits(x)[:, 0].sum(), x)[0] for logits in (refined, plain)]
    assert gradients[0].abs().min() > 0
    assert not torch.allclose(*gradients, rtol=0.01)


def test_refinement_works_without_gradients_and_leaves_its_input(noised, digits):
    x = digits.part("test", 3)
    kept, logits = x.clone(), refined_logits(noised, 0.1, level=0.3)
    with torch.no_grad():
        blind = logits(x)
    assert not blind.requires_grad
    assert_equal_up_to_rounding(blind, logits(x).detach())  # with and without a graph to keep
    assert torch.equal(x, kept)
    assert not x.requires_grad


@pytest.mark.parametrize("make", [energy_logits, lambda e, **given: refined_logits(e, 0.1, **given)])
def test_levels_that_do_not_fit_the_energy_are_named(make):
    with pytest.raises(InputError, match=r"^energy: expected a conditional one, got no classes"):
        make(gaussian(), level=0.1)
    with pytest.raises(InputError, match=r"^level: expected a noise level, got None"):
        make(gaussians(greys(0.2, 0.8)))
    with pytest.raises(InputError, match=r"^level: expected None: the energy has no noise levels, got 0.1"):
        make(bowls(images(2, *SHAPE)), level=0.1)


def test_digits_are_learned(classifier, digits):
    assert classifier.accuracy(digits.part("test"), digits.test_labels) > 0.75
    assert not any(p.requires_grad for p in classifier.network.parameters())


@pytest.mark.parametrize("size", [1, 7, 512])
def test_accuracy_is_a_share_of_all_images(size):
    labels = torch.arange(20) % 4
    x = nn.functional.one_hot(torch.where(torch.arange(20) < 13, labels, (labels + 1) % 4), 4).float()
    assert accuracy(lambda x: x, x, labels, size) == pytest.approx(13 / 20)


def quick(digits, **given):
    return fit_classifier(digits, width=2, batch_size=16, updates=5, **given)(digits.part("test", 10))


def test_equal_seeds_train_equal_classifiers(digits):
    before = torch.get_rng_state()
    a, b, c = (quick(digits, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_an_adversary_is_asked_in_every_update_and_learned_from(digits):
    seen = []

    def idle(logits, x, labels):
        seen.append((logits(x).shape, x.clone(), labels.clone()))
        return x

    assert torch.equal(quick(digits, perturb=idle), quick(digits))
    assert len(seen) == 5
    train = digits.part("train")
    for shape, x, labels in seen:
        assert shape == (16, 10)
        nearest = torch.cdist(x.flatten(1), train.flatten(1)).argmin(dim=1)
        assert torch.equal(digits.labels[nearest], labels)
    blank = quick(digits, perturb=lambda f, x, y: torch.zeros_like(x))
    assert not torch.allclose(blank, quick(digits))


def test_noise_in_training_is_seen(digits):
    levels = []

    def watch(logits, x, labels):
        levels.append(torch.cdist(x.flatten(1), digits.part("train").flatten(1)).min(dim=1).values / 8)
        return x

    quick(digits, noise=0.2, perturb=watch)
    seen = torch.cat(levels)
    # Uniform from 0 up to the deviation.
    assert seen.max() < 0.25
    assert float(seen.mean()) == pytest.approx(0.1, abs=4 * 0.2 / math.sqrt(12 * 80))


def test_training_on_attacks_withstands_them(classifier, hardened, digits):
    x, labels = digits.part("test", 100), digits.test_labels[:100]
    attack = Attack(0.1, 10, step_size=0.25)
    robust, plain = (
        withstood(f, x, labels, attack, generator=seeded()).float().mean() for f in (hardened, classifier)
    )
    assert robust > plain + 0.08
    assert hardened.accuracy(x, labels) > 0.7


def test_parameters_are_counted():
    assert parameters_of(nn.Sequential(nn.Linear(3, 4), nn.Conv2d(1, 2, 3))) == 16 + 20
