"""Plans by second-order steps, and initial chains that a model predicts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ebm_control.checks import InputError
from ebm_control.control import planner_for
from ebm_control.energies import (
    MLP,
    Energy,
    GaussianBase,
    GoalCost,
    RegressionBase,
    RewardCost,
    TransitionEnergy,
)
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.models import ModelSettings, TrajectoryModel
from ebm_control.planning import ExpectedDynamics, Plan, RolledOut
from ebm_control.samplers import CEM, MPPI, GaussNewton, Langevin
from tests.helpers import Zero, seeded
from tests.planning.helpers import (
    LAYOUT,
    NORMALIZER,
    SCALE,
    SPACE,
    follow,
    goal_cost,
    particle_energy,
    particle_model,
    plain_planner,
)

STILL = Langevin(0)
STARTS = torch.tensor([[0.1, 0.3], [-0.7, 0.2], [0.0, 0.0]])
GOALS = torch.tensor([[0.9, -0.3], [0.1, 0.7], [-0.8, -0.4]])
LOW, HIGH = torch.tensor([-torch.inf, -torch.inf, -0.5, -0.5]), torch.tensor([torch.inf, torch.inf, 0.5, 0.5])


def predicted(x: Tensor) -> Tensor:
    """The states after those of `x` `(..., T, D)` under the particle's dynamics."""
    return x[..., :2] + SCALE * x[..., 2:]


def rolling(sampler: object = STILL, **given: object):
    return plain_planner(sampler, 6, rollouts=ExpectedDynamics(particle_energy()), **given)


@pytest.mark.parametrize("chains", [1, 2, 5])
def test_initial_chains_obey_the_dynamics_and_the_first_holds_still(chains: int) -> None:
    found = rolling(chains=chains).plan(STARTS, GOALS, generator=seeded()).chains
    torch.testing.assert_close(found[:, :, 1:, :2], predicted(found)[:, :, :-1])
    assert torch.equal(found[:, 0, :, :2], STARTS[:, None].expand(-1, 7, -1))
    assert found[:, 0, :, 2:].abs().max() == 0
    if chains > 1:
        assert (found[:, 1:, :-1, 2:].abs().amax(dim=(2, 3)) > 0.1).all()
        assert found[:, 1:, -1, :2].std(dim=0).min() > 0.05


def test_initial_rollouts_are_of_actions_within_their_bounds() -> None:
    found = rolling(Langevin(0, clamp=(LOW, HIGH)), chains=9).plan(STARTS, GOALS, generator=seeded()).chains
    assert found[:, :, 1:, 2:].abs().max() == 0.5
    torch.testing.assert_close(found[:, :, 2:, :2], predicted(found)[:, :, 1:-1])


def test_without_rollouts_initial_chains_do_not_obey_the_dynamics() -> None:
    found = plain_planner(STILL, 6, chains=5).plan(STARTS, GOALS, generator=seeded()).chains
    assert (found[:, 1:, 1:, :2] - predicted(found)[:, 1:, :-1]).abs().max() > 0.05


def test_a_warm_chain_is_shifted_its_start_is_where_the_system_is_and_its_end_is_predicted() -> None:
    planner = rolling(chains=4, restarts=0.75)
    drawn = planner.plan(STARTS, GOALS, generator=seeded())
    before = replace(drawn, chains=drawn.chains + 0.01 * torch.randn(drawn.chains.shape, generator=seeded(5)))
    best = before.chains[torch.arange(3), before.energies.argmin(dim=1)]
    reached = best[:, 1, :2] + 0.2  # elsewhere than was predicted
    after = planner.plan(reached, GOALS, warm=before, generator=seeded(1)).chains
    assert torch.equal(after[:, 0, 0, :2], reached)
    assert torch.equal(after[:, 0, 0, 2:], best[:, 1, 2:])
    assert torch.equal(after[:, 0, 1:-1], best[:, 2:])
    assert torch.equal(after[:, 0, -1, 2:], best[:, -1, 2:])
    torch.testing.assert_close(after[:, 0, -1, :2], predicted(best[:, -1]))
    assert (after[:, 0, -1, :2] - best[:, -1, :2]).abs().max() > 1e-3  # and not only repeated
    assert torch.equal(
        after[:, 1, :, :2], reached[:, None].expand(-1, 7, -1)
    )  # the first of the new ones holds still
    torch.testing.assert_close(after[:, 2:, 1:, :2], predicted(after)[:, 2:, :-1])
    assert torch.equal(after[:, 1:, 0, :2], reached[:, None].expand(-1, 3, -1))


def test_cold_problems_start_from_rollouts_among_warm_ones() -> None:
    planner = rolling(chains=3, restarts=2 / 3)
    before = planner.plan(STARTS, GOALS, generator=seeded())
    cold = torch.tensor([False, True, False])
    after, warm, fresh = (
        planner.plan(STARTS, GOALS, generator=seeded(1), **given).chains
        for given in ({"warm": before, "cold": cold}, {"warm": before}, {})
    )
    assert torch.equal(after[cold], fresh[cold])
    assert torch.equal(after[~cold, 0], warm[~cold, 0])
    assert not torch.equal(after[cold], warm[cold])


def test_rollouts_of_another_layout_are_refused() -> None:
    dynamics = ExpectedDynamics(particle_energy())
    with pytest.raises(InputError, match=r"^rollouts: expected dynamics of the planner's layout"):
        plain_planner(STILL, layout=TrajectoryLayout(3, 1), rollouts=dynamics, spread=1.0)


# Defaults of `planner_for`.


def model_of(energy: TransitionEnergy) -> TrajectoryModel:
    return TrajectoryModel(energy, NORMALIZER, ModelSettings())


def test_an_energy_with_a_regression_base_is_planned_with_by_second_order_steps() -> None:
    planner = planner_for(particle_model(), goal_cost(), 8, action_space=SPACE)
    assert isinstance(planner.sampler, GaussNewton)
    assert not isinstance(planner.energy, RolledOut)
    assert planner.rollouts is not None
    assert planner.restarts == 1 - 1 / planner.chains  # one warm chain
    reward = planner_for(particle_model(), goal_cost(), 8, action_space=SPACE, preset="reward")
    assert isinstance(reward.sampler, GaussNewton)
    assert reward.chains > planner.chains > 1
    assert planner.first.steps > planner.sampler.steps  # type: ignore[attr-defined]
    named = planner_for(particle_model(), goal_cost(), 8, sampler="gauss-newton", action_space=SPACE)
    plans = [p.plan(STARTS, GOALS, generator=seeded()).chains for p in (planner, named)]
    assert torch.equal(*plans)


@pytest.mark.parametrize(("name", "kind"), [("langevin", Langevin), ("mppi", MPPI), ("cem", CEM)])
def test_other_samplers_go_by_name(name: str, kind: type) -> None:
    planner = planner_for(particle_model(), goal_cost(), 8, sampler=name, action_space=SPACE)
    assert isinstance(planner.sampler, kind)
    assert planner.rollouts is None
    assert isinstance(planner.energy, RolledOut) == (name != "langevin")


def test_where_second_order_steps_do_not_suit_descent_is_the_default() -> None:
    gaussian = TransitionEnergy(LAYOUT, Zero(), base=GaussianBase(2), displacement_scale=SCALE)
    assert isinstance(planner_for(model_of(gaussian), goal_cost(), 8).sampler, Langevin)
    assert isinstance(
        planner_for(model_of(TransitionEnergy(LAYOUT, Zero())), goal_cost(), 8).sampler, Langevin
    )
    over_actions = planner_for(particle_model(), goal_cost(), 8, shooting=True)
    assert isinstance(over_actions.sampler, Langevin)
    assert isinstance(over_actions.energy, RolledOut)


def test_the_weight_of_second_order_plans_is_larger_and_can_be_chosen() -> None:
    def weight(**given: object) -> float:
        planner = planner_for(particle_model(), goal_cost(), 8, **given)  # type: ignore[arg-type]
        return float(planner.energy.terms[0].factor)  # type: ignore[union-attr,index,arg-type]

    assert weight(preset="reward") > 10 * weight() > 20 * weight(sampler="langevin")
    assert weight(weight=3.0) == pytest.approx(weight(sampler="langevin", weight=3.0))


@pytest.mark.parametrize("space", [SPACE, None], ids=["bounds", "no bounds"])
def test_second_order_plans_reach_their_own_goals(space: object) -> None:
    planner = planner_for(particle_model(), goal_cost(), 10, action_space=space)  # type: ignore[arg-type]
    path = follow(planner, STARTS, GOALS, 18)
    away = torch.cdist(path[-1], GOALS, p=1)
    assert away.diag().max() < 0.1
    assert torch.equal(away.argmin(dim=1), torch.arange(3))


def test_second_order_plans_keep_to_the_action_space_and_to_the_dynamics() -> None:
    planner = planner_for(particle_model(), goal_cost(), 12, action_space=SPACE)
    plan = planner.plan(STARTS[:1], torch.tensor([9.0, 9.0]), generator=seeded())
    actions, high = NORMALIZER.denormalize_actions(plan.actions), torch.from_numpy(SPACE.high)
    assert (actions.abs() <= high * (1 + 1e-6)).all()
    assert (actions[:, :5].amax(dim=(0, 1)) > 0.95 * high).all()
    errors = {}
    for name in ("gauss-newton", "langevin"):
        found = planner_for(particle_model(), goal_cost(), 12, sampler=name, action_space=SPACE)
        best = found.plan(STARTS, GOALS, generator=seeded())
        moved = best.states[:, :-1] + SCALE * best.actions
        errors[name] = float((best.states[:, 1:] - moved).norm(dim=-1).mean())
    assert errors["gauss-newton"] < errors["langevin"]


def test_a_reward_is_planned_for_over_states_and_actions() -> None:
    reward = RewardCost(LAYOUT, lambda s, a, after: -20 * (after[..., 0] - 0.4).square())
    planner = planner_for(particle_model(), reward, 10, action_space=SPACE)
    path = follow(planner, torch.zeros(1, 2), None, 12)
    assert abs(path[-1, 0, 0] - 0.4) < 0.05


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampler": "newton"}, r"sampler: expected one of \['cem', 'gauss-newton', 'langevin', 'mppi'\]"),
        (
            {"sampler": "gauss-newton", "shooting": True},
            r"shooting: expected False with second-order steps \(sampler='langevin' plans over actions\)",
        ),
        ({"sampler": "gauss-newton", "weight": -1.0}, "weight: expected a number of at least 0"),
        ({"sampler": "gauss-newton", "chains": 0}, "chains: expected a whole number of at least 1"),
    ],
)
def test_settings_of_no_sense_are_refused(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        planner_for(particle_model(), goal_cost(), 8, **given)


@pytest.mark.slow
def test_two_hundred_plans_in_a_row_are_finite() -> None:
    """Warm plans of many problems, whose systems are thrown about now and then."""
    planner = planner_for(particle_model((0.001, 0.2)), goal_cost(), 8, action_space=SPACE)
    source, plan, states = seeded(), None, STARTS
    for step in range(200):
        plan = planner.plan(states, GOALS, warm=plan, generator=source)
        assert isinstance(plan, Plan)
        assert plan.chains.isfinite().all()
        assert plan.energies.isfinite().all()
        states = states + SCALE * plan.actions[:, 0]
        if step % 20 == 19:
            states = states + torch.randn(states.shape, generator=source) * 10 ** float(step // 20 - 5)


def test_goal_costs_of_another_norm_are_planned_for_too() -> None:
    for norm in ("l1", "l2", "squared"):
        cost = 20 * GoalCost(LAYOUT, (0, 1), norm=norm)  # type: ignore[arg-type]
        planner = planner_for(particle_model(), cost, 10, action_space=SPACE)
        path = follow(planner, STARTS, GOALS, 16)
        assert (path[-1] - GOALS).abs().sum(dim=1).max() < 0.15


@pytest.mark.parametrize("noise", [None, (0.1, 1.0)])
def test_a_tilt_of_less_weight_leaves_the_base_as_it_is(noise: tuple[float, float] | None) -> None:
    torch.manual_seed(0)
    layout = TrajectoryLayout(2, 1)
    base = RegressionBase(MLP(3, (8,), 2), 2)
    energy = TransitionEnergy(layout, MLP(5 + (noise is not None), (8,)), base=base, noise=noise).double()
    half = energy.with_std(base.std, tilt_weight=0.25)
    x = torch.randn(3, 4, 3, dtype=torch.float64)
    context = None if noise is None else torch.full((3, 1), -1.0, dtype=torch.float64)
    if noise is not None:
        half.noise = noise
    (whole_base, whole_tilt), (half_base, half_tilt) = energy.split(x, context), half.split(x, context)
    torch.testing.assert_close(half_base, whole_base)
    torch.testing.assert_close(half_tilt, 0.25 * whole_tilt)
    found = half.quadratic(x, context)
    value, gradient = Energy.value_and_gradient(half, x, context)
    torch.testing.assert_close((found.energy, found.gradient), (value, gradient))
    torch.testing.assert_close(half.value_and_gradient(x, context), (value, gradient))


def test_the_tilt_has_the_weight_of_first_order_plans() -> None:
    energy = particle_energy()
    rough = TransitionEnergy(
        LAYOUT, MLP(6, (8,)), base=energy.base, displacement_scale=energy.displacement_scale
    )
    model = TrajectoryModel(rough, NORMALIZER, ModelSettings())
    first = planner_for(model, goal_cost(), sampler="langevin")
    second = planner_for(model, goal_cost())
    x = torch.randn(3, 16, 4, generator=seeded())
    (base, tilt), (more, same) = (planner.energy.terms[0].split(x) for planner in (first, second))
    torch.testing.assert_close(same, tilt)
    assert (more > 2 * base).all()
