"""Collection in the situations that users bring: shared, noisy, broken environments, and older interfaces."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.wrappers import TimeLimit

from ebm_control.checks import InputError
from ebm_control.data import collect
from tests.data.environments import Broken, Noisy, Point


def false_share(buffer, gain=0.1):
    s, a, after = buffer.transitions()
    return np.mean(np.abs(after - (s + gain * a)).max(axis=1) > 1e-6)


def test_one_environment_is_collected_from_by_itself_and_left_open():
    env = Point()
    env.close = lambda: pytest.fail("it is the caller's to close")
    buffer = collect(env, 70, progress=False)
    assert len(buffer) == 70
    assert false_share(buffer) == 0


@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: TimeLimit(env, 5), gym.wrappers.ClipAction])
def test_a_function_that_hands_back_one_and_the_same_environment_is_refused(wrap):
    env = Point()
    with pytest.raises(InputError, match=r"^env: expected environments of their own"):
        collect(lambda: wrap(env), 40, num_envs=3, progress=False)
    assert len(collect(lambda: wrap(env), 40, num_envs=1, progress=False)) == 40


@pytest.mark.parametrize(("num_envs", "dim"), [(1, 1), (1, 3), (2, 1), (8, 2)])
def test_noise_of_the_environment_is_not_the_random_action(num_envs, dim):
    buffer = collect(lambda: Noisy(dim=dim, limit=50), 2000, num_envs=num_envs, seed=3, progress=False)
    s, a, after = buffer.transitions()
    noise = (after - 0.9 * s - 0.1 * a) / 0.1
    bound = 5 / np.sqrt(noise.size)
    assert abs(np.corrcoef(a.ravel(), noise.ravel())[0, 1]) < bound
    assert abs(np.corrcoef(a.ravel()[:-dim], noise.ravel()[dim:])[0, 1]) < bound


@pytest.mark.parametrize("pair", [(0, 1), (0, 8), (3, 4)])
def test_seeds_share_no_starts(pair):
    a, b = (
        {tuple(e.observations[0]) for e in collect(Point, 2000, seed=s, progress=False).episodes()}
        for s in pair
    )
    assert not a & b


@pytest.mark.parametrize(
    ("what", "where"), [("observation", "observation coordinate 1"), ("reward", "the reward")]
)
def test_a_reading_that_is_not_finite_is_left_out_and_said(what, where):
    with pytest.warns(
        UserWarning, match=rf"2 steps left out.*{where} of environment 0, its episode 3, step 7"
    ):
        buffer = collect(lambda: Broken(what), 200, num_envs=2, progress=False)
    assert len(buffer) == 200
    assert false_share(buffer) == 0
    lengths = [len(e) for e in buffer.episodes()]
    assert lengths.count(6) == 2, "the episodes end before the reading"
    assert not any(e.terminated for e in buffer.episodes())


def test_an_environment_that_gives_nothing_finite_is_refused_with_what_was_whole():
    class Deaf(Point):
        def step(self, action):
            observation, *rest = super().step(action)
            return observation * (np.nan if self.t > 1 else 1), *rest

    with pytest.raises(InputError, match=r"^env: expected finite") as caught:
        collect(Deaf, 1000, progress=False)
    assert len(caught.value.rollouts) > 0

    class Blind(Point):
        def seen(self):
            return self.s * np.nan

    with pytest.raises(InputError, match=r"resets in a row"):
        collect(Blind, 10, progress=False)


def test_what_is_whole_is_handed_back_where_the_environment_fails():
    with pytest.raises(
        InputError, match=r"ValueError: the motor is hot .*episode 3, step 7.*whole"
    ) as caught:
        collect(lambda: Broken("error"), 1000, num_envs=2, progress=False)
    kept = caught.value.rollouts
    assert len(kept) == 2 * 46, "all steps before the one that failed, of both environments"
    assert false_share(kept) == 0


def test_what_is_whole_is_handed_back_where_the_policy_fails_or_the_user_stops():
    def policy(observation, calls=[]):  # noqa: B006
        calls.append(0)
        if len(calls) == 31:
            raise {"stop": KeyboardInterrupt, "fail": RuntimeError}[kind]("enough")
        return np.zeros((2, 2))

    kind = "fail"
    with pytest.raises(InputError, match="RuntimeError: enough") as caught:
        collect(Point, 1000, policy, num_envs=2, progress=False)
    assert len(caught.value.rollouts) == 60
    policy.__defaults__[0].clear()
    kind = "stop"
    with pytest.raises(KeyboardInterrupt) as stopped:
        collect(Point, 1000, policy, num_envs=2, progress=False)
    assert len(stopped.value.rollouts) == 60
    assert false_share(stopped.value.rollouts, 0.1) == 0


class NoOptions(Point):
    def reset(self, seed=None):
        return super().reset(seed=seed)


class NoSeed(Point):
    def reset(self):
        return super().reset()


class NoInfo(Point):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class Four(Point):
    def step(self, action):
        observation, reward, ended, cut, info = super().step(action)
        return observation, reward, ended or cut, info


class Longer(Point):
    def seen(self):
        return np.append(self.s, 0.0)


class Whole(Point):
    """A space of bytes, observations of floats: they are kept as they are."""

    def __init__(self):
        super().__init__()
        self.observation_space = Box(0, 255, (2,), np.uint8)

    def seen(self):
        return 100 + 20 * self.s


def test_reset_need_not_take_options():
    assert false_share(collect(NoOptions, 100, num_envs=2, progress=False)) == 0


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (NoSeed, "interface of Gymnasium.*unexpected keyword argument 'seed'"),
        (NoInfo, "interface of Gymnasium.*reset that gave ndarray"),
        (Four, "interface of Gymnasium.*step that gave 4 values"),
        (Longer, r"shape \(2,\), as its observation space says, got an observation of shape \(3,\)"),
    ],
)
def test_another_interface_is_refused_in_words(kind, words):
    with pytest.raises(InputError, match=rf"^env: expected .*{words}"):
        collect(kind, 50, num_envs=2, progress=False)


def test_observations_are_not_cast_to_the_dtype_of_the_space():
    buffer = collect(Whole, 100, num_envs=2, progress=False)
    assert false_share(buffer, gain=2.0) == 0
    assert (buffer.observations % 1 != 0).any()


@pytest.mark.parametrize(
    "form", [np.float32, int, lambda r: np.array(r), lambda r: np.array([r]), lambda r: r > -1]
)
def test_rewards_of_any_single_number_are_taken(form):
    class Odd(Point):
        def step(self, action):
            observation, reward, ended, cut, info = super().step(action)
            return observation, form(reward), np.bool_(ended), np.array([cut]), info

    rewards = np.concatenate([e.rewards for e in collect(Odd, 60, num_envs=2, progress=False).episodes()])
    plain = np.concatenate([e.rewards for e in collect(Point, 60, num_envs=2, progress=False).episodes()])
    np.testing.assert_allclose(rewards, [float(np.asarray(form(r)).item()) for r in plain], rtol=1e-6)


@pytest.mark.parametrize("reward", [None, np.zeros(2), "good"])
def test_rewards_that_are_no_number_are_refused(reward):
    class Odd(Point):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, reward, *rest

    with pytest.raises(InputError, match=r"^reward of environment 0, its episode 1, step 1"):
        collect(Odd, 60, progress=False)


def test_an_environment_that_cannot_be_made_is_one_line():
    gym.register("ForTests/Missing-v0", entry_point="a_module_that_is_not_there:Env")
    gym.register("ForTests/Failing-v0", entry_point=lambda: 1 / 0)
    try:
        for name, words in (
            ("ForTests/Missing-v0", "ModuleNotFoundError"),
            ("ForTests/Failing-v0", "ZeroDivisionError"),
            ("not_there:Some-v0", "not_there"),
            ("my env!", "Malformed environment ID"),
            ("HalfCheetah-v99", "registered environment id"),
            ("", "Malformed environment ID"),
        ):
            with pytest.raises(InputError, match=rf"^env: expected .*{words}"):
                collect(name, 10, progress=False)
    finally:
        for name in ("ForTests/Missing-v0", "ForTests/Failing-v0"):
            del gym.registry[name]


class InPlace(Point):
    """Changes the action that it is handed."""

    def step(self, action):
        action *= 0.5
        return super().step(action)


def test_an_environment_that_changes_its_action_in_place_does_not_change_what_is_recorded():
    buffer = collect(InPlace, 60, num_envs=2, progress=False)
    assert false_share(buffer, gain=0.05) == 0
    buffer = collect(InPlace, 60, lambda o: np.full((2, 2), 1.0, np.float32), num_envs=2, progress=False)
    assert (buffer.actions == 1).all()
