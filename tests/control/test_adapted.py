"""Agents in environments with choices, dictionaries and hidden velocities, without wrappers."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import ebm_control as ebm
from ebm_control import InputError, ModelSettings, TrainSettings
from ebm_control.baselines import BaselineSettings

SMALL = TrainSettings(
    ModelSettings(hidden=(16,), base_hidden=(64, 64)), updates=5, base_updates=300, langevin_steps=2
)


class Walk(gym.Env):
    """A place on a line, shown in a dictionary, and steps to the left, none, or to the right."""

    observation_space = Dict(place=Box(-9, 9, (1,), np.float64), lamp=Discrete(2))
    action_space = Discrete(3, start=-1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = self.np_random.uniform(-1, 1, 1), 0
        return self.seen(), {}

    def seen(self):
        return {"place": self.x.copy(), "lamp": int(self.x[0] > 0)}

    def step(self, action):
        assert self.action_space.contains(action), repr(action)
        self.x, self.t = np.clip(self.x + 0.1 * action, -9, 9), self.t + 1
        return self.seen(), -abs(float(self.x[0] - 0.5)), False, self.t >= 15, {}


def reward(s, a, after):
    return -(after[..., 0] - 0.5).abs()


@pytest.fixture(scope="module")
def data():
    return ebm.collect(Walk, 1500, progress=False)


@pytest.fixture(scope="module")
def model(data):
    return ebm.fit(data, SMALL, progress=False)


@pytest.mark.parametrize("sampler", [None, "mppi", "langevin"])
def test_an_agent_returns_what_the_action_space_wants(model, sampler):
    agent = ebm.make_agent(model, Walk(), reward=reward, horizon=4, sampler=sampler)
    first = {"place": np.array([-0.4]), "lamp": 0}
    action, _ = agent.predict(first)
    assert action == 1
    assert Walk.action_space.contains(action)
    both, _ = agent.predict({"place": np.array([[-0.4], [1.2]]), "lamp": np.array([0, 1])})
    assert both.tolist() == [1, -1]
    found = ebm.evaluate(agent, Walk, episodes=2)
    assert found.observations.shape[2] == 3
    # The way takes up to 15 steps of 0.1.
    assert found.mean > -6
    np.testing.assert_array_equal(found.actions.sum(axis=2), 1)


def test_stable_baselines3_evaluates_an_agent(model):
    agent = ebm.make_agent(model, Walk(), reward=reward, horizon=6)
    mean, _ = evaluate_policy(agent, Monitor(Walk()), n_eval_episodes=2, warn=False)
    assert mean > -10


@pytest.mark.parametrize(
    "kind", [SMALL, BaselineSettings(hidden=(32,), updates=200)], ids=["energy", "baseline"]
)
def test_a_loaded_model_knows_the_spaces_of_its_data(tmp_path, data, model, kind):
    fitted = model if kind is SMALL else ebm.fit(data, kind, progress=False)
    fitted.save(tmp_path / "model")
    loaded = ebm.load(tmp_path / "model")
    assert loaded.normalizer.form == data.form
    assert loaded.parts == {"place": slice(0, 1), "lamp": slice(1, 3)}
    ebm.make_agent(loaded, Walk(), reward=reward, horizon=3).predict(Walk().reset(seed=0)[0])

    class Other(Walk):
        observation_space = Dict(position=Box(-9, 9, (1,), np.float64), lamp=Discrete(2))

    expected = (
        r"env: expected observations \(place: 1 numbers, lamp: choice 2\) of 1 steps and actions \(action"
    )
    with pytest.raises(InputError, match=rf"^{expected}.*got observations \(position: 1"):
        ebm.make_agent(loaded, Other(), reward=reward)
    with pytest.raises(InputError, match=rf"^{expected}.*got vectors"):
        ebm.make_agent(loaded, "Pendulum-v1", reward=reward)


def test_an_adapted_environment_speaks_in_vectors(model):
    env = ebm.adapt(Walk())
    agent = ebm.make_agent(model, env, reward=reward, horizon=6)
    action, _ = agent.predict(np.array([-0.4, 1.0, 0.0]))
    np.testing.assert_array_equal(action, [0, 0, 1])
    assert ebm.evaluate(agent, env, episodes=1).mean > -10


class Blind(gym.ObservationWrapper):
    """A pendulum that shows its angle alone."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = Box(-1, 1, (2,), np.float32)

    def observation(self, observation):
        return observation[:2]


def blind():
    return Blind(gym.make("Pendulum-v1", max_episode_steps=40))


@pytest.fixture(scope="module")
def pendulums():
    """Models of the pendulum without a velocity, with one observation and with three."""
    found = {}
    for history in (1, 3):
        data = ebm.collect(blind, 4000, progress=False, history=history, seed=1)
        held = ebm.collect(blind, 800, progress=False, history=history, seed=2)
        found[history] = ebm.fit(data, BaselineSettings(hidden=(64, 64), updates=1200), progress=False), held
    return found


def angle_error(model, held, horizon):
    """Root mean square error of the predicted cosine and sine, `horizon` steps ahead."""
    observations, actions = held.sample_windows(200, horizon + 1, rng=np.random.default_rng(0))
    future = model.predict(observations[:, 0], actions[:, :-1], horizon=horizon).states[:, 0, -1, :2]
    return float((future - torch.from_numpy(observations[:, -1, :2])).square().mean().sqrt())


def test_a_history_shows_what_one_observation_hides(pendulums):
    for steps, factor in ((1, 5), (5, 2.5)):
        without, with_it = (angle_error(*pendulums[history], steps) for history in (1, 3))
        assert with_it < without / factor


def test_an_agent_keeps_the_history_of_each_episode(pendulums):
    model, _ = pendulums[3]
    agent = ebm.make_agent(
        model, blind(), reward=lambda s, a, after: after[..., 0], horizon=3, sampler="mppi"
    )
    raw = blind(), blind()
    adapted = ebm.adapt(blind(), history=3)
    begun = [env.reset(seed=i)[0] for i, env in enumerate(raw)]
    expected, _ = adapted.reset(seed=1)
    state, fresh = None, np.array([True, True])
    for t in range(6):
        actions, state = agent.predict(np.stack(begun), state, fresh)
        seen = model.normalizer.denormalize_observations(state.states[1, 0])
        np.testing.assert_allclose(seen, expected, atol=1e-5)
        begun = [env.step(action)[0] for env, action in zip(raw, actions, strict=True)]
        expected = adapted.step(actions[1])[0]
        fresh = np.array([False, False])
        if t == 3:  # a new episode in one of them
            begun[1], _ = raw[1].reset(seed=7)
            expected, _ = adapted.reset(seed=7)
            fresh = np.array([False, True])
    assert ebm.evaluate(agent, blind, episodes=2).observations.shape[2] == 2


def test_goals_beside_a_history_are_planned_for():
    data = ebm.collect("ebm/Particle-v0", 1200, progress=False, history=2)
    model = ebm.fit(data, BaselineSettings(hidden=(64,), updates=400), progress=False)
    agent = ebm.make_agent(model, "ebm/Particle-v0", horizon=6)
    assert agent.planner.goal_index == (0, 1)
    assert ebm.evaluate(agent, "ebm/Particle-v0", episodes=1).success_rate == 1
