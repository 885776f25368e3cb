"""Which coordinates of an observation hold the achieved goal."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from ebm_control.checks import InputError
from ebm_control.data.goals import goal_coordinates, goal_space, require_goal_coordinates


class Shown(gym.Env):
    """A random walk of two coordinates that is shown as `show` says, with `goals` as the achieved goal."""

    def __init__(self, show, goals, period=0.0, dtype=np.float64, terminates=False):
        self.show, self.goals, self.terminates = show, goals, terminates
        width, aims = len(show(np.zeros(2))), len(goals(np.zeros(2)))
        space = lambda n: Box(-np.inf, np.inf, (n,), dtype)  # noqa: E731
        self.observation_space = Dict(
            {"observation": space(width), "achieved_goal": space(aims), "desired_goal": space(aims)}
        )
        self.action_space = Box(-1, 1, (2,), np.float64)
        self.observation_periods = (period,) * width
        self.dtype = dtype

    def _seen(self):
        observation, achieved = (np.asarray(f(self.s), self.dtype) for f in (self.show, self.goals))
        return {"observation": observation, "achieved_goal": achieved, "desired_goal": 0 * achieved}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = np.zeros(2)
        return self._seen(), {}

    def step(self, action):
        self.s = self.s + action + 0.1 * self.np_random.normal(size=2)
        return self._seen(), 0.0, self.terminates, False, {}


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("ebm/Particle-v0", (0, 1)),
        ("ebm/Maze-v0", (0, 1)),
        ("ebm/Reacher-v0", (0, 1)),
        ("ebm/Arm7-v0", (14, 15, 16)),
        ("Pendulum-v1", None),
    ],
)
def test_the_coordinates_of_known_environments_are_found(name, index):
    assert goal_coordinates(name) == index
    if index is not None:
        require_goal_coordinates(name, index)


def test_they_come_in_the_order_of_the_goal_and_from_anywhere():
    env = Shown(lambda s: [1.0, s[0], 0.0, s[1], s[0] * s[1]], lambda s: s[::-1])
    assert goal_coordinates(env) == (3, 1)
    assert goal_coordinates(lambda: env) == (3, 1)


def test_single_precision_and_episodes_of_one_step_are_no_obstacle():
    env = Shown(lambda s: [1e3 + s[1], s[0]], lambda s: [s[0], 1e3 + s[1]], dtype=np.float32, terminates=True)
    assert goal_coordinates(env) == (1, 0)


def test_periodic_coordinates_are_compared_the_shorter_way_round():
    turn = 2 * np.pi
    env = Shown(lambda s: s % turn, lambda s: s, period=turn)
    assert goal_coordinates(env) == (0, 1)
    require_goal_coordinates(env, (0, 1))


@pytest.mark.parametrize(
    ("show", "found"),
    [
        (lambda s: [s[0], 2 * s[1]], "none for coordinate 1"),
        (lambda s: [s[0], s[1], s[1]], r"\[1, 2\] for coordinate 1"),
    ],
)
def test_none_and_several_are_refused_with_what_to_give(show, found):
    with pytest.raises(
        InputError, match=f"goal_index: expected one .*give goal_index.*got {found} of the goal"
    ):
        goal_coordinates(Shown(show, lambda s: s))


def test_a_goal_that_is_no_vector_is_refused():
    env = Shown(lambda s: s, lambda s: s)
    image = Box(0, 1, (2, 2))
    env.observation_space = Dict(
        {"observation": Box(-1, 1, (2,)), "achieved_goal": image, "desired_goal": image}
    )
    with pytest.raises(InputError, match="env: expected flat Boxes as spaces of goals"):
        goal_space(env)


def test_wrong_coordinates_are_refused():
    env = Shown(lambda s: [s[0], s[1], 5.0], lambda s: s)
    require_goal_coordinates(env, (0, 1))
    for index in ((1, 0), (0, 2)):
        with pytest.raises(InputError, match="goal_index: expected coordinates that hold the achieved goal"):
            require_goal_coordinates(env, index)
    for index in ((0,), (0, 3), (0, -1)):
        with pytest.raises(InputError, match=r"goal_index: expected the 2 coordinates in 0\.\.2"):
            require_goal_coordinates(env, index)
    with pytest.raises(InputError, match="env: expected an environment with goals"):
        require_goal_coordinates("Pendulum-v1", (0,))


def test_the_action_space_of_an_environment_that_exists_keeps_its_own_draws():
    env = Shown(lambda s: s, lambda s: s)
    env.action_space.seed(3)
    expected = env.action_space.sample()
    env.action_space.seed(3)
    goal_coordinates(env)
    np.testing.assert_array_equal(env.action_space.sample(), expected)
