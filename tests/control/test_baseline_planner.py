import numpy as np
import pytest
import torch

from ebm_control.baselines import TrajectorySampling
from ebm_control.checks import InputError
from ebm_control.control import planner_for
from ebm_control.energies import GoalCost
from ebm_control.planning import MPCAgent
from ebm_control.samplers import CEM, MPPI, Geometric, Langevin, Linear
from tests.baselines.helpers import SPACE, fitted, ring
from tests.helpers import seeded

pytestmark = pytest.mark.slow

GOALS = np.array([[0.4], [-0.5], [0.9]])
SAMPLERS = {
    "cem": CEM(6, candidates=48, elites=8, noise=0.7, smooth=False),
    "mppi": MPPI(6, candidates=48, noise=Geometric(0.7, 0.1), temperature=0.05, smooth=False),
    "langevin": Langevin(15, Linear(0.2, 0.02), noise=0.0, adapt="rms"),
}


def agent(baseline, sampler, horizon=8, **given):
    cost = 20 * GoalCost(baseline.layout, (0,), smooth=0.02)
    planner = planner_for(baseline, cost, horizon, sampler=sampler, action_space=SPACE, **given)
    return MPCAgent(planner, baseline.normalizer, SPACE)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_every_sampler_drives_each_problem_to_its_own_goal(baseline, sampler):
    driver, states, plan = agent(baseline, sampler), np.array([[0.0, 0.0], [0.1, 0.3], [-0.9, 0.0]]), None
    for _ in range(18):
        observation = {"observation": states, "desired_goal": GOALS}
        actions, plan = driver.predict(observation, plan)
        assert (np.abs(actions) <= 1).all()
        states = ring(states, actions)
    away = np.abs((states[:, :1] - GOALS + 1) % 2 - 1)
    assert away.max() < 0.1


def test_a_cold_start_gets_three_times_the_steps(feed_forward):
    planner = agent(feed_forward, "cem").planner
    assert (planner.first.steps, planner.sampler.steps) == (24, 8)
    assert planner.first.clamp == planner.sampler.clamp


def test_action_bounds_are_those_of_the_space_in_normalised_units(feed_forward):
    low, high = agent(feed_forward, "mppi").planner.sampler.clamp
    bound = feed_forward.normalizer.normalize_actions(torch.tensor([1.0])).item()
    assert high[:2] == (float("inf"), float("inf"))
    assert high[2] == pytest.approx(bound)
    plan = agent(feed_forward, "mppi").planner.plan(
        torch.zeros(1, 2), torch.tensor([0.9]), generator=seeded()
    )
    assert plan.actions.max() <= bound + 1e-6
    assert low[2] == pytest.approx(feed_forward.normalizer.normalize_actions(torch.tensor([-1.0])).item())


def test_equal_seeds_give_equal_plans(ensemble):
    start, goal = torch.zeros(2, 2), torch.tensor([[0.5], [-0.5]])
    plans = []
    for _ in range(2):
        planner = agent(ensemble, SAMPLERS["cem"], particles=10).planner
        plans.append(planner.plan(start, goal, generator=seeded()).chains)
    assert torch.equal(*plans)


def test_particles_of_an_ensemble_count_in_the_energy(ensemble):
    """The energy of a plan is the mean cost of its particles."""
    driver, start, goal = agent(ensemble, Langevin(0), particles=10), torch.zeros(1, 2), torch.tensor([0.5])
    plan = driver.planner.plan(start, goal, generator=seeded())
    dynamics = TrajectorySampling(ensemble.dynamics, 10, 8, seeded())
    cost = 20 * GoalCost(ensemble.layout, (0,), smooth=0.02)
    cost.energy.set_goal(goal)
    paths = dynamics.rollout(plan.chains[0])
    assert torch.allclose(cost(paths.flatten(0, 1)).mean(), plan.energy[0], rtol=1e-5)


def test_particles_of_no_sense_are_refused(ensemble):
    with pytest.raises(InputError, match="particles: expected a multiple of the 5 members, got 7"):
        agent(ensemble, "cem", particles=7)


@pytest.mark.parametrize("kind", ["feed-forward", "ensemble"])
def test_a_model_of_states_alone_cannot_be_planned_with(buffer, kind):
    model = fitted(buffer, kind, hidden=(8,), updates=1, states_only=True)
    with pytest.raises(InputError, match=r"model: expected a model with actions: .* without actions"):
        agent(model, "cem")
