"""Energies of which a part is given: what begins their context, or some of their coordinates."""

from __future__ import annotations

import math

import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.energies import Energy, Given, Observed
from ebm_control.samplers import Annealed, noise_levels
from tests.energies.helpers import gradient, network
from tests.helpers import normal

pytestmark = pytest.mark.slow

CORRELATED = torch.tensor([[1.0, 0.72, 0.3], [0.72, 0.81, 0.2], [0.3, 0.2, 0.5]], dtype=torch.float64)
LEVELS = noise_levels(0.02, 5.0, 60)


class Told(Energy):
    """A small network of samples and context, with half a square for a base."""

    def __init__(self, inputs, seed=0):
        super().__init__()
        self.network = network(inputs, seed=seed)

    def forward(self, x, context=None):
        return sum(self.split(x, context))

    def split(self, x, context=None):
        return x.square().sum(dim=1) / 2, self.network(torch.cat([x, context], dim=1)).squeeze(-1)


class NoisedGaussian(Energy):
    """Of data `N(0, covariance)` under noise of `scale * exp(context)`."""

    def __init__(self, covariance=CORRELATED, scale=1.0):
        super().__init__()
        self.scale = scale
        self.variances, self.axes = torch.linalg.eigh(covariance)

    def forward(self, x, context=None):
        noise = (self.scale * context[:, -1:].exp()).square()
        return 0.5 * ((x @ self.axes).square() / (self.variances + noise)).sum(dim=1)


def test_what_is_given_is_told_to_every_sample():
    x, told, energy = normal(5, 3), torch.tensor([0.5, -1.0], dtype=torch.float64), Told(5)
    torch.testing.assert_close(Given(energy, told)(x), energy(x, told.expand(5, 2)))
    each = normal(5, 2, seed=1)
    torch.testing.assert_close(Given(energy, each)(x), energy(x, each))
    whole = Given(energy, torch.tensor([1, 0]))  # a class may be told in whole numbers
    torch.testing.assert_close(whole(x), Given(energy, torch.tensor([1.0, 0.0]))(x))
    assert not torch.allclose(Given(energy, told)(x), whole(x))


def test_what_follows_comes_after_what_is_given():
    x, told, level, energy = normal(5, 3), normal(2, seed=1), normal(5, 1, seed=2), Told(6)
    given = Given(energy, told)
    torch.testing.assert_close(given(x, level), energy(x, torch.cat([told.expand(5, 2), level], dim=1)))
    for part, whole in zip(
        given.split(x, level), energy.split(x, torch.cat([told.expand(5, 2), level], 1)), strict=True
    ):
        torch.testing.assert_close(part, whole)


def test_energies_that_are_told_different_things_add_up_at_one_noise_level():
    a, b, level = Told(6), Told(4, seed=1), normal(5, 1, seed=2)
    x, told = normal(5, 3), normal(3, 2, seed=3)
    none = torch.zeros(0, dtype=torch.float64)
    composed = Given(a, told[0]) + 2 * Given(a, told[1]) - Given(b, none)
    by_hand = (
        a(x, torch.cat([told[0].expand(5, 2), level], 1))
        + 2 * a(x, torch.cat([told[1].expand(5, 2), level], 1))
        - b(x, level)
    )
    torch.testing.assert_close(composed(x, level), by_hand)
    base, tilt = composed.split(x, level)
    torch.testing.assert_close(base, x.square().sum(dim=1))
    torch.testing.assert_close(base + tilt, by_hand)


def test_given_can_be_given_within_given():
    x, told, energy = normal(5, 3), normal(2, seed=1), Told(5)
    nested = Given(Given(energy, told[:1]), told[1:])
    torch.testing.assert_close(nested(x), Given(energy, told)(x))


def test_given_moves_with_its_energy_and_is_refused_in_another_shape():
    given = Given(Told(5), normal(2))
    assert given.to(torch.float32).condition.dtype == torch.float32
    with pytest.raises(InputError, match=r"^condition: expected \(k,\) or \(B, k\), got shape \(1, 2, 3\)"):
        Given(Told(5), torch.zeros(1, 2, 3))


@pytest.mark.parametrize("known", [[True, False, False], [True, False, True]])
def test_unknown_coordinates_follow_the_law_of_the_data_given_the_known(known):
    count, mask = 4000, torch.tensor(known)
    value = torch.tensor([1.2, 9.0, -0.5], dtype=torch.float64)  # what is not known is not read
    observed = Observed(NoisedGaussian(), mask, value.expand(count, -1))
    sampled = Annealed(LEVELS, steps=8)(
        observed, torch.zeros(count, 3, dtype=torch.float64), generator=torch.Generator().manual_seed(0)
    ).x
    seen, unseen = CORRELATED[mask][:, mask], CORRELATED[~mask][:, mask]
    mean = unseen @ torch.linalg.solve(seen, value[mask])
    covariance = CORRELATED[~mask][:, ~mask] - unseen @ torch.linalg.solve(seen, unseen.T)
    assert (sampled[:, mask] - value[mask]).abs().max() < 1e-4
    # Within 4 deviations of the mean of so many, and what is left of falling levels in steps of finite size.
    off = (sampled[:, ~mask].mean(dim=0) - mean) / covariance.diagonal().sqrt()
    assert off.abs().max() < 4 / math.sqrt(count) + 0.03
    torch.testing.assert_close(sampled[:, ~mask].T.cov(), covariance.squeeze(), rtol=0.1, atol=0.02)


def test_each_sample_may_have_its_own_mask_and_values():
    known = torch.tensor([[True, False, False], [False, False, True]]).repeat(500, 1)
    values = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0]], dtype=torch.float64).repeat(500, 1)
    observed = Observed(NoisedGaussian(), known, values)
    start = torch.zeros(1000, 3, dtype=torch.float64)
    x = Annealed(LEVELS, steps=3)(observed, start, generator=torch.Generator().manual_seed(0)).x
    assert (x[known] - values[known]).abs().max() < 1e-4
    for rows, column, value in ((slice(0, None, 2), 0, 1.0), (slice(1, None, 2), 2, -1.0)):
        mean = CORRELATED[1, column] / CORRELATED[column, column] * value
        assert x[rows, 1].mean() == pytest.approx(float(mean), abs=4 * 0.8 / math.sqrt(500))


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_known_coordinates_are_drawn_to_their_values_and_to_nothing_else(scale):
    x, level, values = normal(4, 3), 0.3, normal(4, 3, seed=1)
    known = torch.tensor([False, True, False])
    context = torch.full((4, 1), math.log(level), dtype=torch.float64)
    energy = NoisedGaussian(scale=scale)
    pull = gradient(Observed(energy, known, values, scale), x, context)
    torch.testing.assert_close(pull[:, 1], (x - values)[:, 1] / (scale * level) ** 2)
    torch.testing.assert_close(pull[:, ::2], gradient(energy, x, context)[:, ::2])


def test_a_known_part_may_be_seen_under_what_else_is_told():
    x, values, told = normal(4, 3), normal(4, 3, seed=1), normal(2, seed=2)
    level = torch.full((4, 1), math.log(0.5), dtype=torch.float64)
    known = torch.tensor([True, False, False])
    energy = Told(6)
    context = torch.cat([told.expand(4, 2), level], dim=1)
    away = 2 * (x - values)[:, 0].square()
    torch.testing.assert_close(Observed(energy, known, values)(x, context), energy(x, context) + away)
    torch.testing.assert_close(
        Observed(Given(energy, told), known, values)(x, level), energy(x, context) + away
    )


def test_bad_observations_are_named():
    with pytest.raises(InputError, match=r"^known: expected a boolean mask, got torch\.float32"):
        Observed(NoisedGaussian(), torch.ones(3), torch.zeros(1, 3))
    observed = Observed(NoisedGaussian(), torch.ones(3, dtype=torch.bool), torch.zeros(1, 3))
    with pytest.raises(InputError, match=r"^context: expected one that ends with the noise level, got None"):
        observed(torch.zeros(1, 3))
