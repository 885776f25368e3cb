"""Plans that are computed in NumPy arrays are those of torch up to rounding, one after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ebm_control.control import planner_for
from ebm_control.control.agent import REWARD_WEIGHT
from ebm_control.energies import (
    MLP,
    Energy,
    GoalCost,
    RegressionBase,
    RewardCost,
    TrajectoryLayout,
    TransitionEnergy,
)
from ebm_control.models import ModelSettings, TrajectoryModel
from ebm_control.planning import ExpectedDynamics, Plan, Planner
from ebm_control.planning.plan import shifted
from tests.helpers import seeded
from tests.planning.helpers import LAYOUT, NORMALIZER, SPACE
from tests.samplers.test_array_steps import ByTorch

ROUND = TrajectoryLayout(2, 2, periods=(2.0, 0.0))
STARTS = torch.tensor([[0.1, 0.3], [-0.7, 0.2], [0.9, 0.0]])
GOALS = torch.tensor([[0.9, -0.3], [0.1, 0.7], [-0.8, -0.4]])


def learned(layout: TrajectoryLayout = LAYOUT, context: int = 0) -> TransitionEnergy:
    """A smooth energy around a base that moves states by about the action."""
    inputs = TransitionEnergy.inputs_of(layout, context_dim=context)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network, tilt = MLP(inputs - 2, (16, 12), 2), MLP(inputs, (10, 8))
    with torch.no_grad():
        place = layout.feature_dim
        network.layers[0].weight[:, place : place + 2] += torch.randn(16, 2, generator=seeded(2))
    base = RegressionBase(network, 2)
    base.set_std(torch.tensor([0.05, 0.1]))
    scale = torch.tensor([0.1, 0.15])
    return TransitionEnergy(layout, tilt, base=base, displacement_scale=scale, context_dim=context)


def planners(cost: Energy, **given: Any) -> tuple[Planner, Planner]:
    """The default planner, and one whose energy has no form in arrays."""
    made = []
    for _ in range(2):
        model = TrajectoryModel(learned(), NORMALIZER, ModelSettings())
        made.append(planner_for(model, cost, 6, action_space=SPACE, **given))
    made[1].energy = ByTorch(made[1].energy)
    return made[0], made[1]


def reward(states: Tensor, actions: Tensor, following: Tensor) -> Tensor:
    return -following.square().sum(dim=-1) - 0.1 * actions.square().sum(dim=-1)


@pytest.mark.parametrize("kind", ["goal", "reward"])
def test_warm_plans_follow_each_other_as_those_of_torch_do(kind: str) -> None:
    goal = 20 * GoalCost(LAYOUT, (0, 1), smooth=0.02)
    cost = goal if kind == "goal" else REWARD_WEIGHT * RewardCost(LAYOUT, reward)
    goals, preset = (GOALS, "offline") if kind == "goal" else (None, "reward")
    plans: list[Plan | None] = [None, None]
    for step in range(4):
        start = STARTS if plans[1] is None else plans[1].states[:, 1] + 0.01
        for i, planner in enumerate(planners(cost, preset=preset)):
            plans[i] = planner.plan(start, goals, warm=plans[1], generator=seeded(step))
        one, other = plans
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one.energy, other.energy, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(one.states, other.states, rtol=0, atol=2e-3)
        assert one.states.dtype == one.actions.dtype == one.energy.dtype == torch.float32


@pytest.mark.parametrize("layout", [LAYOUT, ROUND])
@pytest.mark.parametrize("context", [0, 1])
def test_rollouts_in_arrays_are_those_with_a_graph(layout: TrajectoryLayout, context: int) -> None:
    known = torch.tensor([0.5]) if context else None
    dynamics = ExpectedDynamics(learned(layout, context), known)
    x = torch.randn(5, 7, 4, generator=seeded())
    before = x.clone()
    expected = dynamics.rollout(x)
    assert expected.requires_grad
    with torch.no_grad():
        found = dynamics.rollout(x)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)


def test_rollouts_ask_an_own_prediction() -> None:
    class Still(TransitionEnergy):
        def expected_next(self, x: Tensor, context: Tensor | None = None) -> Tensor:
            return x[:, -1, :2]

    plain = learned()
    energy = Still(LAYOUT, plain.network, base=plain.base)
    with torch.no_grad():
        found = ExpectedDynamics(energy).rollout(torch.randn(2, 4, 4, generator=seeded()))
    assert torch.equal(found[..., 1:, :2], found[..., :1, :2].expand(-1, -1, 3, -1))


def test_chains_that_go_on_are_the_best_ones_shifted() -> None:
    chains = torch.randn(3, 4, 5, 4, generator=seeded())
    energies = torch.tensor([[3.0, 1.0, 2.0, 4.0], [1.0, torch.nan, 0.0, 2.0], [4.0, 3.0, 2.0, -torch.inf]])
    plan = Plan.best_of(LAYOUT, chains, energies)
    order = torch.tensor([[1, 2], [2, 0], [3, 2]])
    expected = torch.stack([chains[i, row] for i, row in enumerate(order)])
    assert torch.equal(plan.continued(2), shifted(expected))
    assert torch.equal(plan.energy, torch.tensor([1.0, 0.0, -torch.inf]))
    assert torch.equal(plan.states, expected[:, 0, :, :2])
    plan.continued(2).zero_()
    assert torch.equal(plan.chains, chains)
