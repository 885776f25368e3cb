"""The seven-joint arm: its kinematics, its dynamics, its goals and what other tools make of it."""

from __future__ import annotations

import warnings

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from ebm_control.data import collect_mujoco
from ebm_envs.arm7 import (
    FRAME_SKIP,
    LIMITS,
    NEUTRAL,
    REACH,
    TOP_SPEED,
    VELOCITY_SCALE,
    Arm7Env,
    joint_points,
    observe,
    physical_state,
    spread_starts,
)
from tests.helpers import assert_equal_up_to_rounding


@pytest.fixture
def env():
    return gym.make("ebm/Arm7-v0").unwrapped


def inertia(env: Arm7Env) -> np.ndarray:
    columns = np.zeros((7, 7))
    for unit, column in zip(np.eye(7), columns, strict=True):
        mujoco.mj_mulM(env.model, env.data, column, unit)
    return columns


def test_stable_baselines3_finds_no_fault(env):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        sb3_check_env(env)


def test_kinematics_are_those_of_mujoco(env):
    angles, _ = spread_starts(np.random.default_rng(0), 200)
    for qpos in 1.1 * angles:
        env.set_state(qpos, np.zeros(7))
        points = np.concatenate([env.data.xpos[1:], env.data.site("fingertip").xpos[None]])
        np.testing.assert_allclose(joint_points(qpos), points, atol=1e-10)


def test_limits_and_reach_are_those_of_the_model(env):
    np.testing.assert_array_equal(env.model.jnt_range, LIMITS)
    assert np.all((LIMITS[:, 0] < NEUTRAL) & (LIMITS[:, 1] > NEUTRAL))
    farthest = np.linalg.norm(
        joint_points(np.random.default_rng(0).uniform(*LIMITS.T, (20_000, 7)))[:, -1], axis=1
    )
    assert 0.95 * REACH < farthest.max() <= REACH


def test_axes_point_ahead_left_and_up():
    shoulder, elbow, wrist, _ = joint_points(np.zeros(7))
    np.testing.assert_allclose([shoulder, elbow, wrist], [[0, 0, 0], [0.3, 0, 0], [0.57, 0, 0]])
    assert joint_points(np.eye(7)[0])[1, 1] > 0  # pan turns to the left
    assert joint_points(np.eye(7)[1])[1, 2] > 0  # lift raises the elbow
    assert joint_points(np.eye(7)[3])[2, 2] > 0  # flexing raises the forearm


def test_every_joint_moves_the_fingertip():
    tips = joint_points(NEUTRAL + 0.2 * np.eye(7))[:, -1]
    assert np.all(np.linalg.norm(tips - joint_points(NEUTRAL)[-1], axis=1) > 0.01)


def test_observe_is_vectorised_and_inverted_by_physical_state():
    qpos, qvel = np.random.default_rng(0).normal(size=(2, 6, 5, 7))
    observations = observe(qpos, qvel)
    assert observations.shape == (6, 5, 17)
    np.testing.assert_allclose(observations[3, 2], observe(qpos[3, 2], qvel[3, 2]), atol=1e-14)
    np.testing.assert_allclose(observations[..., 7:14], qvel / VELOCITY_SCALE)
    for given, expected in zip(physical_state(observations), (qpos, qvel), strict=True):
        np.testing.assert_allclose(given, expected)


def test_episodes_start_at_rest_near_the_neutral_posture(env):
    starts = np.array([env.reset(seed=seed)[0]["observation"] for seed in range(50)])
    assert 0.04 < np.abs(starts[:, :7] - NEUTRAL).max() <= 0.05
    np.testing.assert_array_equal(starts[:, 7:14], 0)


def test_random_goals_are_reachable_and_away_from_the_start(env):
    for seed in range(100):
        observation, info = env.reset(seed=seed, options={"start": "random"})
        assert info["distance"] >= 0.15
        assert np.linalg.norm(observation["desired_goal"]) <= REACH


def test_equal_seeds_give_equal_episodes(env):
    def episode(seed):
        env.action_space.seed(seed)
        seen = [env.reset(seed=seed)[0]]
        seen += [env.step(env.action_space.sample())[0] for _ in range(20)]
        return np.array([np.concatenate(list(o.values())) for o in seen])

    first, other = episode(3), episode(4)
    np.testing.assert_array_equal(first, episode(3))
    assert np.all(first[0, :7] != other[0, :7])
    assert np.all(first[0, -3:] != other[0, -3:])


@pytest.mark.parametrize("size", [7, 14, 17])
def test_start_and_goal_options_are_taken_exactly(env, size):
    qpos, qvel = NEUTRAL + 0.3, np.linspace(-2, 2, 7)
    given = observe(qpos, qvel)
    observation, info = env.reset(options={"start": given[:size], "goal": [0.3, 0.2, 0.1]})
    expected = given if size > 7 else observe(qpos, np.zeros(7))
    np.testing.assert_allclose(observation["observation"], expected, atol=1e-12)
    np.testing.assert_array_equal(observation["desired_goal"], [0.3, 0.2, 0.1])
    assert info["distance"] == pytest.approx(np.linalg.norm(given[14:] - [0.3, 0.2, 0.1]))


def test_an_episode_goes_on_from_its_own_observation(env):
    env.reset(seed=0, options={"goal": [0.3, 0.2, 0.1]})
    for _ in range(30):
        observation, *_ = env.step(np.ones(7))  # into the limits, which yield
    assert np.any(observation["observation"][:7] > LIMITS[:, 1])
    copy = Arm7Env()
    copy.reset(options={"start": observation["observation"], "goal": [0.3, 0.2, 0.1]})
    expected, given = env.step(-np.ones(7)), copy.step(-np.ones(7))
    np.testing.assert_allclose(given[0]["observation"], expected[0]["observation"], atol=1e-9)
    assert given[1] == pytest.approx(expected[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": [1.2, 0.0, 0.0]}, "goal: expected numbers from"),
        ({"goal": [np.nan, 0.0, 0.0]}, "goal: expected numbers from"),
        ({"goal": [0.1, 0.2]}, r"goal: expected shape \(3,\), got shape \(2,\)"),
        ({"goal": "somewhere"}, "goal: expected numbers or 'random', got 'somewhere'"),
        ({"start": [0.1]}, "start: expected 7 angles"),
        ({"start": "somewhere"}, "start: expected numbers or 'random'"),
        ({"start": np.full(7, 2.2)}, "start: expected numbers from"),
        ({"start": np.full(14, np.nan)}, "start: expected numbers from"),
        ({"obstacles": []}, r"options: .* got \['obstacles'\]"),
    ],
)
def test_bad_options_are_named(env, options, message):
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"goal": [2, 0, 0]}, "goal"),
        ({"start": [2, 0]}, "start"),
        ({"start_noise": -0.1}, "start_noise"),
        ({"render_mode": "human"}, "render_mode"),
    ],
)
def test_bad_arguments_are_named_at_construction(kwargs, message):
    with pytest.raises(ValueError, match=f"{message}: expected"):
        Arm7Env(**kwargs)


@pytest.mark.parametrize("action", [np.zeros(2), np.full(7, np.nan)])
def test_bad_actions_are_named(env, action):
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action: expected 7 finite numbers"):
        env.step(action)


def test_the_reward_is_ten_times_the_distance_after_the_action(env):
    env.reset(seed=0)
    observation, reward, *_, info = env.step(np.ones(7))
    gap = np.linalg.norm(joint_points(env.data.qpos)[-1] - observation["desired_goal"])
    assert reward == pytest.approx(-10 * gap)
    assert info["distance"] == pytest.approx(gap)
    assert reward == env.compute_reward(observation["achieved_goal"], observation["desired_goal"], info)


def test_five_centimetres_are_success(env):
    tip = joint_points(NEUTRAL)[-1]
    for gap, success in ((0.049, True), (0.051, False)):
        _, info = env.reset(options={"start": NEUTRAL, "goal": tip + np.array([0, 0, gap])})
        assert info["is_success"] is success


def test_compute_reward_takes_any_leading_shape(env):
    achieved, desired = np.random.default_rng(0).uniform(-0.5, 0.5, size=(2, 4, 3, 3))
    rewards = env.compute_reward(achieved, desired, {})
    assert rewards.shape == (4, 3)
    assert_equal_up_to_rounding(rewards[2, 1], env.compute_reward(achieved[2, 1], desired[2, 1], {}))


@pytest.mark.slow
def test_hindsight_relabelling_takes_its_rewards():
    agent = SAC(
        "MultiInputPolicy",
        gym.make("ebm/Arm7-v0", max_episode_steps=20),
        learning_starts=60,
        replay_buffer_class=HerReplayBuffer,
        policy_kwargs={"net_arch": [16]},
        device="cpu",
        seed=0,
    )
    agent.learn(60)
    batch = agent.replay_buffer.sample(64)
    reached = batch.next_observations["achieved_goal"] - batch.next_observations["desired_goal"]
    np.testing.assert_allclose(batch.rewards[:, 0], -10 * reached.norm(dim=1), rtol=1e-4, atol=1e-5)


def test_full_torque_brings_a_joint_to_a_few_radians_per_second(env):
    for joint, torque in enumerate(np.eye(7)):
        env.reset(options={"start": NEUTRAL, "goal": [0.3, 0.2, 0.1]})
        fastest = max((env.step(torque), env.data.qvel[joint])[1] for _ in range(25))
        assert 3 < fastest < 6


def test_links_outweigh_the_armature_and_couple_the_joints(env):
    """Armature is a small part of arm joints' inertia; locking the others makes a joint up to twice as heavy."""
    angles, _ = spread_starts(np.random.default_rng(0), 100)
    diagonals, free, condition = [], [], []
    for qpos in angles:
        env.set_state(qpos, np.zeros(7))
        M = inertia(env)
        diagonals.append(np.diag(M))
        free.append(1 / np.diag(np.linalg.inv(M)))
        scale = np.sqrt(np.diag(M))
        condition.append(np.linalg.cond(M / np.outer(scale, scale)))
    typical = np.median(diagonals, axis=0)
    assert np.all((env.model.dof_armature / typical)[:4] < 0.3)
    assert np.all((np.median(free, axis=0) / typical)[[0, 1, 2, 3]] < 0.8)
    assert max(condition) < 20


def test_an_action_lasts_two_simulator_steps(env):
    assert FRAME_SKIP * env.model.opt.timestep == pytest.approx(0.02)
    env.reset(seed=0)
    env.step(np.zeros(7))
    assert env.data.time == pytest.approx(0.02)


def test_collection_covers_the_limits_and_speeds():
    buffer = collect_mujoco("ebm/Arm7-v0", 5000, episode_length=50, starts=spread_starts)
    angles, velocities = physical_state(buffer.observations)
    np.testing.assert_allclose(buffer.observations, observe(angles, velocities), atol=1e-5)
    for joint, (low, high) in zip(angles.T, LIMITS, strict=True):
        filled, _ = np.histogram(joint, bins=10, range=(low, high))
        assert filled.min() > 0.02 * len(joint)
        assert joint.min() > low - 0.5
        assert joint.max() < high + 0.5
    speeds = np.sqrt((velocities**2).mean(axis=0))
    assert np.all((speeds > 0.6) & (speeds < TOP_SPEED / 2))


@pytest.mark.slow
def test_bounded_torques_reach_goals(env):
    """Operational-space control (Khatib 1987): torques J' Λ a of a fingertip acceleration, clipped to the box."""
    jacobian = np.zeros((3, 7))
    final = []
    for seed in range(12):
        env.reset(seed=seed)
        for _ in range(200):
            mujoco.mj_forward(env.model, env.data)
            mujoco.mj_jacSite(env.model, env.data, jacobian, None, 0)
            mobility = jacobian @ np.linalg.inv(inertia(env))
            weight = np.linalg.inv(mobility @ jacobian.T + 0.01 * np.eye(3))
            error = env.goal - joint_points(env.data.qpos)[-1]
            wanted = error * min(5.0, 1.5 / (np.linalg.norm(error) + 1e-9))
            torque = jacobian.T @ weight @ (12 * (wanted - jacobian @ env.data.qvel))
            rest = inertia(env) @ (2 * (LIMITS.mean(axis=1) - env.data.qpos) - 4 * env.data.qvel)
            torque += (
                rest - jacobian.T @ weight @ mobility @ rest + env.data.qfrc_bias - env.data.qfrc_passive
            )
            _, _, _, _, info = env.step(torque / env.model.actuator_gear[:, 0])
        final.append(info["distance"])
    assert np.mean(np.array(final) < 0.05) >= 0.9


def test_the_picture_follows_the_state():
    env = gym.make("ebm/Arm7-v0", render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    for _ in range(20):
        env.step(np.ones(7, np.float32))
    after = env.render()
    assert after.shape == (256, 512, 3)
    assert after.dtype == np.uint8
    changed = (before != after).any(axis=-1)
    assert changed[:, :256].mean() > 0.002
    assert changed[:, 256:].mean() > 0.002
    assert Arm7Env().render() is None


def test_episodes_last_200_steps():
    env = gym.make("ebm/Arm7-v0")
    env.reset(seed=0)
    ends = [env.step(np.zeros(7, np.float32))[2:4] for _ in range(200)]
    assert not any(terminated for terminated, _ in ends)
    assert [truncated for _, truncated in ends] == [False] * 199 + [True]
