import numpy as np
import pytest
import torch

from ebm_control.baselines import Ensemble
from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer
from ebm_control.energies import BoundCost, TrajectoryLayout
from ebm_control.online.exploration.disagreement import DisagreementCost
from ebm_control.planning import Planner
from ebm_control.samplers import CEM, Langevin
from tests.baselines.helpers import fitted
from tests.helpers import seeded

LAYOUT = TrajectoryLayout(2, 1, periods=(2.0, 0.0))


@pytest.fixture
def fresh():
    torch.manual_seed(0)
    return Ensemble(LAYOUT, torch.tensor([0.5, 2.0]), (16, 16), members=3)


def on_data(buffer, normalizer, windows=64, rows=6):
    observations, actions = buffer.sample_windows(windows, rows, rng=np.random.default_rng(0))
    return normalizer.normalize(torch.tensor(observations), torch.tensor(actions)).float()


def trajectories(count=4, rows=6):
    return torch.randn(count, rows, 3, generator=seeded())


def test_cost_is_what_its_formula_says(fresh):
    x = trajectories()
    total = torch.zeros(4)
    for t in range(5):
        means = torch.stack([fresh(fresh.inputs(x[:, t]).expand(3, -1, -1))[0][m] for m in range(3)])
        total -= (means - means.mean(dim=0)).square().mean(dim=0).sum(dim=-1)
    torch.testing.assert_close(DisagreementCost(fresh)(x), total)
    assert (total < 0).all()


def test_last_row_counts_for_nothing_and_chains_are_independent(fresh):
    cost, x = DisagreementCost(fresh), trajectories()
    moved = x.clone()
    moved[:, -1] += 5
    assert torch.equal(cost(moved), cost(x))
    torch.testing.assert_close(cost(x), torch.cat([cost(x[i : i + 1]) for i in range(4)]))


def test_gradient_is_right(fresh):
    cost = DisagreementCost(fresh).double()
    assert torch.autograd.gradcheck(cost, trajectories(2, 3).double().requires_grad_())


def test_members_that_agree_cost_nothing(fresh):
    for parameter in (*fresh.weights, *fresh.biases):
        parameter.data[:] = parameter.data[:1].clone()
    assert DisagreementCost(fresh)(trajectories()).abs().max() < 1e-10


def test_disagreement_is_larger_off_the_data_than_on_it(buffer, ensemble):
    cost = DisagreementCost(ensemble.dynamics)
    known = on_data(buffer, ensemble.normalizer)
    for coordinate in (1, 2):  # the velocity, the action
        unknown = known.clone()
        unknown[..., coordinate] += 5.0
        assert cost(unknown).median() < 20 * cost(known).mean()


def test_speeds_that_the_data_leave_out_are_disagreed_on(buffer):
    slow = RolloutBuffer(2, 1, periods=(2.0, 0.0))
    for episode in buffer.episodes():
        if abs(episode.observations[:, 1]).max() < 0.8:
            slow.add_episode(episode.observations, episode.actions)
    model = fitted(slow, "ensemble", hidden=(32, 32), updates=300)
    cost = DisagreementCost(model.dynamics)
    known = on_data(slow, model.normalizer)
    fast = on_data(buffer, model.normalizer, windows=500, rows=2)
    fast = fast[abs(model.normalizer.denormalize(fast)[0][:, 0, 1]) > 1.2]
    assert len(fast) > 5
    assert cost.disagreement(fast).mean() > 4 * cost.disagreement(known).mean()


def test_langevin_under_the_cost_and_bounds_goes_where_members_disagree(buffer, ensemble):
    cost = DisagreementCost(ensemble.dynamics)
    x = on_data(buffer, ensemble.normalizer, windows=16)
    bounds = BoundCost(torch.full((2,), -3.0), torch.full((2,), 3.0), [1, 2])
    sampler = Langevin(steps=80, step_size=0.05, temperature=0.01, adapt="rms")
    chain = sampler(cost + 100 * bounds, x, generator=seeded())
    assert cost(chain.x).median() < 5 * cost(x).mean()
    assert chain.x[..., 1:].abs().max() < 3.2


def test_plan_over_actions_learns_more_than_rest(buffer, ensemble):
    dynamics = ensemble.dynamics
    costs = [DisagreementCost(dynamics), 100 * BoundCost(torch.tensor([-4.0]), torch.tensor([4.0]), [2])]
    sampler = CEM(steps=10, candidates=64, noise=1.0)
    planner = Planner(None, sampler, 8, costs, layout=dynamics.layout, chains=1, dynamics=dynamics)
    start = ensemble.layout.states(on_data(buffer, ensemble.normalizer, windows=4)[:, 0])
    plan = planner.plan(start, generator=seeded())
    rest = torch.zeros(4, 9, 3)
    rest[:, 0, :2] = start
    assert (planner.energy(plan.chains[:, 0]) < 20 * planner.energy(rest)).all()


def test_a_single_member_is_named():
    single = Ensemble(LAYOUT, torch.ones(2), (4,), members=1)
    with pytest.raises(InputError, match="ensemble: expected at least 2 members, got 1 member"):
        DisagreementCost(single)
