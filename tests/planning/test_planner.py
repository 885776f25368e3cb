import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.control import planner_for
from ebm_control.data.normalizer import Normalizer
from ebm_control.energies import Energy, GaussianBase, GoalCost, TransitionEnergy
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.models import ModelSettings, TrajectoryModel
from ebm_control.planning import ExpectedDynamics, Plan, Planner, RolledOut
from ebm_control.planning.plan import shifted
from ebm_control.samplers import CEM, MPPI, Langevin
from tests.helpers import assert_equal_up_to_rounding, seeded
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

SAMPLERS = {
    "langevin": Langevin(5, 0.01),
    "mppi": MPPI(3, candidates=8),
    "cem": CEM(3, candidates=8, elites=3),
}
STILL = Langevin(0)
STARTS = torch.tensor([[0.1, 0.3], [-0.7, 0.2], [0.0, 0.0]])
GOALS = torch.tensor([[0.9, -0.3], [0.1, 0.7], [-0.8, -0.4]])


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_start_is_the_same_to_the_bit_in_all_chains(sampler):
    plan = plain_planner(sampler, chains=4).plan(STARTS, GOALS, generator=seeded())
    assert plan.chains.shape == (3, 4, 16, 4)
    assert torch.equal(plan.chains[:, :, 0, :2], STARTS[:, None].expand(-1, 4, -1))
    assert torch.equal(plan.states[:, 0], STARTS)
    assert plan.chains[:, :, 1:].flatten(2).std(dim=1).min() > 0


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("index", [(0, 1), (1,)])
def test_fixed_goal_is_the_same_to_the_bit_in_all_chains(sampler, index):
    planner = plain_planner(sampler, costs=[], chains=4, fix_goal=True, goal_index=index)
    goal = GOALS[:, list(index)]
    plan = planner.plan(STARTS, goal, generator=seeded())
    assert torch.equal(plan.chains[:, :, -1, list(index)], goal[:, None].expand(-1, 4, -1))
    if index == (1,):
        assert plan.chains[:, :, -1, 0].std(dim=1).min() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["langevin", "mppi", "cem"])
def test_one_word_changes_the_sampler_and_each_reaches_its_own_goals(name):
    planner = planner_for(particle_model(), goal_cost(), 10, sampler=name, action_space=SPACE, chains=2)
    path = follow(planner, STARTS, GOALS, 18)
    away = torch.cdist(path[-1], GOALS, p=1)
    assert away.diag().max() < 0.1
    assert torch.equal(away.argmin(dim=1), torch.arange(3))


def test_plan_is_the_best_of_its_chains():
    plan = plain_planner(Langevin(5, 0.001), chains=6).plan(STARTS, GOALS, generator=seeded())
    assert torch.equal(plan.energy, plan.energies.amin(dim=1))
    best = plan.chains[torch.arange(3), plan.energies.argmin(dim=1)]
    assert torch.equal(LAYOUT.states(best), plan.states)
    assert torch.equal(LAYOUT.actions(best)[:, :-1], plan.actions)


@pytest.mark.parametrize("name", ["langevin", "mppi", "cem"])
def test_actions_of_all_chains_keep_to_the_action_space(name):
    planner = planner_for(particle_model(), goal_cost(100), 15, sampler=name, action_space=SPACE, chains=3)
    plan = planner.plan(STARTS[:1], torch.tensor([9.0, 9.0]), generator=seeded())
    actions = NORMALIZER.denormalize_actions(LAYOUT.actions(plan.chains[:, :, :-1]))
    high = torch.from_numpy(SPACE.high)
    assert (actions.abs() <= high * (1 + 1e-6)).all()
    assert (actions[..., :5, :].amax(dim=(0, 1, 2)) > 0.95 * high).all()


def test_equal_generators_give_equal_plans():
    planner = plain_planner(Langevin(5, 0.001))
    plans = [planner.plan(STARTS, GOALS, generator=seeded(seed)) for seed in (3, 3, 4)]
    assert torch.equal(plans[0].chains, plans[1].chains)
    assert torch.equal(plans[0].energies, plans[1].energies)
    assert not torch.equal(plans[0].chains, plans[2].chains)


def test_warm_start_is_the_last_plan_shifted_by_one_row():
    planner = plain_planner(STILL, chains=4, restarts=0.0)
    before = planner.plan(STARTS, GOALS, generator=seeded())
    after = planner.plan(STARTS + 0.1, GOALS, warm=before, generator=seeded(1))
    order = before.energies.argsort(dim=1)
    kept = before.chains.take_along_dim(order[..., None, None], 1)
    assert torch.equal(after.chains[:, :, 1:-1], kept[:, :, 2:])
    assert torch.equal(after.chains[:, :, -1], kept[:, :, -1])
    assert torch.equal(after.chains[:, :, 0, :2], (STARTS + 0.1)[:, None].expand(-1, 4, -1))
    assert torch.equal(after.chains[:, :, 0, 2:], kept[:, :, 1, 2:])


def test_restarts_take_the_place_of_the_worst_chains():
    planner = plain_planner(STILL, chains=4, restarts=0.5)
    before = planner.plan(STARTS, GOALS, generator=seeded())
    fresh = planner.plan(STARTS, GOALS, generator=seeded(1))
    after = planner.plan(STARTS, GOALS, warm=before, generator=seeded(1))
    best = before.energies.argsort(dim=1)[:, :2]
    kept = shifted(before.chains.take_along_dim(best[..., None, None], 1))
    assert torch.equal(after.chains[:, :2, 1:], kept[:, :, 1:])
    assert torch.equal(after.chains[:, 2:], fresh.chains[:, 2:])


def test_cold_problems_start_afresh():
    planner = plain_planner(STILL, chains=4)
    before = planner.plan(STARTS, GOALS, generator=seeded())
    cold = torch.tensor([False, True, False])
    after, warm, fresh = (
        planner.plan(STARTS, GOALS, generator=seeded(1), **given)
        for given in ({"warm": before, "cold": cold}, {"warm": before}, {})
    )
    assert torch.equal(after.chains[cold], fresh.chains[cold])
    assert torch.equal(after.chains[~cold], warm.chains[~cold])
    assert not torch.equal(after.chains[cold], warm.chains[cold])


def test_first_plan_may_have_a_sampler_of_its_own():
    planner = plain_planner(STILL, first=Langevin(3, 0.001))
    before = planner.plan(STARTS, GOALS, generator=seeded())
    assert before.chains[:, 0, 1:].std() > 0  # the first chain starts at rest, and was moved
    warm = planner.plan(STARTS, GOALS, warm=before, generator=seeded(1))
    assert torch.equal(
        warm.chains[:, 0, 1:-1], before.chains[torch.arange(3), before.energies.argmin(1)][:, 2:]
    )


class Hole(Energy):
    """NaN where the last state lies to the right, and all the lower the nearer to there."""

    def forward(self, x, context=None):
        last = x[:, -1, 0]
        return torch.where(last > 0, torch.nan, -10 + last.abs())


@pytest.mark.parametrize("sampler", [STILL, *SAMPLERS.values()], ids=["still", *SAMPLERS])
def test_chains_of_no_energy_never_win(sampler):
    planner = Planner(Hole(), sampler, 4, layout=LAYOUT, chains=16, spread=3.0)
    plan = planner.plan(torch.zeros(8, 2), generator=seeded())
    assert torch.isfinite(plan.energy).all()
    assert (plan.states[:, -1, 0] <= 0).all()
    if sampler is STILL:
        assert torch.isnan(plan.energies).any(dim=1).all()
        drawn = plan.sample(LAYOUT, seeded(), 1e3)
        assert torch.isfinite(drawn.energy).all()
        again = planner.plan(torch.zeros(8, 2), warm=plan, generator=seeded())
        best = plan.chains[torch.arange(8), plan.energies.nan_to_num(torch.inf).argmin(dim=1)]
        assert torch.equal(again.chains[:, 0, :-1, 2:], best[:, 1:, 2:])


def test_a_plan_is_drawn_by_its_energy():
    chains = torch.arange(3.0).reshape(1, 3, 1, 1).expand(4000, 3, 5, 4)
    energies = torch.tensor([0.0, 2.0, torch.nan]).expand(4000, 3)
    plan = Plan.best_of(LAYOUT, chains, energies)
    assert (plan.states == 0).all()
    share = plan.sample(LAYOUT, seeded(), 2.0).states[:, 0, 0].mean()
    expected = torch.sigmoid(torch.tensor(-1.0))
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 4000).sqrt()
    nowhere = Plan.best_of(LAYOUT, chains, torch.full((4000, 3), torch.nan))
    assert nowhere.sample(LAYOUT, seeded(), 1.0).states.shape == (4000, 5, 2)


def test_shooting_gives_the_energy_of_the_trajectory_it_leads_to():
    energy, cost = particle_energy(), goal_cost()
    planner = plain_planner(MPPI(4, candidates=32, noise=1.0), chains=2, dynamics=ExpectedDynamics(energy))
    plan = planner.plan(STARTS, GOALS, generator=seeded())
    for part in cost.modules():
        if hasattr(part, "set_goal"):
            part.set_goal(GOALS)
    flat = plan.chains.flatten(0, 1)
    assert torch.allclose((0.1 * energy + cost)(flat), plan.energies.flatten(), rtol=1e-5)
    assert energy(flat).max() < 1e-6  # on the dynamics
    collocated = plain_planner(STILL, chains=2).plan(STARTS, GOALS, initial=plan.chains)
    assert torch.allclose(collocated.energies, plan.energies, rtol=1e-5)


class Windy:
    """The particle's dynamics in winds along the first coordinate, one a particle."""

    layout = LAYOUT
    winds = torch.tensor([-0.1, 0.0, 0.4])

    def rollout(self, x):
        paths = x[:, None].repeat(1, 3, 1, 1)
        paths[:, :, 1:, :2] = paths[:, :, :1, :2] + (SCALE * paths[:, :, :-1, 2:]).cumsum(dim=2)
        paths[:, :, 1:, 0] += self.winds[:, None]
        return paths


def test_particles_of_a_chain_are_averaged_under_the_goal_of_their_problem():
    cost = GoalCost(LAYOUT, (0, 1))
    planner = plain_planner(STILL, 4, cost, chains=2, dynamics=Windy(), energy=None)
    plan = planner.plan(STARTS, GOALS, generator=seeded())
    for n in range(3):
        cost.set_goal(GOALS[n])
        paths = Windy().rollout(plan.chains[n])
        each = torch.stack([cost(paths[:, p]) for p in range(3)])
        assert torch.allclose(plan.energies[n], each.mean(dim=0), rtol=1e-5)
        assert torch.allclose(plan.chains[n, ..., :2], paths[..., :2].mean(dim=1), atol=1e-6)


def test_particles_are_averaged_the_shorter_way_round():
    class TwoSided:
        layout = TrajectoryLayout(1, 1, periods=(2.0,))

        def rollout(self, x):
            paths = x[:, None].repeat(1, 2, 1, 1)
            paths[:, :, 1:, 0] = torch.tensor([0.9, -0.9])[:, None]
            return paths

    rolled = RolledOut(GoalCost(TwoSided.layout, (0,)), TwoSided()).roll(torch.zeros(1, 3, 2))
    assert torch.allclose(rolled[0, :, 0], torch.tensor([0.0, 1.0, 1.0]))


def test_shooting_needs_dynamics_that_predict():
    layout = TrajectoryLayout(2, 2)
    for energy in (
        TransitionEnergy(layout),
        TransitionEnergy(layout, window=3, base=particle_energy().base),
        TransitionEnergy(layout, base=GaussianBase(2)),
        TransitionEnergy(TrajectoryLayout(2), base=particle_energy().base),
        goal_cost(),
    ):
        with pytest.raises(InputError, match=r"energy: expected .* whose base predicts the next state"):
            ExpectedDynamics(energy)


class Still(Energy):
    """Every trajectory is as good as any other."""

    def forward(self, x, context=None):
        return 0 * x.sum(dim=(1, 2))


def test_windings_start_chains_along_all_ways_round():
    layout = TrajectoryLayout(3, periods=(2.0, 0.0, 6.0))
    given = {"layout": layout, "fix_goal": True, "goal_index": (0, 1, 2), "spread": 0.0, "chains": 6}
    start, goal = (
        torch.tensor([[0.8, 0.0, 1.0], [0.1, 0.0, 0.0]]),
        torch.tensor([[-0.9, 0.5, 0.0], [-0.2, 0.5, 2.0]]),
    )
    both = Planner(Still(), STILL, 20, windings=True, **given).plan(start, goal, generator=seeded()).chains
    steps = layout.difference(both[:, :, 1:], both[:, :, :-1])
    shorter, longer = torch.tensor([[0.3, -0.3], [-1.0, 2.0]]), torch.tensor([[-1.7, 1.7], [5.0, -4.0]])
    turns = steps.sum(dim=2)
    for chain in range(6):
        assert torch.allclose(turns[:, chain, 0], (longer if chain & 1 else shorter)[0], atol=1e-5)
        assert torch.allclose(turns[:, chain, 2], (longer if chain & 2 else shorter)[1], atol=1e-5)
        assert torch.allclose(turns[:, chain, 1], torch.tensor([0.5, 0.5]))
    assert torch.allclose(steps, steps[:, :, :1].expand_as(steps), atol=1e-5)  # straight, at one speed
    once = Planner(Still(), STILL, 20, **given).plan(start, goal, generator=seeded()).chains
    assert_equal_up_to_rounding(once, both[:, :1].expand_as(once))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"windings": True}, "windings: expected fix_goal, and a goal that names some of the periodic"),
        (
            {"windings": True, "fix_goal": True, "goal_index": (0,)},
            r"windings: expected .* periodic coordinates \(\)",
        ),
        ({"horizon": 0}, "horizon: expected a whole number of at least 1"),
        ({"chains": 0}, "chains: expected a whole number of at least 1"),
        ({"restarts": 1.5}, "restarts: expected a number from 0 to 1"),
        ({"costs": [], "fix_goal": True}, "goal_index: expected the coordinates that fix_goal holds"),
        ({"energy": None}, "energy: expected an energy, or dynamics and at least one cost"),
        ({"energy": None, "costs": [], "dynamics": Windy()}, "energy: expected .* at least one cost"),
        ({"fix_goal": True, "dynamics": Windy()}, "dynamics: expected .* a goal that is a cost"),
        (
            {"layout": TrajectoryLayout(3, 1), "dynamics": Windy(), "spread": 1.0},
            "dynamics: expected the planner's",
        ),
    ],
)
def test_settings_of_no_sense_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        plain_planner(**given)


def test_initial_chains_of_another_shape_are_refused():
    with pytest.raises(
        InputError, match=r"initial: expected shape \(3, 8, 16, 4\), got shape \(3, 7, 16, 4\)"
    ):
        plain_planner().plan(STARTS, GOALS, initial=torch.zeros(3, 7, 16, 4))


def test_sampler_of_no_name_is_refused():
    with pytest.raises(
        InputError,
        match=r"sampler: expected one of \['cem', 'gauss-newton', 'langevin', 'mppi'\] or a sampler of plans, got",
    ):
        planner_for(particle_model(), goal_cost(), sampler="hmc")


def test_an_energy_of_noised_data_is_no_dynamics_to_plan_with():
    normalizer = Normalizer.identity(2, 1)
    model = TrajectoryModel.create(
        ModelSettings(hidden=(8,), base_hidden=(8,), noise=(0.1, 1.0)), normalizer, torch.ones(2)
    )
    with pytest.raises(InputError, match=r"^model: expected one trained with another loss"):
        planner_for(model, GoalCost(model.layout, (0,)))
