"""Periods are asked of the environment by a name of their own, through wrappers that keep coordinates only."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.wrappers import (
    FlattenObservation,
    FrameStackObservation,
    NormalizeObservation,
    RescaleObservation,
    TimeAwareObservation,
    TimeLimit,
    TransformObservation,
)

from ebm_control.checks import InputError
from ebm_control.data import collect
from ebm_control.data.periods import observation_periods
from tests.data.environments import Point

REACHER = (2.0, 2.0, 0.0, 0.0)


def reacher():
    return gym.make("ebm/Reacher-v0")


def bare():
    env = reacher()
    return TransformObservation(env, lambda o: o["observation"], env.observation_space["observation"])


def changed(f, low, high):
    return TransformObservation(bare(), f, Box(np.asarray(low), np.asarray(high), dtype=np.float64))


class Angles(Point):
    """Unbounded spaces, the first coordinate an angle."""

    observation_periods = (6.0, 0.0)


@pytest.mark.parametrize(
    "wrap", [lambda e: e, lambda e: TimeLimit(e, 5), gym.wrappers.RecordEpisodeStatistics]
)
def test_wrappers_that_keep_coordinates_keep_periods(wrap):
    assert observation_periods(wrap(reacher())) == REACHER
    assert observation_periods(wrap(bare())) == REACHER
    assert observation_periods(wrap(Angles())) == (6.0, 0.0)


@pytest.mark.parametrize(
    "env",
    [
        lambda: changed(
            lambda o: o * [180, 180, 1, 1], [-180, -180, -np.inf, -np.inf], [180, 180, np.inf, np.inf]
        ),
        lambda: changed(lambda o: o[::-1], [-np.inf, -np.inf, -1, -1], [np.inf, np.inf, 1, 1]),
        lambda: TransformObservation(Angles(), lambda o: o[::-1], Angles().observation_space),
        lambda: TransformObservation(Angles(), lambda o: 2 * o, Angles().observation_space),
        lambda: TimeAwareObservation(bare()),
        lambda: NormalizeObservation(Angles()),
        lambda: RescaleObservation(
            TransformObservation(Angles(), np.tanh, Box(-1, 1, (2,), np.float64)), 0, 1
        ),
        lambda: FlattenObservation(FrameStackObservation(Angles(), 2)),
    ],
)
def test_wrappers_that_change_coordinates_have_no_periods_unless_they_say_so(env):
    assert observation_periods(env()) == ()
    width = env().observation_space.shape[0]
    assert observation_periods(env(), [3.0] * width) == (3.0,) * width


def test_a_wrapper_that_may_change_observations_in_step_is_not_looked_through_unless_it_says_so():
    class Shaped(gym.Wrapper):
        def step(self, action):
            observation, reward, *rest = self.env.step(action)
            return observation, 2 * reward, *rest

    assert observation_periods(Shaped(Angles())) == ()
    Shaped.keeps_observations = True
    assert observation_periods(Shaped(Angles())) == (6.0, 0.0)

    class Named(gym.Wrapper):
        """Overrides neither."""

    assert observation_periods(Named(Angles())) == (6.0, 0.0)


def test_a_wrapper_may_declare_its_own():
    class Degrees(gym.ObservationWrapper):
        observation_periods = (360.0, 0.0)

        def observation(self, observation):
            return observation * [60.0, 1.0]

    assert observation_periods(TimeLimit(Degrees(Angles()), 5)) == (360.0, 0.0)


@pytest.mark.parametrize("value", [(5, 10), 14, None, ["Q1", "Q2"]])
def test_an_attribute_of_another_meaning_is_not_asked(value):
    env = Point()
    env.periods = value
    assert observation_periods(env) == ()


@pytest.mark.parametrize("value", [(1.0,), 14, "ab", (1.0, -1.0), (np.nan, 1.0), (np.inf, 0.0), [None, 1.0]])
def test_periods_that_do_not_fit_are_refused_by_name(value):
    class Wrong(Point):
        observation_periods = value

    with pytest.raises(InputError, match=r"^env.observation_periods: expected \(\) or 2 finite numbers"):
        collect(Wrong, 10, progress=False)
    with pytest.raises(InputError, match=r"^periods: expected \(\) or 2 finite numbers"):
        collect(Point, 10, periods=value, progress=False)


def test_none_that_wrap_are_no_periods():
    assert collect(Point, 10, periods=(0.0, 0.0), progress=False).periods == ()
    assert collect(Angles, 10, periods=(), progress=False).periods == ()
    assert collect(Point, 10, periods=(2.5, 0.0), progress=False).periods == (2.5, 0.0)
