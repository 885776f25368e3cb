"""The crane: its interface, its motor's state, its reward, its errors, and its oracle."""

from __future__ import annotations

import warnings

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from ebm_control.data import collect
from ebm_envs.crane import FRAME_SKIP, ROPE, CraneEnv, offset
from ebm_envs.oracles import crane_oracle
from ebm_envs.oracles.crane import crane_problem

START = [-0.3, 0.1]


def test_gymnasium_and_stable_baselines3_find_no_fault():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*(infinity|normalized|check the environment).*")
        check_env(gym.make("ebm/Crane-v0", render_mode="rgb_array").unwrapped)
        sb3_check_env(gym.make("ebm/Crane-v0").unwrapped)


def test_episodes_start_at_rest_and_differ_and_have_a_hundred_steps():
    env = gym.make("ebm/Crane-v0")
    starts = np.array([env.reset(seed=seed)[0] for seed in range(50)])
    for coordinate, most in ((0, 1.0), (1, 0.2), (5, 1.0)):
        assert 0.9 * most < np.abs(starts[:, coordinate]).max() <= most
    np.testing.assert_array_equal(starts[:, 2:5], 0)
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(100)]
    assert ends == [(False, False)] * 99 + [(False, True)]


def test_the_force_follows_the_control_with_a_time_constant():
    env = CraneEnv()
    env.reset(options={"start": START})
    for step in range(1, 5):
        observation, *_ = env.step([0.5])
        assert observation[4] == pytest.approx(0.5 * (1 - np.exp(-0.05 * step / 0.15)))
    assert env.data.time == pytest.approx(4 * FRAME_SKIP * 0.01)
    # The force is that of the activation 0.01 s ago.
    assert env.data.actuator_force[0] == pytest.approx(8 * observation[4], abs=0.2)


def test_the_activation_is_a_part_of_the_state():
    """Two cranes that differ only in it part under the same action; with it, a state continues elsewhere."""
    env, copy = CraneEnv(), CraneEnv()
    ends = [
        env.reset(options={"start": [0, 0, 0, 0, act]}) and env.step([0.0])[0][2] for act in (-0.8, 0.0, 0.8)
    ]
    assert ends[0] < -0.1 < ends[1] < 0.1 < ends[2]
    copy.reset(options={"target": env.target})
    copy.set_state(env.data.qpos, env.data.qvel, env.data.act)
    np.testing.assert_allclose(copy.step([0.3])[0], env.step([0.3])[0], atol=1e-12)


def test_the_activation_can_be_hidden():
    env, blind = gym.make("ebm/Crane-v0"), gym.make("ebm/Crane-v0", hide_actuator=True)
    full, _ = env.reset(seed=1)
    part, _ = blind.reset(seed=1)
    for _ in range(3):
        np.testing.assert_array_equal(part, full[[0, 1, 2, 3, 5]])
        full, part = env.step(np.ones(1))[0], blind.step(np.ones(1))[0]
    assert blind.unwrapped.data.act[0] > 0.5
    assert len(blind.unwrapped.observation_periods) == 5


def test_the_reward_is_the_distance_of_the_simulated_load():
    env = CraneEnv()
    env.reset(options={"start": [0.2, -1.0, 0.5, 3.0, 0.1], "target": 0.4})
    _, reward, *_, info = env.step([1.0])
    mujoco.mj_forward(env.model, env.data)
    x, _, z = env.data.site("load").xpos
    assert -reward == info["distance"] == pytest.approx(np.hypot(x - 0.4, z + ROPE))
    env.reset(options={"start": [0.4, 0.0], "target": 0.4})
    _, reward, *_, info = env.step([0.0])
    assert reward == pytest.approx(0.0, abs=1e-12)
    assert info["is_success"]


def test_the_angle_is_periodic_and_the_rail_ends():
    env = CraneEnv()
    observation, _ = env.reset(options={"start": [1.0, 3.0, 0.0, 8.0, 0.0]})
    seen = [observation, *(env.step([1.0])[0] for _ in range(60))]
    angles = np.array(seen)[:, 1]
    assert (np.abs(angles) <= np.pi).all()
    assert np.abs(np.diff(angles)).max() > 5.0  # it went over the top
    assert 1.45 < max(row[0] for row in seen) < 1.55
    assert collect("ebm/Crane-v0", 10, progress=False).periods == (0, 2 * np.pi, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": [0.1]}, "start: expected a position and an angle, or 5 numbers, got shape"),
        ({"start": [0, 0, 0, 0, 1.1]}, "start: expected numbers from"),
        ({"start": [np.nan, 0]}, "start: expected numbers from"),
        ({"target": 1.2}, "target: expected numbers from"),
        ({"target": [0.1, 0.2]}, r"target: expected shape \(1,\)"),
        ({"goal": 0.1}, r"options: expected keys among .*target.*, got \['goal'\]"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        CraneEnv().reset(options=options)


@pytest.mark.parametrize("action", [[np.nan], [0.0, 0.0]])
def test_bad_actions_and_arguments_are_named(action):
    env = CraneEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action: expected 1 finite number"):
        env.step(np.array(action))
    with pytest.raises(ValueError, match="render_mode: expected"):
        CraneEnv(render_mode="human")


def test_the_oracles_problem_is_the_environment():
    """Its states, its return and its derivatives are those of the environment, activation included."""
    env, rng = CraneEnv(), np.random.default_rng(0)
    start = np.array([0.3, 0.4, -0.5, 1.0, 0.6])
    problem, plan = crane_problem(start, -0.2, 12), rng.uniform(-1, 1, (12, 1))
    env.reset(options={"start": start, "target": -0.2})
    seen = [env.step(action) for action in plan]
    states = problem.simulate(plan)
    np.testing.assert_allclose(states[1:, 2:], [step[0][2:5] for step in seen], atol=1e-12)
    assert problem.score(plan) == pytest.approx(sum(step[1] for step in seen))
    by_state, by_control = problem.linearised(states[:1], plan[:1])
    for i, nudge in enumerate(1e-5 * np.eye(5)):
        above, below = problem.advance(np.stack([start + nudge, start - nudge]), plan[None, :1].repeat(2, 0))
        np.testing.assert_allclose(by_state[0, :, i], (above - below)[0] / 2e-5, atol=1e-4)
    assert by_control[0, 4, 0] == pytest.approx(1 - np.exp(-0.05 / 0.15), rel=1e-4)
    jacobian = problem.jacobian(start[:2])[0]
    for i, nudge in enumerate(1e-6 * np.eye(2)):
        difference = offset(start[:2] + nudge, -0.2) - offset(start[:2] - nudge, -0.2)
        np.testing.assert_allclose(jacobian[:, i], difference / 2e-6, atol=1e-6)


@pytest.mark.slow
def test_the_oracle_replays_and_beats_a_tuned_controller():
    env = CraneEnv()
    env.reset(options={"start": START, "target": 0.2})
    result = crane_oracle(START, 0.2, steps=40)
    assert set(result.returns) == {"cem", "ilqr", "refine"}
    assert result.return_ == max(result.returns.values())
    total = 0.0
    for action, state in zip(result.actions, result.states[1:], strict=True):
        observation, reward, *_ = env.step(action)
        np.testing.assert_allclose(observation, state, atol=1e-6)
        total += reward
    assert total == pytest.approx(result.return_, abs=1e-6)
    observation, _ = env.reset(options={"start": START, "target": 0.2})
    tuned = 0.0
    for _ in range(40):
        position, angle, speed, turn, _, target = observation
        observation, reward, *_ = env.step([4 * (target - position) - 3 * speed + 2 * angle - 0.5 * turn])
        tuned += reward
    assert tuned < result.return_ < 0.8 * tuned
