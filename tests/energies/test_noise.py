"""Energies of noised data: what they are without a tilt, and what they ask of a context."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ebm_control.checks import InputError
from ebm_control.energies import (
    AtNoise,
    GaussianBase,
    RegressionBase,
    TrajectoryLayout,
    Transformer,
    TransitionEnergy,
    WindowEnergy,
)
from tests.energies.helpers import gradient, network
from tests.helpers import Zero, normal

LAYOUT = TrajectoryLayout(2, 1)
SCALE = torch.tensor([0.5, 2.0])
NOISE = (0.1, 5.0)


class ZeroWindow(nn.Module):
    def forward(self, x):
        return 0 * x.sum(dim=1)[:, :1]


def transition(tilt=None, context_dim=0):
    inputs = TransitionEnergy.inputs_of(LAYOUT, 2, context_dim, noisy=True)
    return TransitionEnergy(
        LAYOUT,
        tilt or network(inputs),
        base=GaussianBase(2, torch.tensor([1.5, 0.5])),
        displacement_scale=SCALE,
        context_dim=context_dim,
        noise=NOISE,
    ).double()


def window(rows=4, tilt=None, noise=NOISE, transformer=False):
    inputs = WindowEnergy.inputs_of(LAYOUT, rows)
    base = RegressionBase(network(inputs, (rows - 1) * 2), (rows - 1) * 2)
    base.set_std(torch.linspace(0.5, 2.0, (rows - 1) * 2))
    channels = WindowEnergy.channels_of(LAYOUT, base=True, noisy=noise is not None)
    if transformer:
        tilt = Transformer(channels, rows, 16)
    return WindowEnergy(LAYOUT, tilt, base=base, displacement_scale=SCALE, noise=noise).double()


def told(x, level, *before):
    return torch.cat([*before, x.new_full((len(x), 1), math.log(level))], dim=1)


@pytest.mark.parametrize("level", [0.1, 1.0, 5.0])
def test_without_a_tilt_a_transition_has_the_law_of_the_base_and_its_noise(level):
    x = normal(5, 2, 3)
    steps = (x[:, 1, :2] - x[:, 0, :2]) / SCALE
    variance = torch.tensor([1.5, 0.5]).double().square() * (1 + level**2)
    by_hand = (steps.square() / variance / 2).sum(dim=1)
    torch.testing.assert_close(transition(Zero())(x, told(x, level)), by_hand)


@pytest.mark.parametrize("level", [0.1, 3.0])
def test_without_a_tilt_a_window_has_the_law_of_the_base_and_its_noise(level):
    x, energy = normal(5, 4, 3), window(tilt=ZeroWindow())
    off = energy.layout.states(x)[:, 1:] - energy.expected(x)
    residual = off / energy.next_std()
    by_hand = (residual.square() / (1 + level**2) / 2).sum(dim=(1, 2))
    torch.testing.assert_close(energy(x, told(x, level)), by_hand)


@pytest.mark.parametrize("make", [transition, window, lambda: window(transformer=True)])
def test_its_gradient_is_right_at_every_level(make):
    energy = make()
    x = normal(3, 2 if isinstance(energy, TransitionEnergy) else 4, 3).requires_grad_()
    for level in NOISE:
        assert torch.autograd.gradcheck(lambda x, level=level: energy(x, told(x, level)), x)
        assert torch.autograd.gradgradcheck(lambda x, level=level: energy(x, told(x, level)), x, atol=1e-3)


def test_at_one_level_it_is_an_energy_without_that_context():
    x, gap = normal(3, 2, 3), normal(3, 1, seed=2)
    energy = transition(context_dim=1)
    torch.testing.assert_close(AtNoise(energy, 0.7)(x, gap), energy(x, told(x, 0.7, gap)))
    base, tilt = AtNoise(energy, 0.7).split(x, gap)
    torch.testing.assert_close(base + tilt, AtNoise(energy, 0.7)(x, gap))
    assert not torch.equal(AtNoise(energy, 0.7)(x, gap), AtNoise(energy, 0.1)(x, gap))


def test_the_base_is_not_told_of_the_noise():
    x = normal(3, 2, 3)
    inputs, _ = transition().windows(x)
    assert inputs.shape[-1] == TransitionEnergy.inputs_of(LAYOUT) - 2


@pytest.mark.parametrize("given", [None, torch.zeros(3, 2, dtype=torch.float64)])
def test_a_context_without_the_level_is_refused(given):
    with pytest.raises(InputError, match=r"^context: expected"):
        transition()(normal(3, 2, 3), given)


def test_a_level_is_positive():
    with pytest.raises(InputError, match=r"^level: expected a number above 0"):
        AtNoise(transition(), 0.0)


@pytest.mark.parametrize("transformer", [False, True])
def test_a_window_with_a_base_is_low_where_the_base_expects_states(transformer):
    energy = window(tilt=None if transformer else ZeroWindow(), noise=None, transformer=transformer)
    x = normal(5, 4, 3)
    expected = torch.cat([x[:, :1, :2], energy.expected(x)], dim=1)
    at = torch.cat([expected, x[..., 2:]], dim=-1)
    base, _ = energy.split(at)
    torch.testing.assert_close(base, torch.zeros(5, dtype=torch.float64))
    assert (energy.split(x)[0] > 0).all()
    assert energy.window == 4


@pytest.mark.parametrize("energy", [transition(), window(), window(noise=None)])
def test_proposals_are_draws_from_the_base(energy):
    rows = 2 if isinstance(energy, TransitionEnergy) else 4
    x = normal(1, rows, 3).expand(4000, -1, -1)
    drawn = energy.propose(x, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn[:, 0], x[:, 0])
    assert torch.equal(drawn[..., 2:], x[..., 2:])
    mean = energy.propose(x, spread=0.0)[0, 1:, :2]
    std = energy.next_std().expand(rows - 1, 2)
    scores = (drawn[:, 1:, :2].mean(dim=0) - mean) / std * 4000**0.5
    assert scores.abs().max() < 4.5
    torch.testing.assert_close(drawn[:, 1:, :2].std(dim=0), std.double(), rtol=0.06, atol=0)


def test_a_window_of_other_length_than_the_base_is_refused():
    with pytest.raises(InputError, match=r"^x: expected the base's 4, got 5 rows"):
        window()(normal(2, 5, 3), torch.zeros(2, 1, dtype=torch.float64))


def test_a_transformer_sees_the_order_of_rows_and_no_more_than_it_has_places_for():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        seeing = Transformer(3, 4, 16).double()
    x = normal(2, 4, 3)
    assert not torch.allclose(seeing(x), seeing(x.flip(1)))
    assert gradient_of(seeing, x).abs().min() > 0
    with pytest.raises(InputError, match=r"^x: expected at most 4, got 5 time steps"):
        seeing(normal(2, 5, 3))
    with pytest.raises(InputError, match=r"^width: expected a multiple of 4 heads"):
        Transformer(3, 4, 10)


def gradient_of(module, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(module(x).sum(), x)[0]


def test_noise_without_a_base_is_refused_for_windows():
    with pytest.raises(InputError, match=r"^noise: expected None without a base"):
        WindowEnergy(LAYOUT, noise=NOISE)


def test_forces_grow_as_noise_falls():
    x, energy = normal(50, 2, 3), transition()
    size = [float(gradient(energy, x, told(x, level))[:, 1, :2].norm()) for level in (5.0, 0.5, 0.1)]
    assert size[0] < size[1] < size[2]
