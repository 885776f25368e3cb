"""Physics that an environment draws at its resets, and what it changes in its steps."""

import mujoco
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.wrappers import TimeLimit

from ebm_control.checks import InputError
from ebm_control.data import collect_mujoco
from ebm_control.seeds import seeds
from tests.data.mujoco_environments import Rig


def damping(env):
    env.model.dof_damping[:] = env.np_random.uniform(0, 3, 2)


def gain(env):
    env.model.actuator_gainprm[0, 0] = env.np_random.uniform(0.5, 6)


def gear(env):
    env.model.actuator_gear[0, 0] = env.np_random.uniform(0.5, 6)


def control_bias(env):
    env.model.actuator_biastype[0] = mujoco.mjtBias.mjBIAS_AFFINE
    env.model.actuator_biasprm[0, 0] = env.np_random.uniform(-1, 1)


def masses(env):
    env.model.body_mass[2:] = env.np_random.uniform(0.2, 3, 2)
    mujoco.mj_setConst(env.model, mujoco.MjData(env.model))


def timestep(env):
    env.model.opt.timestep = env.np_random.uniform(0.005, 0.02)


def gravity(env):
    env.model.opt.gravity[:] = env.np_random.uniform(-12, -3, 3)


def force_on_joints(env):
    env.data.qfrc_applied[:] = env.np_random.uniform(-2, 2, 2)


def force_on_bodies(env):
    env.data.xfrc_applied[2:] = env.np_random.uniform(-1, 1, (2, 6))


def force_in_every_fifth_episode(env):
    env.data.qfrc_applied[0] = env.np_random.uniform(1, 2) * (env.resets % 5 == 0)


def weld_switched_on(env):
    env.data.eq_active[0] = env.np_random.uniform() < 0.5


def weld_elsewhere(env):
    env.model.eq_active0[0] = env.data.eq_active[0] = 1
    env.model.eq_data[0, :3] = env.np_random.uniform(-0.5, 0.5, 3)


def hand_elsewhere(env):
    env.data.eq_active[0] = 1
    env.data.mocap_pos[0, 0] = env.np_random.uniform(-0.5, 0.5)


def hand_turned(env):
    env.model.eq_data[0, 3:6] = [0.0, 0.0, 0.3]
    env.data.eq_active[0] = 1
    angle = env.np_random.uniform(-1, 1)
    env.data.mocap_quat[0] = [np.cos(angle), 0, np.sin(angle), 0]


def activation(env):
    env.data.act[0] = env.np_random.uniform(-1, 1)


def another_model(env):
    env.load()
    env.model.body_mass[2] = env.np_random.uniform(0.2, 3)


CHANGES = [
    damping,
    gain,
    gear,
    control_bias,
    masses,
    timestep,
    gravity,
    force_on_joints,
    force_on_bodies,
    force_in_every_fifth_episode,
    weld_switched_on,
    weld_elsewhere,
    hand_elsewhere,
    hand_turned,
    activation,
    another_model,
]


def first_seed(seed):
    return seeds(seed, "collect_mujoco environment", 1)[0]


@pytest.mark.parametrize("change", CHANGES)
def test_each_episode_has_the_physics_that_its_own_reset_drew(change):
    buffer = collect_mujoco(lambda: Rig(change), 480, episode_length=40, seed=2)
    env, common = Rig(change), Rig(change)
    env.resets = 12  # those that are looked at before
    common.reset(seed=0)
    others = 0.0
    for i, e in enumerate(buffer.episodes()):
        first = env.reset(seed=first_seed(2) if i == 0 else None)[0]
        stepped = [first, *(env.step(a.astype(np.float32))[0] for a in e.actions)]
        assert np.abs(np.stack(stepped) - e.observations).max() <= 1e-10
        # The same episode under another reset's physics, to see that these matter.
        common.set_state(first[:2], first[2:])
        for a in e.actions:
            last = common.step(a.astype(np.float32))[0]
        others = max(others, np.abs(last - e.observations[-1]).max())
    assert others > 0.01


@pytest.mark.parametrize("change", [masses, force_on_joints, weld_switched_on, activation])
def test_given_starts_keep_the_physics_that_resets_draw(change):
    drawn = []

    def starts(rng, n):
        drawn.append((rng.uniform(-2, 2, (n, 2)), rng.uniform(-3, 3, (n, 2))))
        return drawn[-1]

    buffer = collect_mujoco(lambda: Rig(change), 400, episode_length=40, seed=2, starts=starts)
    env = Rig(change)
    for i, (e, qpos, qvel) in enumerate(zip(buffer.episodes(), *drawn[0], strict=True)):
        env.reset(seed=first_seed(2) if i == 0 else None)
        env.set_state(qpos, qvel)
        stepped = [env.step(a.astype(np.float32))[0] for a in e.actions]
        assert (
            np.abs(np.stack(stepped) - e.observations[1:]).max() <= 1e-6
        )  # another warm start of the solver


def test_large_models_that_resets_change_are_collected_in_parts():
    drawn = []

    def change(env):
        drawn.append(env.np_random.uniform(-5, 5))
        env.model.opt.gravity[:] = drawn[-1], 0, 0
        env.model.actuator_gainprm[0, 0] = env.model.dof_damping[0] = 0

    buffer = collect_mujoco(lambda: Rig(change, pixels=2048), 200, episode_length=10, seed=0)
    assert [len(e) for e in buffer.episodes()] == [10] * 20
    gained = [(e.observations[1, 2] - e.observations[0, 2]) / 0.02 for e in buffer.episodes()]
    nearest = [int(np.abs(np.array(drawn) - g).argmin()) for g in gained]
    assert np.abs(np.array(drawn)[nearest] - gained).max() < 1e-6
    assert (np.diff(nearest) >= 1).all()  # a reset of its own each, in order
    assert np.diff(nearest).max() == 2  # between parts there is a reset for the comparison


@pytest.mark.parametrize("error", [RuntimeError("the hand is stuck"), KeyboardInterrupt("the hand is stuck")])
def test_reset_that_fails_or_is_stopped_under_way_leaves_the_episodes_before(error):
    def change(env):
        env.model.body_mass[2] = env.np_random.uniform(0.2, 3)
        if env.resets == 30:
            raise error

    kind = InputError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(kind, match="the hand is stuck") as caught:
        collect_mujoco(lambda: Rig(change, pixels=2048), 1000, episode_length=10)
    assert 5 <= caught.value.rollouts.num_episodes <= 17


def test_observations_that_are_not_finite_leave_the_episodes_before():
    def observe(qpos, qvel):
        shown = np.concatenate([qpos, qvel], axis=-1)
        if shown.shape[1] == 11:  # whole episodes
            shown[25, 4] = np.nan
        return shown

    with pytest.raises(InputError, match=r"^observations: .*250 transitions before it") as caught:
        collect_mujoco(Rig, 400, episode_length=10, observe=observe)
    assert caught.value.rollouts.num_episodes == 25


def wind_in_steps(env, action):
    env.data.qfrc_applied[0] = env.np_random.uniform(-1, 1)
    return action


def wind_from_step_100_on(env, action):
    env.data.qfrc_applied[0] = 1.0 * (env.steps >= 100)
    return action


def push_of_the_reset_fades(env, action):
    env.data.xfrc_applied[2, 0] = 1.0 if env.steps < 5 else 0.0
    return action


def gain_of_time(env, action):
    return action * (1 + env.data.time)


def gain_after_six_seconds(env, action):
    return action * (2 if env.data.time > 6 else 1)


def noise(env, action):
    return action + env.np_random.normal(0, 0.1, 1)


def rare_noise(env, action):
    return action + 0.5 * (env.np_random.uniform() < 0.05)


def squashed(env, action):
    return np.tanh(action)


def delayed(env, action):
    now, env.before = getattr(env, "before", 0.0) if env.steps else 0.0, action
    return now


def speed_limit(env, action):
    env.set_state(env.data.qpos, np.clip(env.data.qvel, -3, 3))
    return action


def weaker_when_fast(env, action):
    return action * (0.5 if abs(env.data.qvel[1]) > 4 else 1)


def weaker_far_out(env, action):
    return action * (0.5 if env.data.qpos[0] > 0.4 else 1)


def bias_of_one_reset_in_twenty(env, action):
    return action + 0.3 * (env.resets % 20 == 0)


def damping_that_grows(env, action):
    env.model.dof_damping[0] += 0.01
    return action


def hand_that_moves(env, action):
    env.data.eq_active[0] = 1
    env.data.mocap_pos[0, 0] = np.sin(env.steps)
    return action


@pytest.mark.parametrize(
    "act",
    [
        wind_in_steps,
        wind_from_step_100_on,
        push_of_the_reset_fades,
        gain_of_time,
        gain_after_six_seconds,
        noise,
        rare_noise,
        squashed,
        delayed,
        speed_limit,
        weaker_when_fast,
        weaker_far_out,
        bias_of_one_reset_in_twenty,
        damping_that_grows,
        hand_that_moves,
    ],
)
def test_environment_that_changes_its_physics_in_steps_is_refused(act):
    with pytest.raises(InputError, match=r"agree with stepping.*use `collect`"):
        collect_mujoco(lambda: Rig(act=act), 12_000, episode_length=400)


@pytest.mark.parametrize(
    "frames",
    [
        lambda env: 2 + env.steps % 2,
        lambda env: 4,  # each action twice
        lambda env: 2 + env.resets % 2,
        lambda env: 2 if env.steps < 30 else 1,
    ],
)
def test_number_of_physics_steps_other_than_declared_is_refused(frames):
    with pytest.raises(InputError, match=r"agree with stepping.*use `collect`"):
        collect_mujoco(lambda: Rig(frames=frames), 400, episode_length=50)


def test_speed_limit_matters_only_where_starts_go():
    def starts(speed):
        return lambda rng, n: (rng.uniform(-1, 1, (n, 2)), np.full((n, 2), [speed, 0.0]))

    make = lambda: Rig(act=speed_limit)  # noqa: E731
    assert len(collect_mujoco(make, 300, episode_length=3, starts=starts(1.0))) == 300
    with pytest.raises(InputError, match="agree with stepping"):
        collect_mujoco(make, 300, episode_length=3, starts=starts(3.5))


def test_environment_that_ends_its_episodes_or_has_a_limit_is_compared_all_the_same():
    class Ends(Rig):
        def step(self, action):
            observation, reward, _, _, info = super().step(action)
            return observation, reward, abs(observation[1]) > 0.3, False, info

    assert len(collect_mujoco(lambda: TimeLimit(Ends(masses), 30), 1000, episode_length=60)) == 1000
    with pytest.raises(InputError, match="agree with stepping"):
        collect_mujoco(lambda: TimeLimit(Ends(act=weaker_when_fast), 30), 12_000, episode_length=400)


def test_environment_that_fails_in_states_of_its_rollouts_is_refused():
    def act(env, action):
        if abs(env.data.qpos[1]) > 1:
            raise ValueError("the pole has fallen")
        return action

    with pytest.raises(InputError, match=r"step from every state.*the pole has fallen.*use `collect`"):
        collect_mujoco(lambda: Rig(act=act), 4000, episode_length=400)


def test_actions_that_are_not_the_controls_are_refused():
    with pytest.raises(InputError, match=r"^env: .*use `collect`.*got 4 action coordinates for 1 control"):
        collect_mujoco(lambda: Rig(action_space=Box(-1, 1, (4,), np.float32)), 100)


def test_model_of_other_sizes_after_a_reset_is_refused():
    def change(env):
        if env.resets == 3:
            env.load(more='<body><joint type="slide"/><geom size="0.1"/></body>')

    class Observed(Rig):
        def set_state(self, qpos, qvel):
            super().set_state(np.resize(qpos, self.model.nq), np.resize(qvel, self.model.nv))

        @staticmethod
        def observe(qpos, qvel):
            return np.concatenate([qpos[..., :2], qvel[..., :2]], axis=-1)

    with pytest.raises(InputError, match="sizes stay; use `collect`"):
        collect_mujoco(lambda: Observed(change), 100)


def test_attributes_named_model_and_data_that_are_not_of_mujoco_are_refused():
    class Learned(Rig):
        def load(self, more=""):
            super().load()
            self.simulated, self.data = self.data, {"episodes": 3}

    with pytest.raises(InputError, match=r"use `collect`.*without \['data'\]"):
        collect_mujoco(Learned, 100)


def test_actions_and_starts_come_from_streams_of_their_own():
    def starts_of(buffer):
        return np.stack([e.observations[0, :2] for e in buffer.episodes()])

    made = [collect_mujoco(Rig, 400, episode_length=10, seed=s) for s in (0, 1)]
    assert not np.isin(starts_of(made[0]), starts_of(made[1])).any()
    assert not np.isin(made[0].actions.round(4), made[1].actions.round(4)).all()
    # The environment draws its start from uniform numbers of its own seed, as actions are from theirs.
    firsts = np.array([e.actions[0, 0] for e in made[0].episodes()])
    assert np.abs(np.corrcoef(10 * starts_of(made[0])[:, 0], firsts)[0, 1]) < 0.6
    assert np.abs(firsts - 10 * starts_of(made[0])[:, 0]).min() > 1e-6


def test_whole_numbers_fixed_and_unbounded_actions():
    whole = collect_mujoco(lambda: Rig(action_space=Box(-1, 1, (1,), np.int8)), 900, episode_length=30)
    kinds, counts = np.unique(whole.actions, return_counts=True)
    assert kinds.tolist() == [-1, 0, 1]
    assert counts.min() > 220
    fixed = collect_mujoco(lambda: Rig(action_space=Box(0.25, 0.25, (1,), np.float32)), 100)
    assert np.unique(fixed.actions).tolist() == [0.25]
    largest = np.finfo(np.float32).max
    for low, high in ((-largest, largest), (-np.inf, np.inf), (0, np.inf)):
        free = collect_mujoco(
            lambda low=low, high=high: Rig(action_space=Box(low, high, (1,), np.float32)), 500
        )
        assert 0.2 < free.actions.std() < 3


def test_periods_are_the_users_or_the_environments():
    class Declared(Rig):
        observation_periods = (0.0, 2 * np.pi, 0.0, 0.0)

    assert collect_mujoco(Rig, 50).periods == ()
    assert collect_mujoco(Declared, 50).periods == Declared.observation_periods
    assert collect_mujoco(Declared, 50, periods=(0, 1, 0, 0)).periods == (0, 1, 0, 0)
    assert collect_mujoco(Declared, 50, periods=()).periods == ()
    with pytest.raises(InputError, match="periods"):
        collect_mujoco(Rig, 50, periods=(0, -1, 0, 0))
