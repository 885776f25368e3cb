"""Whoever brings a space that is no flat Box is told a wrapper, and it works."""

import gymnasium as gym
import numpy
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

from ebm_control.checks import InputError
from ebm_control.data import collect

PLAIN = Box(-1, 1, (2,), np.float32)


class Spaces(gym.Env):
    """Any spaces; observations are drawn from theirs, actions have to be of theirs."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space
        self.taken = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.taken.append(action)
        return self.observation_space.sample(), 0.0, False, False, {}


def advised(env):
    """The wrapper that the message names, made of its very words."""
    with pytest.raises(InputError, match=r"^env: expected .*; wrap it: ") as caught:
        collect(env, 4, progress=False)
    assert "\n" not in str(caught.value)
    words = str(caught.value).partition("; wrap it: ")[2]
    return eval(words, {"gymnasium": gym, "numpy": numpy, "env": env})


@pytest.mark.parametrize(
    "space",
    [
        Discrete(3),
        Discrete(3, start=2),
        MultiDiscrete([3, 2]),
        MultiDiscrete([[3, 2], [2, 4]]),
        MultiBinary(3),
        Box(-2, 2, (2, 3), np.float64),
        Box(-2, 2, (), np.float32),
        Dict(left=Box(-1, 1, (2,)), right=Box(0, 1, (1,))),
        Tuple((Box(-1, 1, (2,)), Box(0, 1, (1,)))),
    ],
    ids=str,
)
def test_actions(space):
    env = Spaces(PLAIN, space)
    buffer = collect(advised(env), 60, progress=False)
    assert len(buffer) == len(env.taken) == 60
    if isinstance(space, Discrete):
        assert set(env.taken) == set(range(space.start, space.start + space.n))


@pytest.mark.parametrize(
    "space",
    [
        Discrete(4),
        Box(0, 255, (4, 4, 3), np.uint8),
        Box(-1, 1, (2, 2), np.float32),
        Box(-1, 1, (), np.float32),
        Dict(position=Box(-1, 1, (2,)), gripper=Discrete(2)),
        Dict(observation=Box(-1, 1, (2, 2)), desired_goal=Box(-1, 1, (2,))),
        Tuple((Box(-1, 1, (2,)), MultiBinary(2))),
    ],
    ids=str,
)
def test_observations(space):
    buffer = collect(advised(Spaces(space, PLAIN)), 20, progress=False)
    assert buffer.obs_dim == gym.spaces.flatdim(space)


@pytest.mark.parametrize(
    "space", [Dict(a=Discrete(2)), Text(3), Box(-1, 1, (0,)), Tuple((Discrete(2), PLAIN))], ids=str
)
def test_no_wrapper_is_named_where_none_works(space):
    with pytest.raises(InputError, match=r"^env: expected a continuous action space") as caught:
        collect(Spaces(PLAIN, space), 4, progress=False)
    assert "wrap it" not in str(caught.value)
