"""Agents from a model and an environment: costs, units, bounds and settings that go together."""

import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box

from ebm_control.baselines import BaselineSettings, fit_baseline
from ebm_control.checks import InputError
from ebm_control.control import make_agent
from ebm_control.data import collect
from ebm_control.energies import RewardCost, SmoothnessCost
from ebm_control.models import ModelSettings, TrainSettings, fit_model
from ebm_control.planning import RolledOut, evaluate
from ebm_control.samplers import MPPI, GaussNewton, Langevin

pytestmark = pytest.mark.slow

SMALL = TrainSettings(
    ModelSettings(hidden=(16,), base_hidden=(32, 32)), updates=2, base_updates=400, batch_size=64
)


class Mass(gym.Env):
    """A point on a line that is pushed; it is paid for being at 1."""

    observation_space = Box(-3.0, 3.0, (1,), np.float64)
    action_space = Box(-0.2, 0.2, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = np.zeros(1), 0
        return self.x.copy(), {}

    def step(self, action):
        self.x, self.t = np.clip(self.x + action, -3, 3), self.t + 1
        return self.x.copy(), -float(abs(self.x[0] - 1)), False, self.t >= 15, {}


def reward(s, a, after):
    return -(after[..., 0] - 1).abs()


@pytest.fixture(scope="module")
def rollouts():
    return collect(Mass, 1500, progress=False)


@pytest.fixture(scope="module")
def model(rollouts):
    return fit_model(rollouts, SMALL, progress=False)


@pytest.fixture(scope="module")
def particle():
    data = collect("ebm/Particle-v0", 1500, progress=False)
    return fit_model(data, SMALL, progress=False), data


@pytest.mark.parametrize("sampler", [None, "gauss-newton", "langevin"])
def test_a_reward_is_planned_for_within_the_bounds_of_actions(model, sampler):
    agent = make_agent(model, Mass(), reward=reward, horizon=6, sampler=sampler)
    assert isinstance(agent.planner.energy, RolledOut) == (sampler == "langevin"), "over actions alone"
    assert isinstance(agent.planner.sampler, Langevin if sampler == "langevin" else GaussNewton)
    outcome = evaluate(agent, Mass, episodes=2)
    assert np.abs(outcome.actions).max() <= 0.2
    assert repr(outcome).startswith("Episodes(2: mean return -")
    assert outcome.observations[-1, :, 0] == pytest.approx(1.0, abs=0.1)


def test_a_cost_is_planned_for_as_it_is(model):
    cost = 30 * RewardCost(model.layout, reward, denormalize=model.normalizer.denormalize)
    agent = make_agent(model, Mass(), cost=cost, horizon=6, sampler="mppi")
    assert isinstance(agent.planner.sampler, MPPI)
    assert evaluate(agent, Mass, episodes=1).observations[-1, 0, 0] == pytest.approx(1.0, abs=0.15)


def test_goals_of_the_environment_are_found_and_reached(particle):
    model, _ = particle
    agent = make_agent(model, "ebm/Particle-v0", horizon=8)
    assert agent.planner.goal_index == (0, 1)
    assert not isinstance(agent.planner.energy, RolledOut), "states and actions"
    assert isinstance(agent.planner.sampler, GaussNewton)
    by_descent = make_agent(model, "ebm/Particle-v0", horizon=8, sampler="langevin")
    assert isinstance(by_descent.planner.sampler, Langevin)
    assert not isinstance(by_descent.planner.energy, RolledOut), "states and actions"
    assert make_agent(model, "ebm/Particle-v0", goal_index=(0, 1)).planner.goal_index == (0, 1)


def test_a_baseline_takes_the_place_of_an_energy(rollouts):
    settings = BaselineSettings("ensemble", members=2, hidden=(16,), updates=300, batch_size=64)
    model = fit_baseline(rollouts, settings, progress=False)
    agents = [make_agent(model, Mass(), reward=reward, horizon=6, seed=seed) for seed in (0, 0, 1)]
    observation = np.array([[0.95]])
    first, second, other = (agent.predict(observation)[0] for agent in agents)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_reward_unlike_the_recorded_one_is_warned_of(model):
    with pytest.warns(UserWarning, match="reward: its correlation with the rewards in the data is -"):
        make_agent(model, Mass(), reward=lambda s, a, after: -reward(s, a, after))


def test_an_environment_that_is_given_stays_open_and_one_by_id_is_closed(model, particle):
    env = Mass()
    env.reset(seed=0)
    make_agent(model, env, reward=reward)
    env.step(np.zeros(1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cost": True, "reward": reward}, "^cost: expected one of them, got a reward too"),
        ({}, "^reward: expected a reward or a cost, as the environment has no goals"),
        (
            {"env": "Pendulum-v1", "reward": reward},
            "^env: expected 1 observation and 1 action coordinates, which the model was trained on, got 3",
        ),
        ({"env": "CartPole-v1", "reward": reward}, "^env: "),
        ({"env": "Mass-v7", "reward": reward}, "^env: expected a registered environment id"),
        ({"reward": 3}, "^reward: "),
        ({"reward": lambda s, a, after: after}, "^reward"),
        ({"reward": lambda s, a, after: (after[..., 0] - 100).sqrt()}, r"^reward\(...\): .*finite"),
        ({"reward": lambda s, a, after: np.zeros(after.shape[:-1])}, r"^reward\(...\): expected a tensor"),
        ({"reward": lambda s, a, after: -np.abs(after[..., 0])}, "^reward: expected a function of states"),
        ({"cost": reward}, "^cost: expected an Energy .a function of states and actions is a reward"),
        ({"reward": reward, "sampler": "hmc"}, "^sampler: expected one of"),
        ({"reward": reward, "horizon": 0}, "^horizon: "),
        ({"reward": reward, "replan_every": 0}, "^replan_every: "),
        ({"reward": reward, "seed": -1}, "^seed: "),
    ],
)
def test_what_does_not_go_together_is_named(model, changes, said):
    given = {"env": Mass()} | changes
    if given.get("cost") is True:
        given["cost"] = SmoothnessCost(model.layout)
    with pytest.raises(InputError, match=said):
        make_agent(model, given.pop("env"), **given)


def test_what_is_no_model_or_no_agent_is_named(model, particle):
    with pytest.raises(InputError, match=r"^model: expected a trajectory model or a baseline"):
        make_agent(object(), Mass(), reward=reward)
    for agent in ("random", reward, model):
        with pytest.raises(InputError, match=r"^agent: expected an agent, of make_agent for example"):
            evaluate(agent, Mass)
    with pytest.raises(InputError, match=r"^goal_index: expected the 2 coordinates"):
        make_agent(particle[0], "ebm/Particle-v0", goal_index=(0,))
    with pytest.raises(InputError, match=r"^sampler: expected a sampler"):
        model.predict(np.zeros((1, 1)), np.zeros((1, 2, 1)), horizon=2, sampler="langevin")


def test_a_reward_without_a_gradient_is_warned_of_where_plans_follow_one(model):
    def sparse(s, a, after):
        return (after[..., 0] > 0.9).double()

    unrecorded = replace(model, recorded=None)
    for given in (model, unrecorded):
        with pytest.warns(UserWarning, match="its gradient is zero .* sampler='cem'"):
            make_agent(given, Mass(), reward=sparse)
        with pytest.warns(UserWarning, match="its gradient is zero"):
            make_agent(given, Mass(), reward=sparse, sampler="gauss-newton")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_agent(unrecorded, Mass(), reward=sparse, sampler="cem")
        make_agent(unrecorded, Mass(), reward=reward)
