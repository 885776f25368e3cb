"""One more step that keeps the graph: how samples move as the energy changes."""

from __future__ import annotations

import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.samplers import Annealed, Langevin
from tests.energies.helpers import Learned
from tests.helpers import assert_equal_up_to_rounding, normal, seeded


def moved(energy, sampler, x, **given):
    return sampler.differentiable_step(energy, x, generator=seeded(), **given)


@pytest.mark.parametrize(
    "sampler", [Langevin(3, 0.1), Langevin(3, 0.1, gradient_clip=0.05, scale=(0.5, 2.0))]
)
def test_it_is_the_step_that_a_chain_would_make(sampler):
    energy, x = Learned(2), normal(6, 2)
    one = Langevin(1, 0.1, gradient_clip=sampler.gradient_clip, scale=sampler.scale)
    # A gradient that keeps its graph is made of other operations than one that does not.
    assert_equal_up_to_rounding(moved(energy, sampler, x).detach(), one(energy, x, generator=seeded()).x)


def test_its_gradient_is_that_of_finite_differences():
    energy, x, sampler = Learned(2), normal(6, 2), Langevin(2, 0.3)
    weight = energy.network.layers[0].weight
    out = moved(energy, sampler, x).sin().sum()
    (gradient,) = torch.autograd.grad(out, weight)
    step = 1e-5
    with torch.no_grad():
        weight[0, 0] += step
        high = moved(energy, sampler, x).sin().sum()
        weight[0, 0] -= 2 * step
        low = moved(energy, sampler, x).sin().sum()
    assert gradient[0, 0] == pytest.approx(float(high - low) / (2 * step), rel=1e-4)
    assert gradient[0, 0] != 0


def test_the_energy_is_left_as_it_was_and_fixed_coordinates_stay():
    energy, x = Learned(2).train(), normal(6, 2)
    fixed = torch.tensor([True, False])
    out = moved(energy, Langevin(1, 0.3), x, fixed=fixed)
    assert torch.equal(out[:, 0], x[:, 0])
    assert out.requires_grad
    assert energy.training
    assert all(p.requires_grad and p.grad is None for p in energy.parameters())


def test_a_sampler_without_steps_has_no_further_one():
    with pytest.raises(InputError, match=r"^steps: expected a whole number from 1 to 0"):
        moved(Learned(2), Langevin(0), normal(2, 2))


def test_annealed_chains_have_one_too():
    class Told(Learned):
        def forward(self, x, context=None):
            return self.network(x).squeeze(-1) * context[:, 0].exp()

    out = Annealed((1.0, 0.5)).differentiable_step(
        Told(2), normal(3, 2), context=torch.zeros(3, 1, dtype=torch.float64)
    )
    assert out.requires_grad


def test_several_steps_are_those_that_a_chain_ends_with_and_their_gradient_reaches_where_they_began():
    energy, x, sampler = Learned(2), normal(4, 2), Langevin(3, 0.3)
    whole = sampler(energy, x, generator=seeded()).x
    assert torch.allclose(moved(energy, sampler, x, steps=3).detach(), whole, atol=1e-12)
    begun = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(moved(energy, sampler, begun, steps=3).sin().sum(), begun)
    step = torch.zeros_like(x)
    step[0, 1] = 1e-5
    high, low = (moved(energy, sampler, x + sign * step, steps=3).sin().sum() for sign in (1, -1))
    assert gradient[0, 1] == pytest.approx(float(high - low) / 2e-5, rel=1e-4)
    assert gradient[0, 1].abs() > 1e-3
