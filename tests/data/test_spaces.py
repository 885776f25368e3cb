"""Spaces of numbers and choices become vectors, and what has no vector is refused in words."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    Sequence,
    Text,
    Tuple,
    flatten,
    flatten_space,
)
from gymnasium.utils.env_checker import check_env

from ebm_control import RolloutBuffer, adapt, collect
from ebm_control.checks import InputError
from ebm_control.data.actions import FlatActions, as_actions, random_actions
from ebm_control.data.spaces import batch, flat_actions, flat_box, flattened, native_actions, rows_of

PLAIN = Box(-1, 1, (2,), np.float32)


class Spaces(gym.Env):
    """Any spaces; observations are drawn from theirs, and actions have to be of theirs."""

    def __init__(self, observation_space, action_space, reward=0.0):
        self.observation_space, self.action_space, self.reward = observation_space, action_space, reward
        self.taken, self.shown = [], []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.seen(), {}

    def seen(self):
        self.shown.append(self.observation_space.sample())
        return self.shown[-1]

    def step(self, action):
        assert self.action_space.contains(action), action
        self.taken.append(action)
        return self.seen(), self.reward, False, False, {}


ACTIONS = [
    Discrete(3),
    Discrete(3, start=-2),
    MultiDiscrete([3, 2]),
    MultiDiscrete([[3, 2], [2, 4]], start=[[0, 1], [5, 0]]),
    MultiBinary(3),
    MultiBinary((2, 2)),
    Box(-2, 2, (2, 3), np.float64),
    Box(-2, 2, (), np.float32),
    Box(-3, 3, (2, 2), np.int8),
    Dict(left=Box(-1, 1, (2,)), grip=Discrete(2), right=Box(0, 1, (1,))),
    Tuple((Box(-1, 1, (2,)), MultiBinary(2), Dict(a=Discrete(4)))),
]


@pytest.mark.parametrize("space", ACTIONS, ids=str)
def test_recorded_actions_are_those_that_the_environment_got(space):
    env = Spaces(PLAIN, space)
    buffer = collect(env, 60, progress=False)
    assert len(buffer) == len(env.taken) == 60
    np.testing.assert_array_equal(buffer.actions, [flatten(space, action) for action in env.taken])
    if isinstance(space, Discrete):
        assert set(env.taken) == set(range(space.start, space.start + space.n))


@pytest.mark.parametrize("space", ACTIONS, ids=str)
def test_values_and_vectors_are_those_of_gymnasium(space):
    space.seed(0)
    values = [space.sample() for _ in range(20)]
    found = flattened(space, batch(values), "values")
    np.testing.assert_array_equal(found, [flatten(space, value) for value in values])
    again = native_actions(space, found)
    for i, value in enumerate(values):
        one = rows_of(again, i)
        assert space.contains(one)
        np.testing.assert_array_equal(flatten(space, one), flatten(space, value))
    box, known = flat_box(space), flatten_space(space)
    np.testing.assert_array_equal(box.low, known.low)
    np.testing.assert_array_equal(box.high, known.high)


@pytest.mark.parametrize(
    "space",
    [
        Discrete(4),
        Box(-1, 1, (2, 2), np.float32),
        Box(-1, 1, (), np.float32),
        Dict(position=Box(-1, 1, (2,)), gripper=Discrete(2), more=Dict(speed=Box(-1, 1, (3,)))),
        Tuple((Box(-1, 1, (2,)), MultiBinary(2))),
    ],
    ids=str,
)
def test_observations_are_flattened(space):
    env = Spaces(space, PLAIN)
    buffer = collect(env, 20, progress=False)
    np.testing.assert_allclose(buffer.observations, [flatten(space, shown) for shown in env.shown])
    check_env(adapt(env), skip_render_check=True)


def test_a_vector_environment_is_left_as_it_is():
    for name in ("Pendulum-v1", "ebm/Reacher-v0"):
        env = gym.make(name)
        assert adapt(env) is env
        assert collect(name, 20, progress=False).form is None


def test_parts_have_names():
    observed = Dict({"position": Box(-1, 1, (3,)), "arm": Dict(angle=Box(-1, 1, (2,)), mode=Discrete(2))})
    env = adapt(Spaces(observed, MultiDiscrete([2, 3])))
    assert env.parts == {"arm.angle": slice(0, 2), "arm.mode": slice(2, 4), "position": slice(4, 7)}
    assert env.form.action_parts == {"action.0": slice(0, 2), "action.1": slice(2, 5)}
    assert adapt(env) is env
    buffer = collect(Spaces(observed, PLAIN), 10, progress=False)
    assert buffer.parts == env.parts
    assert collect("Pendulum-v1", 10, progress=False).parts == {"observation": slice(0, 3)}


def test_beside_goals_entries_that_are_vectors_follow_the_observation():
    goal = Box(-1, 1, (2,), np.float64)
    parts = {"achieved_goal": goal, "desired_goal": goal, "observation": Box(-1, 1, (4,), np.float64)}
    plain = Spaces(Dict(parts), PLAIN)
    assert adapt(plain) is plain
    force, camera = Box(-1, 1, (1,), np.float64), Box(0, 255, (4, 4, 3), np.uint8)
    more = Dict(parts | {"force": force, "camera": camera})
    env = adapt(Spaces(more, PLAIN))
    assert env.parts == {"observation": slice(0, 4), "force": slice(4, 5)}
    observation, _ = env.reset(seed=0)
    shown = env.native
    assert set(observation) == {"achieved_goal", "desired_goal", "observation"}
    np.testing.assert_array_equal(
        observation["observation"], np.concatenate([shown["observation"], shown["force"]])
    )
    np.testing.assert_array_equal(observation["desired_goal"], shown["desired_goal"])


@pytest.mark.parametrize(
    ("space", "why"),
    [
        (Text(3), "Text has no fixed number of coordinates"),
        (Graph(PLAIN, PLAIN), "Graph has no fixed number"),
        (Sequence(PLAIN), "Sequence has no fixed number"),
        (Box(0, 255, (4, 4, 3), np.uint8), "these are images"),
        (Dict(a=PLAIN, deep=Dict(b=Box(0, 255, (4, 4), np.uint8))), "in 'deep.b': these are images"),
        (Box(-1, 1, (0,)), "it has no coordinates"),
        (Box(-1, 1, (100, 100)), "it has 10000 coordinates"),
        (Discrete(10**7), "it has 10000000 coordinates"),
        (Tuple(()), "it is empty"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_has_no_vector_is_refused_in_words(space, why):
    with pytest.raises(
        InputError, match=r"^env: expected observation spaces of numbers and choices"
    ) as caught:
        collect(Spaces(space, PLAIN), 4, progress=False)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^env: expected action spaces of numbers and choices") as caught:
        collect(Spaces(PLAIN, space), 4, progress=False)
    assert why in str(caught.value)


class Several:
    """Looks like an environment of several agents."""

    possible_agents = ("a", "b")


def test_several_agents_and_missing_rewards_are_refused_in_words():
    with pytest.raises(InputError, match=r"a gymnasium.Env of one agent, got Several"):
        collect(Several, 4, progress=False)
    with pytest.raises(InputError, match=r"reward of environment 0.*: expected one number, got None"):
        collect(Spaces(PLAIN, Discrete(2), None), 4, progress=False)
    with pytest.raises(
        InputError, match=r"expected finite observations and rewards.* the reward of environment 0"
    ):
        collect(Spaces(PLAIN, Discrete(2), np.nan), 100, progress=False)


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        ({"b": np.zeros(2)}, r"a dictionary with \['a'\]"),
        ({"a": np.zeros(3)}, r"shape \(2,\)"),
        ({"a": "x"}, "array"),
    ],
)
def test_an_observation_of_another_form_is_named(observation, said):
    class Wrong(Spaces):
        def seen(self):
            return observation

    with pytest.raises(InputError, match=rf"observation.*{said}.*environment 0, its episode 1"):
        collect(Wrong(Dict(a=Box(-1, 1, (2,))), PLAIN), 4, progress=False)


def test_the_greatest_coordinate_is_chosen_and_random_choices_are_uniform():
    box = flat_actions(Dict(a=Discrete(3), b=Box(-1, 1, (1,)), c=MultiBinary(1), d=Box(-2, 2, (1,), np.int8)))
    assert isinstance(box, FlatActions)
    taken = as_actions([[7.0, 9.0, 8.0, 1.5, 0.4, 0.7]], box)
    np.testing.assert_array_equal(taken, [[0, 1, 0, 1, 0, 1]])
    drawn = random_actions(box, np.random.default_rng(0), (6000,))
    np.testing.assert_allclose(drawn[:, :3].mean(axis=0), 1 / 3, atol=0.02)
    np.testing.assert_array_equal(drawn[:, :3].sum(axis=1), 1)
    np.testing.assert_allclose(drawn[:, 4].mean(), 0.5, atol=0.02)
    values, counts = np.unique(drawn[:, 5], return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2]
    assert counts.min() > 1000


def test_policies_see_and_act_in_the_environments_own_spaces():
    seen = []

    def policy(observations):
        seen.append(observations)
        return np.array([2] * len(observations["a"]))

    env = Spaces(Dict(a=Box(-1, 1, (2,)), b=Discrete(2)), Discrete(3))
    buffer = collect(env, 10, policy, progress=False, history=2)
    assert seen[0]["a"].shape == (1, 2)
    assert seen[0]["b"].shape == (1,)
    assert env.taken == [2] * 10
    np.testing.assert_array_equal(buffer.actions, np.tile([0, 0, 1], (10, 1)))
    with pytest.raises(InputError, match=r"policy: expected values of Discrete\(3\)"):
        collect(env, 10, lambda observations: np.array([3]), progress=False)


def test_a_form_stays_with_the_data(tmp_path):
    buffer = collect(Spaces(Dict(a=PLAIN), Discrete(2)), 40, progress=False, history=3)
    assert buffer.form is not None
    buffer.save(tmp_path / "data.npz")
    loaded = RolloutBuffer.load(tmp_path / "data.npz")
    assert loaded.form == buffer.form
    assert (loaded + buffer).form == buffer.form
    held, rest = buffer.split(0.3, np.random.default_rng(0))
    assert held.form == rest.form == buffer.form == buffer.normalizer().form
    assert type(buffer.normalizer()).from_dict(buffer.normalizer().to_dict()).form == buffer.form
    other = RolloutBuffer(2, 2, form=adapt(Spaces(Dict(b=PLAIN), Discrete(2))).form)
    with pytest.raises(InputError, match=r"^buffer: expected"):
        buffer + other
    with pytest.raises(InputError, match=r"^form: expected one of 3 observation"):
        RolloutBuffer(3, 2, form=other.form)
