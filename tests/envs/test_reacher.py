"""The Reacher: its dynamics, observation and options."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from ebm_envs.reacher import FRAME_SKIP, ReacherEnv, observe, physical_state, spread_starts


def test_random_actions_score_as_the_classic_arm():
    env = gym.make("ebm/Reacher-v0")
    env.action_space.seed(0)
    returns = []
    for seed in range(40):
        env.reset(seed=seed)
        returns.append(sum(env.step(env.action_space.sample())[1] for _ in range(50)))
    assert np.mean(returns) == pytest.approx(-50.6, abs=4)


def test_episodes_start_at_rest_near_zero():
    env = ReacherEnv()
    starts = np.array([env.reset(seed=seed)[0]["observation"] for seed in range(50)])
    angles = starts[:, :2] * np.pi
    assert 0.08 < np.abs(angles).max() <= 0.1
    np.testing.assert_array_equal(starts[:, 2:], 0)
    np.testing.assert_array_equal(env.goal, [0.7, 0.5])


def test_a_start_may_have_velocities():
    observation, _ = ReacherEnv().reset(options={"start": [0.2, -0.9, 1.5, -2.0]})
    np.testing.assert_allclose(observation["observation"], [0.2, -0.9, 1.5, -2.0], atol=1e-12)


def test_joints_turn_without_limit_and_the_distance_goes_the_shorter_way():
    env = ReacherEnv()
    env.reset(options={"start": [0.95, -0.95], "goal": [-0.95, 0.95]})
    assert env.distance(env.reset(options={"start": [0.95, -0.95]})[0]["achieved_goal"], [-0.95, 0.95]) == (
        pytest.approx(0.2)
    )
    for _ in range(20):
        observation, *_ = env.step([1.0, -1.0])
    assert env.data.qpos[0] > 2 * np.pi
    assert env.data.qpos[1] < -2 * np.pi
    assert observation in env.observation_space


def test_torque_meets_armature_and_damping():
    """q̈ = 200 u − q̇ up to the links' own small inertia: from rest q̇(t) = 200 (1 − e^{-t})."""
    env = ReacherEnv()
    env.reset(options={"start": [0.0, 0.0]})
    for _ in range(10):
        env.step([0.1, 0.0])
    assert env.data.time == pytest.approx(0.2)
    assert env.data.qvel[0] == pytest.approx(20 * (1 - np.exp(-0.2)), rel=3e-3)
    assert abs(env.data.qvel[1]) < 0.01


def test_observe_is_vectorised_and_inverted_by_physical_state():
    generator = np.random.default_rng(0)
    qpos, qvel = generator.normal(size=(2, 6, 5, 2)) * 10
    observations = observe(qpos, qvel)
    assert observations.shape == (6, 5, 4)
    assert (np.abs(observations[..., :2]) <= 1).all()
    angles, velocities = physical_state(observations)
    np.testing.assert_allclose(np.exp(1j * angles), np.exp(1j * qpos), atol=1e-9)
    np.testing.assert_allclose(velocities, qvel)


def test_set_state_continues_an_episode_elsewhere():
    env, copy = ReacherEnv(), ReacherEnv()
    for e in (env, copy):
        e.reset(seed=0)
    env.step([0.3, -0.2])
    copy.set_state(env.data.qpos, env.data.qvel)
    expected, *_ = env.step([-0.5, 0.9])
    observation, *_ = copy.step([-0.5, 0.9])
    np.testing.assert_allclose(observation["observation"], expected["observation"], atol=1e-14)


def test_obstacles_are_no_option_of_the_arm():
    with pytest.raises(ValueError, match=r"options: .* got \['obstacles'\]"):
        ReacherEnv().reset(options={"obstacles": []})


def test_a_negative_start_noise_is_named():
    with pytest.raises(ValueError, match="start_noise: expected"):
        ReacherEnv(start_noise=-0.1)


def test_an_action_lasts_two_simulator_steps():
    env = ReacherEnv()
    assert FRAME_SKIP * env.model.opt.timestep == pytest.approx(0.02)


def test_spread_starts_cover_the_circle_and_speeds_from_rest():
    angles, velocities = spread_starts(np.random.default_rng(0), 5000)
    assert angles.shape == velocities.shape == (5000, 2)
    assert np.abs(angles).max() <= np.pi < np.abs(angles).max() + 0.01
    share_slow, share_fast = (np.abs(velocities) < 1).mean(), (np.abs(velocities) > 8).mean()
    assert share_slow > 0.2
    assert 0.01 < share_fast < 0.2
