import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer, collect, collect_mujoco, from_minari, to_minari

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Minari asks for an author and a code link


@pytest.fixture(autouse=True)
def _datasets_in_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


def assert_equal(a: RolloutBuffer, b: RolloutBuffer) -> None:
    for x, y in zip(a.episodes(), b.episodes(), strict=True):
        assert np.array_equal(x.observations, y.observations)
        assert np.array_equal(x.actions, y.actions)
        assert (x.rewards is None) == (y.rewards is None)
        assert x.rewards is None or np.array_equal(x.rewards, y.rewards)
        assert x.terminated == y.terminated


@pytest.mark.parametrize("env", ["Pendulum-v1", "InvertedPendulum-v5"])
def test_round_trip_is_exact_by_minaris_own_loader(env):
    buffer = collect(env, 300, num_envs=3, progress=False)
    to_minari(buffer, "ebm/test-v0", env, author="tester")
    dataset = minari.load_dataset("ebm/test-v0")
    assert dataset.total_steps == 300
    assert dataset.recover_environment().spec.id == env
    for ours, theirs in zip(buffer.episodes(), dataset.iterate_episodes(), strict=True):
        assert np.array_equal(theirs.observations, ours.observations)
        assert np.array_equal(theirs.actions, ours.actions)
        assert np.array_equal(theirs.rewards, ours.rewards)
        assert theirs.terminations[-1] == ours.terminated
        assert theirs.truncations[-1] == (not ours.terminated)
        assert not theirs.terminations[:-1].any()
        assert not theirs.truncations[:-1].any()
    assert_equal(from_minari("ebm/test-v0"), buffer)
    assert_equal(from_minari(dataset), buffer)


def test_periods_and_missing_rewards_survive():
    buffer = collect_mujoco("ebm/Reacher-v0", 120)
    to_minari(buffer, "reacher/random-v0", "ebm/Reacher-v0")
    back = from_minari("reacher/random-v0")
    assert_equal(back, buffer)
    assert back.periods == buffer.periods


def test_figures_that_single_precision_would_round_are_widened():
    buffer = RolloutBuffer(3, 1)
    rng = np.random.default_rng(0)
    buffer.add_episode(rng.uniform(-1, 1, (5, 3)), rng.uniform(-1, 1, (4, 1)), rng.normal(size=4))
    to_minari(buffer, "wide-v0", "Pendulum-v1")
    assert_equal(from_minari("wide-v0"), buffer)
    to_minari(buffer, "bare-v0")
    assert_equal(from_minari("bare-v0"), buffer)


def test_observation_of_a_dictionary_is_read():
    space = gym.spaces.Box(-1, 1, (2,), np.float64)
    spaces = gym.spaces.Dict(observation=space, desired_goal=space)
    rows = np.random.default_rng(0).uniform(-1, 1, (4, 2))
    episode = EpisodeBuffer(
        observations={"observation": rows, "desired_goal": np.zeros((4, 2))},
        actions=rows[:3],
        rewards=[1.0, 2.0, 3.0],
        terminations=[False] * 3,
        truncations=[False, False, True],
    )
    minari.create_dataset_from_buffers("goal-v0", [episode], observation_space=spaces, action_space=space)
    (read,) = from_minari("goal-v0").episodes()
    assert np.array_equal(read.observations, rows)


def test_bad_datasets_are_named():
    with pytest.raises(InputError, match="nowhere-v0"):
        from_minari("nowhere-v0")
    buffer = collect("Pendulum-v1", 20, progress=False)
    with pytest.raises(InputError, match="episode"):
        to_minari(RolloutBuffer(2, 1), "empty-v0")
    with pytest.raises(InputError, match=r"\(4, 1\).*|\(3, 1\)"):
        to_minari(buffer, "other-v0", "InvertedPendulum-v5")
    to_minari(buffer, "taken-v0", "Pendulum-v1")
    with pytest.raises(InputError, match="taken-v0"):
        to_minari(buffer, "taken-v0", "Pendulum-v1")
