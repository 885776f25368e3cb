"""A history of observations and actions, for what one observation does not show."""

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from ebm_control import adapt, collect
from ebm_control.checks import InputError
from ebm_control.data.goals import goal_coordinates
from ebm_control.data.periods import observation_periods


class Count(gym.Env):
    """Shows the number of steps, in one of two coordinates."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1, 1, (1,), np.float64)
    observation_periods = (0.0, 3.0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 10.0
        return np.array([self.t, 0.5]), {}

    def step(self, action):
        self.t += 1
        return np.array([self.t, 0.5]), 0.0, self.t == 14, False, {}


def test_a_state_holds_the_last_observations_and_the_actions_between_them():
    env = adapt(Count(), history=3)
    assert env.parts == {
        "observation": slice(0, 2),
        "observation[-1]": slice(2, 4),
        "action[-1]": slice(4, 5),
        "observation[-2]": slice(5, 7),
        "action[-2]": slice(7, 8),
    }
    first, _ = env.reset()
    np.testing.assert_array_equal(first, [10, 0.5, 10, 0.5, 0, 10, 0.5, 0])
    np.testing.assert_array_equal(env.step([0.25])[0], [11, 0.5, 10, 0.5, 0.25, 10, 0.5, 0])
    env.step([-0.5])
    last = env.step([5.0])[0]  # what counts is what was taken
    np.testing.assert_array_equal(last, [13, 0.5, 12, 0.5, 1, 11, 0.5, -0.5])
    again, _ = env.reset()
    np.testing.assert_array_equal(again, first)
    assert env.observation_space.contains(last)


def test_collected_histories_are_those_of_the_wrapper():
    buffer = collect(Count(), 12, progress=False, history=2, seed=3)
    assert buffer.obs_dim == 5
    for episode in buffer.episodes():
        np.testing.assert_array_equal(episode.observations[1:, 2:4], episode.observations[:-1, :2])
        np.testing.assert_array_equal(episode.observations[1:, 4:], episode.actions)
    assert buffer.periods == (0, 3, 0, 3, 0)


def test_periods_are_repeated_and_may_be_given_by_name():
    class Named(Count):
        observation_space = Dict(angle=Box(-4, 4, (1,)), rest=Box(-1, 1, (2,)))
        observation_periods: ClassVar = {"angle": 6.28}

    class Beside(Count):
        observation_space = Dict(observation=Box(-4, 4, (2,)), rest=Box(-1, 1, (1,)))
        action_space = Discrete(2)

    assert observation_periods(adapt(Named())) == (6.28, 0, 0)
    assert observation_periods(adapt(gym.wrappers.TimeLimit(Named(), 5))) == (6.28, 0, 0)
    assert observation_periods(adapt(Beside(), 2)) == (0, 3, 0, 0, 3, 0, 0, 0)
    assert observation_periods(adapt(Count(), 2), (2.0, 0)) == (2, 0, 2, 0, 0)
    assert observation_periods(adapt(Count(), 2), (0, 0, 2.0, 0, 0)) == (0, 0, 2, 0, 0)
    with pytest.raises(InputError, match="periods"):
        observation_periods(adapt(Count(), 2), (2.0, 0, 0))
    Named.observation_periods = {"angel": 6.28}
    with pytest.raises(
        InputError, match=r"env.observation_periods: expected names among \['angle', 'rest'\]"
    ):
        observation_periods(adapt(Named()))


def test_goals_are_of_the_latest_observation():
    env = adapt(gym.make("ebm/Particle-v0"), history=3)
    assert goal_coordinates(env) == goal_coordinates("ebm/Particle-v0") == (0, 1)
    observation, _ = env.reset(seed=0)
    assert observation["desired_goal"].shape == (2,)
    assert observation["observation"].shape == env.observation_space["observation"].shape


def test_a_history_is_a_number_of_at_least_one():
    for bad in (0, 1.5, True):
        with pytest.raises(InputError, match=r"^history: expected a whole number"):
            adapt(Count(), bad)
    with pytest.raises(InputError, match="adapted already"):
        adapt(adapt(Count(), 2), 2)
