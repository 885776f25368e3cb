import gymnasium as gym
import numpy as np
import pytest
from gymnasium import ObservationWrapper
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.spaces import Box
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import RescaleAction

from ebm_control.checks import InputError
from ebm_control.data import MujocoSimulator, collect_mujoco
from ebm_control.data.environments import plain_observation
from ebm_control.seeds import seeds
from tests.helpers import lines_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "value", [0, -1, 1.5, 2.0, float("nan"), float("inf"), True, "two", [], np.float32(2)], ids=repr
)
@pytest.mark.parametrize("name", ["steps", "episode_length", "threads"])
def test_counts_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=rf"^{name}: expected a whole number of at least 1, got"):
        collect_mujoco("ebm/Reacher-v0", **{"steps": 10, "episode_length": 5, "threads": 1} | {name: value})


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Hopper-v5", "Swimmer-v5", "ebm/Reacher-v0"])
def test_rollouts_equal_stepping_the_environment(env_id):
    buffer = collect_mujoco(env_id, 350, episode_length=100, seed=5)
    assert len(buffer) == 350
    assert [len(e) for e in buffer.episodes()] == [100, 100, 100, 50]
    env = gym.make(env_id)
    for i, e in enumerate(buffer.episodes()):
        first = env.reset(seed=seeds(5, "collect_mujoco environment", 1)[0] if i == 0 else None)[0]
        stepped = [first, *(env.unwrapped.step(a.astype(np.float32))[0] for a in e.actions)]
        difference = np.abs(np.stack([plain_observation(o) for o in stepped]) - e.observations)
        assert difference.max() <= 1e-10


def test_equal_seeds_give_equal_data_for_any_number_of_threads():
    a, b, c = (
        collect_mujoco("HalfCheetah-v5", 600, episode_length=50, seed=s, threads=t)
        for s, t in ((0, 1), (0, 3), (1, 1))
    )
    assert np.array_equal(a.observations, b.observations)
    assert np.array_equal(a.actions, b.actions)
    assert not np.array_equal(a.observations, c.observations)


def test_random_actions_fill_the_box():
    actions = collect_mujoco("InvertedPendulum-v5", 2000).actions  # the box is [-3, 3]
    assert np.abs(actions.mean()) < 4.5 * np.sqrt(3 / 2000)
    assert actions.var() == pytest.approx(3, rel=0.1)
    assert 2.9 < actions.max() <= 3


def test_starts_are_where_they_were_asked_for():
    def starts(rng, n):
        return rng.uniform(-np.pi, np.pi, (n, 2)), rng.uniform(-5, 5, (n, 2))

    buffer = collect_mujoco("ebm/Reacher-v0", 2000, episode_length=20, starts=starts)
    first = np.stack([e.observations[0] for e in buffer.episodes()])
    assert np.ptp(first[:, :2], axis=0).min() > 1.8
    assert np.ptp(first[:, 2:], axis=0).min() > 0.9
    assert buffer.periods == (2.0, 2.0, 0.0, 0.0)


def test_environment_that_rollouts_cannot_reproduce_is_refused():
    scaled = lambda: RescaleAction(gym.make("HalfCheetah-v5"), np.float32(-0.5), np.float32(0.5))  # noqa: E731
    with pytest.raises(InputError, match="use `collect`"):
        collect_mujoco(scaled, 100)
    with pytest.raises(InputError, match=r"cfrc_ext.*use `collect`"):
        collect_mujoco("Ant-v5", 100)
    with pytest.raises(InputError, match=r"use `collect`.*without \['model', 'data'\]"):
        collect_mujoco("Pendulum-v1", 100)
    with pytest.raises(InputError, match=r"observe.*shape"):
        collect_mujoco("HalfCheetah-v5", 100, observe=lambda qpos, qvel: qpos)
    with pytest.raises(InputError, match="HalfCheetah-v5"):
        collect_mujoco("HalfCheeta-v5", 100)


def test_given_observe_takes_the_place_of_the_environments_own():
    def observe(qpos, qvel):
        return np.concatenate([qpos[..., 1:], qvel], axis=-1)

    own = collect_mujoco("HalfCheetah-v5", 100)
    given = collect_mujoco(HalfCheetahEnv, 100, observe=observe)
    assert np.array_equal(own.observations, given.observations)


@pytest.mark.parametrize("episode_length", [1, 2, 7])
@pytest.mark.parametrize("speed", [1e9, 1e12])
def test_unstable_start_is_reported_and_the_other_episodes_are_kept(
    episode_length, speed, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where MuJoCo writes its log

    def starts(rng, n):
        qvel = np.zeros((n, 9))
        qvel[3] = speed
        return np.zeros((n, 9)), qvel

    with pytest.raises(InputError, match=r"^starts: .*stable.*in episode 3 at step 0 .*MUJOCO_LOG") as caught:
        collect_mujoco("HalfCheetah-v5", 10 * episode_length, episode_length=episode_length, starts=starts)
    assert [len(e) for e in caught.value.rollouts.episodes()] == [episode_length] * 9
    assert np.abs(caught.value.rollouts.observations).max() < 100
    assert (tmp_path / "MUJOCO_LOG.TXT").exists()


def test_simulation_that_becomes_unstable_under_way_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Stiff(HalfCheetahEnv):
        def reset_model(self):
            self.resets = getattr(self, "resets", 0) + 1
            # Past the 13 resets before the first episode's, a spring pulls the torso ever further.
            self.model.jnt_stiffness[0] = -3e4 if self.resets == 17 else 0.0
            return super().reset_model()

    with pytest.raises(InputError, match=r"^env: .*in episode 3 at step [1-9]") as caught:
        collect_mujoco(Stiff, 600, episode_length=60)
    assert [len(e) for e in caught.value.rollouts.episodes()] == [60] * 9
    with MujocoSimulator(gym.make("HalfCheetah-v5"), threads=1) as simulator:
        states = simulator.states(np.zeros((2, 9)), np.array([np.zeros(9), np.full(9, 1e9)]))
        with pytest.raises(InputError, match="in rollout 1 at step 0"):
            simulator.rollout(states, np.zeros((2, 1, 6)))
        with pytest.raises(InputError, match="actions: expected shape"):
            simulator.rollout(states, np.zeros((2, 1, 5)))


def positions_and_velocities(qpos, qvel):
    return np.concatenate([qpos, qvel], axis=-1)


class Plain(ObservationWrapper):
    """Positions and velocities as observation, in single precision if asked for."""

    def __init__(self, env, dtype=np.float64):
        super().__init__(env)
        size = env.unwrapped.model.nq + env.unwrapped.model.nv
        self.observation_space = Box(-np.inf, np.inf, (size,), dtype)

    def observation(self, observation):
        data = self.env.unwrapped.data
        return np.concatenate([data.qpos, data.qvel]).astype(self.observation_space.dtype)


@pytest.mark.parametrize(
    "env_id",
    [
        "HalfCheetah-v5",
        "Hopper-v5",
        "Walker2d-v5",
        "Ant-v5",
        "Humanoid-v5",
        "HumanoidStandup-v5",
        "Swimmer-v5",
        "Reacher-v5",
        "Pusher-v5",
        "InvertedPendulum-v5",
        "InvertedDoublePendulum-v5",
    ],
)
def test_environment_with_contacts_limits_and_terminations_is_not_refused(env_id):
    for dtype in (np.float64, np.float32):
        make = lambda dtype=dtype: Plain(gym.make(env_id), dtype)  # noqa: E731
        assert len(collect_mujoco(make, 600, episode_length=200, observe=positions_and_velocities)) == 600


@pytest.mark.parametrize(
    "env_id", ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "ebm/Reacher-v0", "ebm/Arm7-v0"]
)
def test_starts_far_out_are_not_refused(env_id):
    model = gym.make(env_id).unwrapped.model

    def starts(rng, n):
        return rng.uniform(-3, 3, (n, model.nq)), rng.uniform(-15, 15, (n, model.nv))

    assert len(collect_mujoco(env_id, 500, episode_length=5, starts=starts)) == 500


def test_maze_that_limits_speeds_is_refused_once_they_are_reached():
    robotics = pytest.importorskip("gymnasium_robotics")
    gym.register_envs(robotics)
    make = lambda: gym.make("PointMaze_Large-v3")  # noqa: E731
    slow = collect_mujoco(make, 300, observe=positions_and_velocities)
    assert np.abs(slow.observations[:, 2:]).max() < 5

    def starts(rng, n):
        return rng.uniform(-0.2, 0.2, (n, 2)), np.full((n, 2), [6.7, 0.0])

    with pytest.raises(InputError, match="agree with stepping"):
        collect_mujoco(make, 300, episode_length=10, starts=starts, observe=positions_and_velocities)


def test_a_step_costs_hardly_any_python_and_stepping_a_vector_of_environments_does():
    envs = SyncVectorEnv([lambda: gym.make("HalfCheetah-v5")] * 8)
    envs.reset(seed=0)
    stepping = lines_of(lambda: envs.step(np.zeros((8, 6), np.float32))) / 8
    collect_mujoco("HalfCheetah-v5", 1000)
    few, many = (lines_of(lambda n=n: collect_mujoco("HalfCheetah-v5", n)) for n in (2000, 4000))
    assert (many - few) / 2000 < stepping / 100
