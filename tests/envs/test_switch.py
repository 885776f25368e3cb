"""Environments whose dynamics change on the way: what each regime does, when it does it, and that it is undone."""

from __future__ import annotations

import copy
import warnings

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from ebm_envs.switch import (
    DynamicsSwitch,
    Obstacles,
    RotatedActions,
    ScaledDamping,
    ScaledGear,
)
from tests.envs.helpers import ARM7, MAZE, PARTICLE, REACHER, rollout, switched

# All but a cell around the usual start and a quarter around the usual goal.
BOXES = [
    [[-1, -1], [-0.02, 1]],
    [[-0.02, 0.02], [0.4, 1]],
    [[-0.02, -1], [1, -0.02]],
    [[0.02, -0.02], [1, 0.4]],
]
REGIMES = [
    (PARTICLE, RotatedActions(37)),
    (PARTICLE, Obstacles(BOXES)),
    (REACHER, RotatedActions(90)),
    (REACHER, ScaledGear(-0.3)),
    (REACHER, ScaledDamping(3.7)),
    (ARM7, ScaledGear(0.1, [2])),
]


def displacement(env: gym.Env, action: list[float]) -> np.ndarray:
    env.reset(options={"start": [0.0, 0.0]})
    return env.step(np.array(action))[0]["observation"]


def velocities(
    env: gym.Env, actions: list[list[float]], start: tuple[float, ...] = (0, 0, 0, 0)
) -> np.ndarray:
    """Joint velocities of the arm after each action, in radians per second."""
    env.reset(options={"start": start})
    return np.array([10 * env.step(np.array(action))[0]["observation"][2:] for action in actions])


# What regimes do


@pytest.mark.parametrize("action", [[0.03, 0.01], [0.0, 0.05], [-0.02, 0.04]])
def test_rotated_actions_displace_the_particle_at_right_angles(action):
    moved = displacement(switched(PARTICLE, RotatedActions(90)), action)
    np.testing.assert_allclose(moved, [-action[1], action[0]], atol=1e-8)


def test_actions_turn_by_the_angle_from_the_first_axis_to_the_second():
    moved = displacement(switched(PARTICLE, RotatedActions(30)), [0.04, 0.0])
    np.testing.assert_allclose(moved, 0.04 * np.array([np.cos(np.pi / 6), 0.5]), atol=1e-8)
    back = displacement(switched(PARTICLE, RotatedActions(30, axes=(1, 0))), [0.04, 0.0])
    np.testing.assert_allclose(back, moved * [1, -1], atol=1e-8)


def test_rotated_actions_stay_in_the_action_space():
    env = switched(PARTICLE, RotatedActions(45))
    np.testing.assert_allclose(displacement(env, [0.05, -0.05]), [0.05, 0.0], atol=1e-8)
    actions = np.random.default_rng(0).uniform(-0.05, 0.05, size=(50, 2)).astype(np.float32)
    assert all(RotatedActions(45).transform(a, env.action_space) in env.action_space for a in actions)


def test_an_action_out_of_range_turns_as_the_one_that_the_environment_clips_it_to():
    env = switched(PARTICLE, RotatedActions(45))
    np.testing.assert_allclose(displacement(env, [3.0, 0.01]), displacement(env, [0.05, 0.01]), atol=1e-8)


def test_only_the_named_axes_of_an_action_turn():
    space = gym.make(ARM7).action_space
    action = np.linspace(-0.9, 0.9, 7, dtype=np.float32)
    expected = action.copy()
    expected[[1, 4]] = -action[4], action[1]
    np.testing.assert_allclose(RotatedActions(90, axes=(1, 4)).transform(action, space), expected, atol=1e-7)


def test_rotated_torques_turn_the_other_joint_of_the_reacher():
    shoulder, elbow = velocities(switched(REACHER, RotatedActions(90)), [[0.5, 0.0]])[-1]
    assert abs(elbow) > 1
    assert abs(shoulder) < 0.05 * elbow


def test_a_reversed_gear_mirrors_the_acceleration_of_the_reacher():
    actions = [[0.5, -0.2], [0.1, 0.9]]
    plain = velocities(gym.make(REACHER), actions)
    mirrored = velocities(switched(REACHER, ScaledGear(-1)), actions)
    opposite = velocities(gym.make(REACHER), np.negative(actions).tolist())
    np.testing.assert_array_equal(mirrored, opposite)
    np.testing.assert_allclose(mirrored[0], -plain[0], rtol=1e-2)
    assert np.abs(plain).min() > 0.5


@pytest.mark.parametrize("joints", [["elbow"], [1], ["elbow", 1]])
def test_gear_of_one_joint_leaves_the_other(joints):
    action = [[0.3, 0.3]]
    plain, half = (
        velocities(env, action)[-1] for env in (gym.make(REACHER), switched(REACHER, ScaledGear(0.5, joints)))
    )
    np.testing.assert_allclose(half / plain, [1, 0.5], rtol=1e-2)


@pytest.mark.parametrize("factor", [0.0, 1.0, 5.0])
def test_damping_sets_how_fast_velocity_decays(factor):
    """Armature 1 and damping 1: q̇(t) = q̇(0) e^{-factor t} for a joint alone, up to the links' small inertia."""
    env = switched(REACHER, ScaledDamping(factor))
    after = velocities(env, [[0, 0]] * 25, start=(0, 0, 0.2, 0.2))[-1]
    np.testing.assert_allclose(after, 2 * np.exp(-0.5 * factor), rtol=1e-2)


def test_damping_of_one_joint_leaves_the_other():
    after = velocities(
        switched(REACHER, ScaledDamping(5, ["shoulder"])), [[0, 0]] * 25, start=(0, 0, 0.2, 0.2)
    )[-1]
    np.testing.assert_allclose(after, [2 * np.exp(-2.5), 2 * np.exp(-0.5)], rtol=2e-2)


def test_joints_are_joints_also_where_they_are_not_counted_like_actuators_or_degrees_of_freedom():
    xml = """<mujoco><worldbody>
      <body><freejoint name="root"/><geom size="0.1"/>
        <body><joint name="a" damping="1"/><geom size="0.1"/>
          <body><joint name="b" damping="1"/><geom size="0.1"/></body></body></body></worldbody>
      <actuator><motor joint="b"/><motor joint="a"/></actuator></mujoco>"""

    class Loose(gym.Env):
        action_space = gym.spaces.Box(-1, 1, (2,))

        def __init__(self):
            self.model = mujoco.MjModel.from_xml_string(xml)

    env = Loose()
    ScaledGear(3, ["b"]).apply(env)
    ScaledDamping(4, ["b"]).apply(env)
    assert env.model.actuator_gear[:, 0].tolist() == [3, 1]
    assert env.model.dof_damping.tolist() == [0] * 6 + [1, 4]
    with pytest.raises(ValueError, match=r"joints: expected joints that an actuator drives, not so \[0\]"):
        ScaledGear(3, ["root", "a"]).apply(env)


def test_obstacles_block_moves_beside_those_of_the_reset():
    env = switched(PARTICLE, Obstacles([[[0.03, -0.1], [0.06, 0.1]]]))
    options = {"start": [0.0, 0.0], "obstacles": [[[-0.1, 0.03], [0.1, 0.06]]]}
    env.reset(options=options)
    for blocked in ([0.05, 0.0], [0.0, 0.05]):
        np.testing.assert_array_equal(env.step(np.array(blocked))[0]["observation"], [0, 0])
    assert env.step(np.array([-0.05, 0.0]))[0]["observation"][0] == pytest.approx(-0.05)


def test_random_starts_and_goals_avoid_obstacles():
    half = [[-1.0, -1.0], [0.0, 1.0]]
    env = switched(PARTICLE, Obstacles([half]), start="random", goal="random")
    seen = [env.reset(seed=seed)[0] for seed in range(20)]
    assert all(o["observation"][0] > 0 and o["desired_goal"][0] > 0 for o in seen)


def test_a_moved_wall_of_the_maze_blocks_and_is_drawn():
    wall = Obstacles([[[-1.0, -0.4], [-0.5, -0.3]]])
    up, options = np.array([0.0, 0.05]), {"start": [-0.85, -0.43]}
    env = switched(MAZE, wall, render_mode="rgb_array")
    env.reset(options=options)
    assert env.step(up)[0]["observation"][1] == -0.43
    drawn = env.render()
    env.switch_to(0)
    assert (env.render() != drawn).any()
    assert env.step(up)[0]["observation"][1] == pytest.approx(-0.38)


# When they do it


def test_the_switch_is_between_two_steps_in_the_middle_of_an_episode():
    env = DynamicsSwitch(gym.make(PARTICLE), [(3, RotatedActions(90)), (5, None)])
    env.reset(options={"start": [0.0, 0.0]})
    east = np.array([0.05, 0.0])
    places = [env.step(east)[0]["observation"] for _ in range(6)]
    expected = np.cumsum([[0.05, 0]] * 3 + [[0, 0.05]] * 2 + [[0.05, 0]], axis=0)
    np.testing.assert_allclose(places, expected, atol=1e-8)


def test_info_names_the_regime_of_the_step_and_of_the_reset():
    env = DynamicsSwitch(gym.make(REACHER), {2: ScaledGear(-1), 3: None})
    assert env.reset(seed=0)[1]["regime"] == 0
    infos = [env.step(np.zeros(2))[-1] for _ in range(2)]
    assert [info["regime"] for info in infos] == [0, 0]
    assert "distance" in infos[0]
    assert (env.regime, env.steps) == (1, 2)
    assert env.reset()[1]["regime"] == 1
    assert env.step(np.zeros(2))[-1]["regime"] == 1
    assert env.step(np.zeros(2))[-1]["regime"] == 2
    assert env.regimes == (None, ScaledGear(-1), None)


def test_steps_are_counted_over_episodes_and_resets_are_none():
    env = DynamicsSwitch(gym.make(PARTICLE), {6: RotatedActions()})
    for _ in range(3):
        env.reset(seed=0)
        env.reset()
        assert env.regime == 0
        env.step(np.zeros(2))
        env.step(np.zeros(2))
    assert (env.regime, env.steps) == (1, 6)


def test_a_refused_action_is_no_step():
    env = DynamicsSwitch(gym.make(PARTICLE), {1: RotatedActions(), 2: None})
    env.reset(seed=0)
    for regime in (0, 1):
        for bad in (np.zeros(1), np.full(2, np.nan)):
            with pytest.raises(ValueError, match="action: expected"):
                env.step(bad)
        assert (env.regime, env.steps) == (regime, regime)
        env.step(np.zeros(2))


def test_by_hand_the_schedule_rests_until_it_is_called_back():
    env = DynamicsSwitch(gym.make(REACHER), {2: ScaledGear(-1), 4: ScaledDamping(2)})
    gear = env.unwrapped.model.actuator_gear
    env.switch_to(0)
    env.reset(seed=0)
    for _ in range(3):
        assert env.step(np.zeros(2))[-1]["regime"] == 0
    env.switch_to(None)
    assert (env.regime, gear[0, 0]) == (1, -200)
    env.step(np.zeros(2))
    assert (env.regime, gear[0, 0], env.unwrapped.model.dof_damping[0]) == (2, 200, 2)


@pytest.mark.parametrize("mode", [gym.vector.AutoresetMode.NEXT_STEP, gym.vector.AutoresetMode.SAME_STEP])
def test_environments_side_by_side_have_thresholds_of_their_own(mode):
    def make(threshold):
        return lambda: DynamicsSwitch(gym.make(REACHER, max_episode_steps=3), {threshold: ScaledGear(-1)})

    envs = gym.vector.SyncVectorEnv([make(2), make(5)], autoreset_mode=mode)
    _, info = envs.reset(seed=0)
    assert info["regime"].tolist() == [0, 0]
    made = [np.zeros(2, int)]
    for _ in range(8):
        _, _, _, _, info = envs.step(np.zeros((2, 2), np.float32))
        made.append(np.array([env.steps for env in envs.envs]))
        assert [env.regime for env in envs.envs] == (made[-1] >= [2, 5]).tolist()
        if (made[-1] > made[-2]).all() and "final_info" not in info:
            assert info["regime"].tolist() == (made[-1] > [2, 5]).tolist()
    expected = 6 if mode == gym.vector.AutoresetMode.NEXT_STEP else 8  # automatic resets are no steps
    assert made[-1].tolist() == [expected, expected]


# That it is undone


@pytest.mark.parametrize(("name", "regime"), REGIMES)
def test_switching_back_gives_the_rollouts_of_an_unwrapped_environment_to_the_bit(name, regime):
    env = DynamicsSwitch(gym.make(name), {40: regime, 75: None})
    plain = rollout(gym.make(name))
    np.testing.assert_array_equal(rollout(env), plain)
    across = rollout(env)
    np.testing.assert_array_equal(across[:11], plain[:11])
    assert env.regime == 1
    under = rollout(env, 15)
    assert (env.regime, env.steps) == (2, 75)
    assert not np.array_equal(across, plain)
    assert not np.array_equal(under, plain[:16])
    np.testing.assert_array_equal(rollout(env), plain)


def test_regimes_follow_each_other_without_piling_up():
    env = DynamicsSwitch(gym.make(REACHER), {1: ScaledGear(0.1), 2: ScaledGear(3), 3: ScaledDamping(7)})
    model = env.unwrapped.model
    seen = []
    for i in (1, 2, 3, 2, 2, 0):
        env.switch_to(i)
        seen.append((model.actuator_gear[0, 0], model.dof_damping[0]))
    assert seen == [(20, 1), (600, 1), (200, 7), (600, 1), (600, 1), (200, 1)]


@pytest.mark.parametrize(("name", "regime"), REGIMES)
def test_wrapped_environments_do_not_influence_each_other(name, regime):
    plain = rollout(gym.make(name))
    changed, other = switched(name, regime), DynamicsSwitch(gym.make(name), {1000: regime})
    under = rollout(changed)
    np.testing.assert_array_equal(rollout(other), plain)
    np.testing.assert_array_equal(rollout(gym.make(name)), plain)
    np.testing.assert_array_equal(rollout(changed), under)
    assert not np.array_equal(under, plain)


def test_a_deep_copy_switches_by_itself():
    env = switched(REACHER, ScaledGear(-1))
    env.reset(seed=0)
    other = copy.deepcopy(env)
    other.switch_to(0)
    gears = [e.unwrapped.model.actuator_gear[0, 0] for e in (env, other)]
    assert gears == [-200, 200]


def test_what_is_read_below_the_wrapper_is_still_there():
    env, plain = switched(REACHER, ScaledGear(0.5)), gym.make(REACHER).unwrapped
    base = env.unwrapped
    env.reset(seed=0)
    assert type(base) is type(plain)
    assert (base.observation_periods, base.goal_periods, base.frame_skip) == (
        plain.observation_periods,
        plain.goal_periods,
        2,
    )
    assert base.goal.tolist() == [0.7, 0.5]
    assert env.spec.id == REACHER


@pytest.mark.parametrize(("name", "regime"), REGIMES)
def test_gymnasium_finds_no_fault(name, regime):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*(infinity|normalized|unwrapped version).*")
        check_env(DynamicsSwitch(gym.make(name, render_mode="rgb_array"), {1: regime}))
