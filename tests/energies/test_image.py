"""Energies of images: what a class, a noise level and a size make of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from ebm_control.checks import InputError
from ebm_control.energies import ImageEnergy, ResidualNetwork, SmallCNN, UNet
from tests.energies.helpers import gradient

SHAPE = (1, 8, 8)
NOISE = (0.02, 5.0)
NETWORKS = [SmallCNN, ResidualNetwork, UNet]
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 16, 20), (2, 9, 11)]


def image(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def energy(kind=SmallCNN, shape=SHAPE, classes=0, noise=None, **given):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = kind(shape, classes or 1, 4, condition_dim=int(noise is not None), **given)
    made = ImageEnergy(network, shape, classes=classes, noise=noise).double()
    if noise is not None:
        made.fit_base(0.7 * image(50, *shape, seed=5))
    return made.eval()


def told(count, level, label=None, classes=4):
    ends = torch.full((count, 1), math.log(level), dtype=torch.float64)
    return ends if label is None else torch.cat([one_hot(count, label, classes), ends], dim=1)


def one_hot(count, label, classes=4):
    return nn.functional.one_hot(torch.tensor(label), classes).double().expand(count, -1)


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_energy_of_a_class_is_its_own_output(kind):
    x, conditional = image(5, *SHAPE), energy(kind, classes=4)
    of_classes = conditional.of_classes(x)
    for label in range(4):
        torch.testing.assert_close(conditional(x, one_hot(5, label)), of_classes[:, label])
    assert of_classes.std(dim=1).min() > 1e-4


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_energy_of_all_classes_is_that_of_the_sum_of_their_densities(kind):
    x, conditional = image(5, *SHAPE), energy(kind, classes=4)
    anyone = -torch.exp(-conditional.of_classes(x)).sum(dim=1).log()
    torch.testing.assert_close(conditional(x), anyone)
    torch.testing.assert_close(conditional(x, torch.zeros(5, 4, dtype=torch.float64)), anyone)


def test_rows_of_a_batch_may_be_of_a_class_or_of_all():
    x, conditional = image(3, *SHAPE), energy(classes=4)
    context = one_hot(3, 2) * torch.tensor([[1.0], [0.0], [1.0]])
    expected = torch.where(context.any(dim=1), conditional.of_classes(x)[:, 2], conditional(x))
    torch.testing.assert_close(conditional(x, context), expected)


@pytest.mark.parametrize("level", [0.05, 1.0])
def test_classes_of_a_noised_image_share_the_base(level):
    x, conditional = image(4, *SHAPE), energy(classes=4, noise=NOISE)
    base, _ = conditional.split(x, told(4, level))
    for given in (level, torch.full((4,), level)):
        torch.testing.assert_close(
            conditional(x, told(4, level, 3)) - base, conditional.of_classes(x, given)[:, 3]
        )
    none = torch.cat([torch.zeros(4, 4, dtype=torch.float64), told(4, level)], dim=1)
    torch.testing.assert_close(conditional(x, none), conditional(x, told(4, level)))


def test_the_base_is_the_law_of_the_pixels_and_their_noise():
    x, noised = image(4, *SHAPE), energy(noise=NOISE)
    data = 0.2 + 0.3 * image(200, *SHAPE, seed=3)
    noised.fit_base(data)
    mean = data.mean(dim=0)
    variance = (data - mean).square().mean()
    for level in NOISE:
        base, tilt = noised.split(x, told(4, level))
        by_hand = (x - mean).square().sum(dim=(1, 2, 3)) / (variance + level**2) / 2
        torch.testing.assert_close(base, by_hand)
        torch.testing.assert_close(base + tilt, noised(x, told(4, level)))


def test_images_that_do_not_differ_leave_a_base_that_is_finite():
    noised = energy(noise=NOISE)
    noised.fit_base(image(1, *SHAPE).expand(3, -1, -1, -1))
    assert float(noised.std) == pytest.approx(1e-3)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("level", [0.01, 0.3, 4.0, 1e3])
def test_in_units_of_the_noise_the_tilt_pulls_as_its_network_does(kind, level):
    """So it is bounded as σ grows, where the base alone is left to say where the data are, and as σ falls."""
    x, noised = image(4, *SHAPE), energy(kind, noise=NOISE)
    wide = (noised.std.square() + level**2).sqrt()
    u = ((x - noised.mean) / wide).requires_grad_()
    (pull,) = torch.autograd.grad(noised.network(u, told(4, level)).sum(), u)
    expected = (x - noised.mean) / wide**2 + pull / level
    torch.testing.assert_close(gradient(noised, x, told(4, level)), expected)
    assert 1e-4 < pull.abs().max() < 10


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("noise", [None, NOISE])
def test_its_first_and_second_derivatives_are_right(kind, noise):
    shape = (1, 4, 4)
    checked = energy(kind, shape, noise=noise)
    x = image(2, *shape).requires_grad_()
    context = None if noise is None else told(2, 0.5)
    assert torch.autograd.gradcheck(lambda x: checked(x, context), x)
    assert torch.autograd.gradgradcheck(lambda x: checked(x, context), x)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_images_of_any_size_have_energies_that_every_pixel_moves(kind, shape):
    x = image(3, *shape)
    moved = gradient(energy(kind, shape), x)
    assert (moved.abs() > 0).all()
    together, alone = energy(kind, shape)(x), torch.cat([energy(kind, shape)(row[None]) for row in x])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("kind", NETWORKS)
def test_score_matching_reaches_every_weight(kind):
    trained = energy(kind, noise=NOISE, classes=4)
    x = image(3, *SHAPE).requires_grad_()
    level = torch.cat([told(1, 0.1, 0), told(1, 1.0, 1), told(1, 3.0, 2)])
    (score,) = torch.autograd.grad(trained(x, level).sum(), x, create_graph=True)
    score.square().sum().backward()
    still = [name for name, p in trained.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # A constant of the energy has no part in its gradient: the read-outs' biases, one a resolution.
    assert all("bias" in name and ("heads" in name or "last" in name) for name in still)


@pytest.mark.parametrize("kind", NETWORKS)
def test_spectral_norm_leaves_every_layer_a_largest_singular_value_of_1(kind):
    normed, plain = energy(kind, classes=4, spectral=True).train(), energy(kind, classes=4)
    for _ in range(100):
        normed(image(1, *SHAPE))
    layers = [m for m in normed.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert all(is_parametrized(layer, "weight") for layer in layers)
    assert len(layers) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in plain.modules())
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_bad_shapes_and_classes_are_named():
    conditional = energy(classes=4, noise=NOISE)
    with pytest.raises(InputError, match=r"^x: expected shape \(any, 1, 8, 8\), got shape \(2, 1, 8, 9\)"):
        energy()(image(2, 1, 8, 9))
    with pytest.raises(InputError, match=r"^x: expected shape \(any, 1, 8, 8\), got shape \(2, 8, 8\)"):
        conditional.of_classes(image(2, 8, 8), 0.1)
    with pytest.raises(InputError, match=r"^context: expected shape \(2, 5\), got shape \(2, 4\)"):
        conditional(image(2, *SHAPE), one_hot(2, 0))
    with pytest.raises(InputError, match=r"^context: expected shape \(2, 5\), got None"):
        conditional(image(2, *SHAPE))
    with pytest.raises(InputError, match=r"^images: expected shape \(any, 1, 8, 8\)"):
        conditional.fit_base(image(3, 2, 8, 8))
    with pytest.raises(InputError, match=r"^energy: expected a class-conditional one, got no classes"):
        energy().of_classes(image(2, *SHAPE))
    with pytest.raises(InputError, match=r"^classes: expected 0, or 2 and more, got 1"):
        ImageEnergy(nn.Identity(), SHAPE, classes=1)


def test_a_noise_level_is_asked_for_where_there_are_some_and_refused_where_there_are_none():
    x = torch.rand(2, 1, 8, 8)
    plain = ImageEnergy(SmallCNN((1, 8, 8), 3, 4), (1, 8, 8), classes=3)
    noisy = ImageEnergy(SmallCNN((1, 8, 8), 3, 4, condition_dim=1), (1, 8, 8), classes=3, noise=(0.1, 1.0))
    with pytest.raises(InputError, match=r"^level: expected None"):
        plain.of_classes(x, 0.5)
    with pytest.raises(InputError, match=r"^level: expected a noise level"):
        noisy.of_classes(x)
