"""Energies and rewards of a user's own: constants, steps, writes in place, networks outside the energy, no batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ebm_control.energies import Energy, GoalCost, RewardCost, TrajectoryLayout, mixture
from ebm_control.energies.pullbacks import pullback_by_autograd
from ebm_control.samplers import GaussNewton, Langevin
from tests.helpers import normal, seeded

LAYOUT = TrajectoryLayout(3, 2)
OUTSIDE = nn.Linear(3, 1).double()  # not a part of the energy, so its weights are not frozen


class Constant(Energy):
    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x.new_zeros(len(x))


class InPlace(Energy):
    """`Σ (2 x₀)² / 2 + Σ_{t > 0} x_t² / 2`, by a write to a part of a tensor, which `torch.vmap` does not know."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        y = x.clone()
        y[:, 0] *= 2
        return 0.5 * y.square().sum(dim=(1, 2))


def indicator(states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
    return (after[..., 0] > 0).double()


def outside(states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
    return OUTSIDE(after)[..., 0]


FLAT = {"constant": Constant(), "indicator": RewardCost(LAYOUT, indicator)}


@pytest.mark.parametrize("energy", FLAT.values(), ids=FLAT)
@pytest.mark.parametrize("sampler", [GaussNewton(2), GaussNewton(2, temperature=1.0), Langevin(2, 0.01)])
def test_an_energy_without_a_gradient_has_the_gradient_0(energy, sampler):
    x = normal(4, 5, LAYOUT.dim)
    model = energy.quadratic(x)
    assert not model.gradient.any()
    assert not any(band.any() for band in model.bands)
    torch.testing.assert_close(model.energy, energy(x))
    assert sampler(energy, x, generator=seeded()).x.isfinite().all()


def test_steps_follow_a_goal_beside_an_indicator():
    goal = GoalCost(LAYOUT, (0, 1, 2), norm="squared").double()
    goal.set_goal([1.0, 2.0, 3.0])
    found = GaussNewton(8)(goal + FLAT["indicator"], normal(2, 4, LAYOUT.dim).abs()).x[:, 1:, :3]
    torch.testing.assert_close(found, goal.goal.expand_as(found), atol=1e-3, rtol=0)


def test_an_energy_may_write_in_place():
    bands = InPlace().curvature(normal(2, 3, 4))
    scale = torch.tensor([4.0, 1.0, 1.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(bands[0], (scale * torch.eye(4).double()).expand(2, -1, -1, -1))


def test_a_reward_that_is_linear_in_a_network_without_frozen_weights_has_no_curvature():
    x = normal(2, 5, LAYOUT.dim)
    model = RewardCost(LAYOUT, outside).quadratic(x)
    assert not any(band.any() for band in model.bands)
    torch.testing.assert_close(model.gradient[:, 1:, :3], -OUTSIDE.weight.detach().expand(2, 4, 3))


def test_a_pullback_of_several_cotangents_through_outputs_that_do_not_depend_on_the_inputs():
    weight = nn.Parameter(torch.ones(2, dtype=torch.float64))
    _, pullback = pullback_by_autograd(lambda x: weight.expand(len(x), 2), normal(4, 3))
    assert pullback(normal(4, 2)).shape == (4, 3)
    assert pullback(normal(6, 4, 2)).shape == (6, 4, 3)


EMPTY = {
    "in place": InPlace(),
    "goal": GoalCost(LAYOUT, (0,)),
    "reward": RewardCost(LAYOUT, outside),
    "mixture": mixture([Constant(), InPlace()]),
}


@pytest.mark.parametrize("energy", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("length", [1, 5, 60])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_chains_stay_no_chains(energy, length, temperature):
    sampler = GaussNewton(2, temperature=temperature, clamp=(-1.0, 1.0))
    chain = sampler(energy, normal(0, length, LAYOUT.dim))
    assert chain.x.shape == (0, length, LAYOUT.dim)
    assert chain.energy.shape == (0,)
