"""What holds for every environment: the Gymnasium and SB3 interfaces, seeds, options, rewards and pictures."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import ebm_envs
from tests.helpers import assert_equal_up_to_rounding

NAMES = ["ebm/Particle-v0", "ebm/Maze-v0", "ebm/Reacher-v0"]


def rollout(env: gym.Env, seed: int, steps: int = 20) -> list[np.ndarray]:
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    seen = [observation["observation"], observation["desired_goal"]]
    for _ in range(steps):
        observation, reward, *_ = env.step(env.action_space.sample())
        seen += [observation["observation"], np.array([reward])]
    return seen


@pytest.mark.parametrize("name", [*NAMES, "ebm/Arm7-v0"])
def test_gymnasium_finds_no_fault(name):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*(infinity|normalized|check the environment).*")
        check_env(gym.make(name, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("name", NAMES)
def test_stable_baselines3_finds_no_fault(name):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*normalized Box action space.*")
        sb3_check_env(gym.make(name).unwrapped)


@pytest.mark.parametrize(("name", "steps"), zip(NAMES, [50, 200, 50], strict=True))
def test_episodes_are_cut_at_the_registered_length(name, steps):
    env = gym.make(name)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(steps)]
    assert not any(terminated for terminated, _ in ends)
    assert [truncated for _, truncated in ends] == [False] * (steps - 1) + [True]


def test_make_needs_no_import_where_the_id_names_the_package():
    code = "import gymnasium as gym; print(gym.make('ebm_envs:ebm/Maze-v0').spec.id)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "ebm/Maze-v0"


def test_registering_twice_changes_nothing():
    before = dict(gym.registry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ebm_envs.register_envs()
    assert gym.registry == before


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_rollouts(name):
    env = gym.make(name, start="random", goal="random")
    first, again, other = rollout(env, 3), rollout(env, 3), rollout(env, 4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("name", NAMES)
def test_start_and_goal_options_are_taken_exactly_and_for_one_episode(name):
    env = gym.make(name)
    usual = env.reset(seed=0)[0]["desired_goal"]
    start, goal = [-0.7, 0.4], [0.25, 0.5]
    observation, info = env.reset(options={"start": start, "goal": goal})
    np.testing.assert_allclose(observation["achieved_goal"], start, atol=1e-12)
    np.testing.assert_array_equal(observation["desired_goal"], goal)
    assert info["distance"] == pytest.approx(1.05)
    np.testing.assert_array_equal(env.reset(seed=0)[0]["desired_goal"], usual)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": [1.2, 0.0]}, "goal: expected numbers from"),
        ({"goal": [np.nan, 0.0]}, "goal: expected numbers from"),
        ({"goal": [0.1, 0.2, 0.3]}, r"goal: expected shape \(2,\), got shape \(3,\)"),
        ({"goal": "somewhere"}, "goal: expected"),
        ({"start": [0.1]}, "start: expected"),
        ({"start": "somewhere"}, "start: expected"),
        ({"start": [0.1, -1.01]}, "start: expected numbers from"),
        ({"begin": [0.0, 0.0]}, r"options: expected keys among .*start.*, got \['begin'\]"),
    ],
)
def test_bad_options_are_named(name, options, message):
    env = gym.make(name)
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("kwargs", "message"), [({"goal": [2, 0]}, "goal"), ({"render_mode": "x"}, "render_mode")]
)
def test_bad_arguments_are_named_at_construction(name, kwargs, message):
    with pytest.raises(ValueError, match=f"{message}: expected"):
        type(gym.make(name).unwrapped)(**kwargs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("action", [[0.0], [0.0, np.nan]])
def test_bad_actions_are_named(name, action):
    env = gym.make(name).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action: expected 2 finite numbers"):
        env.step(np.array(action))


@pytest.mark.parametrize("name", NAMES)
def test_the_reward_is_that_of_the_state_after_the_action(name):
    env = gym.make(name)
    env.reset(seed=0)
    observation, reward, *_, info = env.step(env.action_space.high)
    achieved, desired = observation["achieved_goal"], observation["desired_goal"]
    assert reward == pytest.approx(-np.abs(achieved - desired).sum())
    assert info["distance"] == -reward


@pytest.mark.parametrize("name", NAMES)
def test_compute_reward_takes_any_leading_shape(name):
    env = gym.make(name).unwrapped
    achieved, desired = np.random.default_rng(0).uniform(-1, 1, size=(2, 4, 3, 2))
    rewards = env.compute_reward(achieved, desired, {})
    assert rewards.shape == (4, 3)
    assert_equal_up_to_rounding(rewards[2, 1], env.compute_reward(achieved[2, 1], desired[2, 1], {}))


def test_reaching_the_goal_is_success():
    env = gym.make("ebm/Particle-v0")
    env.reset(options={"start": [0.0, 0.0], "goal": [0.1, 0.0]})
    infos = [env.step(np.array([0.04, 0.0]))[-1] for _ in range(2)]
    assert [info["is_success"] for info in infos] == [False, True]


@pytest.mark.parametrize("name", [*NAMES, "ebm/Fork-v0", "ebm/Crane-v0"])
def test_the_picture_follows_the_state(name):
    env = gym.make(name, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    for _ in range(10):
        env.step(env.action_space.high)
    after = env.render()
    assert after.shape == (256, 256, 3)
    assert after.dtype == np.uint8
    assert (before != after).any(axis=-1).mean() > 0.002
    assert gym.make(name).unwrapped.render() is None
