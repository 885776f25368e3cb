"""Annealed Langevin dynamics: the law of the data at its end, modes in their shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.energies import AtNoise, Energy
from ebm_control.samplers import Annealed, Langevin, noise_levels
from tests.helpers import seeded

COUNT = 8000
LEVELS = noise_levels(0.02, 10.0, 30)


class NoisedMixture(Energy):
    """Two Gaussians of deviation `width` at ±apart, `share` of all on the right, under noise of `exp(context)`."""

    def __init__(self, apart=3.0, width=0.1, share=0.8, scale=1.0):
        super().__init__()
        self.apart, self.width, self.share, self.scale = apart, width, share, scale

    def forward(self, x, context=None):
        variance = self.width**2 + (self.scale * context[:, -1].exp()) ** 2
        right = math.log(self.share) - (x[:, 0] - self.apart) ** 2 / (2 * variance)
        left = math.log(1 - self.share) - (x[:, 0] + self.apart) ** 2 / (2 * variance)
        return -torch.logaddexp(right, left) + 0.5 * x[:, 1:].square().sum(dim=1) / variance


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_modes_are_met_in_their_shares_and_at_their_widths(steps):
    x = Annealed(LEVELS, steps)(NoisedMixture(), torch.zeros(COUNT, 1), generator=seeded()).x[:, 0]
    assert abs((x > 0).float().mean() - 0.8) < 4 * math.sqrt(0.16 / COUNT) + 0.01
    for side, mode in ((x > 0, 3.0), (x < 0, -3.0)):
        assert x[side].mean() == pytest.approx(mode, abs=0.02)
        assert x[side].std() == pytest.approx(0.1, rel=0.12)


def test_plain_langevin_leaves_the_shares_as_they_began():
    energy = AtNoise(NoisedMixture(), 0.02)
    start = 3 * torch.randn(COUNT, 1, generator=seeded())
    x = Langevin(60, 0.002)(energy, start, generator=seeded(1)).x[:, 0]
    assert abs((x > 0).float().mean() - 0.5) < 0.05


def test_noise_is_in_units_of_the_scale():
    sampler = Annealed(LEVELS, scale=(0.01,))
    energy = NoisedMixture(apart=0.03, width=0.001, scale=0.01)
    x = sampler(energy, torch.zeros(COUNT, 1), generator=seeded()).x[:, 0]
    assert abs((x > 0).float().mean() - 0.8) < 0.03
    assert x[x > 0].std() == pytest.approx(0.001, rel=0.12)


def test_without_temperature_a_chain_ends_at_the_likelier_mode():
    x = Annealed(LEVELS, temperature=0.0)(NoisedMixture(), torch.full((20, 1), 0.5), generator=seeded()).x
    assert torch.allclose(x, torch.full_like(x, 3.0), atol=0.05)


def test_fixed_coordinates_stay_and_context_comes_before_the_level():
    seen = []

    class Watching(NoisedMixture):
        def forward(self, x, context=None):
            seen.append(context)
            return super().forward(x, context)

    x = torch.randn(5, 3, generator=seeded())
    fixed = torch.tensor([False, True, False])
    context = torch.arange(5.0)[:, None]
    chain = Annealed((1.0, 0.1))(Watching(), x, fixed=fixed, context=context, generator=seeded(), trace=1)
    assert torch.equal(chain.x[:, 1], x[:, 1])
    assert not torch.equal(chain.x[:, 2], x[:, 2])
    assert all(torch.equal(given[:, :1], context) for given in seen)
    assert {round(float(given[0, 1].exp()), 3) for given in seen} == {1.0, 0.1}
    assert chain.trace.shape == (2, 5, 3)
    assert len(seen) == 3


def test_equal_generators_give_equal_chains():
    run = lambda seed: Annealed((2.0, 0.5))(NoisedMixture(), torch.zeros(4, 1), generator=seeded(seed)).x  # noqa: E731
    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


def test_levels_are_told_apart_by_a_constant_factor():
    levels = noise_levels(0.1, 10.0, 3)
    assert levels == pytest.approx((10.0, 1.0, 0.1))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("levels", lambda: Annealed((1.0, 2.0))),
        ("levels", lambda: Annealed(())),
        ("levels", lambda: Annealed((1.0, 0.0))),
        ("steps", lambda: Annealed((1.0,), -1)),
        ("rate", lambda: Annealed((1.0,), rate=0.0)),
        ("temperature", lambda: Annealed((1.0,), temperature=-1.0)),
        ("low", lambda: noise_levels(1.0, 0.5)),
        ("count", lambda: noise_levels(0.1, 0.5, 1)),
    ],
)
def test_wrong_settings_are_named(name, make):
    with pytest.raises(InputError, match=f"^{name}: "):
        make()


@pytest.mark.parametrize(
    "levels",
    [None, 1.0, "ab", (), [0.5, 1.0], [1.0, "a"], [1.0, None], np.ones((2, 2)), np.array(1.0), {1.0: 0.5}],
)
def test_levels_that_do_not_fall_are_refused_in_one_line(levels):
    with pytest.raises(InputError, match=r"^levels: expected") as caught:
        Annealed(levels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [list, np.asarray, torch.tensor, tuple])
def test_levels_of_every_form_are_the_same_settings(make):
    assert Annealed(make([1.0, 0.5])) == Annealed((1.0, 0.5))
