"""The datasets of the prediction experiment: what they hold, the files that keep them, the policies that act."""

import json
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC

from ebm_control.checks import InputError
from experiments.prediction import data
from experiments.prediction.data import DATASETS, Stochastic, Training, load, policy_of

ROBOTICS = "gymnasium_robotics"
DIMS = {
    "reacher": (4, 2),
    "halfcheetah-random": (17, 6),
    "hopper-random": (11, 3),
    "hand-reach": (63, 20),
    "hand-block": (61, 20),
    "fork": (2, 1),
}
SMALL_TRAININGS = {
    "ppo": Training(PPO, 256, {"n_steps": 32}),
    "sac": Training(SAC, 128, {"learning_starts": 64, "policy_kwargs": {"net_arch": [16]}}),
}


def shrink(monkeypatch, name, steps=400, held=200):
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], steps=steps, held=held))


def train_briefly(monkeypatch, algorithm="ppo"):
    monkeypatch.setitem(data.TRAININGS, "Hopper-v5", SMALL_TRAININGS[algorithm])
    monkeypatch.setattr(data, "EVALUATION_EPISODES", 4)


def need_environment(name):
    if DATASETS[name].env.startswith(ROBOTICS):
        pytest.importorskip(ROBOTICS, reason="the hands need the extra `robotics`")


def contents(buffer):
    return [buffer.observations, buffer.actions]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(contents(one), contents(other), strict=True))


def forbid_collection(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("collected again")

    for name in ("collect", "collect_mujoco", "policy_of"):
        monkeypatch.setattr(data, name, fail)


@pytest.mark.parametrize("name", DIMS)
def test_random_data_have_the_environments_sizes_and_held_out_episodes_of_their_own(
    monkeypatch, tmp_path, name
):
    need_environment(name)
    shrink(monkeypatch, name)
    training, held = load(name, 0, tmp_path)
    assert (training.obs_dim, training.act_dim) == (held.obs_dim, held.act_dim) == DIMS[name]
    assert (len(training), len(held)) == (400, 200)
    assert not np.isin(held.actions[:, 0], training.actions[:, 0]).any()
    assert np.isfinite(training.observations).all()


def test_the_names_are_those_of_the_datasets():
    assert list(DATASETS) == [dataset.name for dataset in DATASETS.values()]
    assert {name for name, dataset in DATASETS.items() if dataset.policy == "random"} == set(DIMS)
    assert {d.env for d in DATASETS.values() if d.policy == "trained"} == set(data.TRAININGS)


@pytest.mark.parametrize("name", ["reacher", "halfcheetah-random", "hand-reach", "hand-block"])
def test_episodes_have_room_for_a_history_and_a_hundred_steps_ahead(name):
    need_environment(name)
    env = DATASETS[name].make()
    assert env.spec.max_episode_steps >= 10 + 100
    env.close()


def test_a_hopper_ends_where_it_falls(monkeypatch, tmp_path):
    shrink(monkeypatch, "hopper-random")
    episodes = list(load("hopper-random", 0, tmp_path)[0].episodes())
    assert len(episodes) > 8  # those under way when collection ends are cut off
    assert sum(episode.terminated for episode in episodes) >= len(episodes) - 8


def test_data_are_collected_once_and_kept(monkeypatch, tmp_path):
    shrink(monkeypatch, "fork")
    folder = tmp_path / "new" / "data"
    first = load("fork", 0, folder)
    assert {path.name for path in folder.iterdir()} == {"fork-seed0-400-v2.npz", "fork-seed10000-200-v2.npz"}
    forbid_collection(monkeypatch)
    again = load("fork", 0, folder)
    assert all(same(one, other) for one, other in zip(first, again, strict=True))


def test_a_seed_decides_the_data(monkeypatch, tmp_path):
    shrink(monkeypatch, "reacher")
    one = load("reacher", 0, tmp_path / "one")
    other = load("reacher", 0, tmp_path / "other")
    assert same(one[0], other[0])
    assert same(one[1], other[1])
    assert not same(one[0], load("reacher", 1, tmp_path / "one")[0])


def test_quick_data_are_a_tenth_and_have_files_of_their_own(monkeypatch, tmp_path):
    shrink(monkeypatch, "fork", 1000, 500)
    training, held = load("fork", 0, tmp_path, quick=True)
    assert (len(training), len(held)) == (100, 50)
    assert [len(buffer) for buffer in load("fork", 0, tmp_path)] == [1000, 500]


def test_no_dataset_of_that_name(tmp_path):
    with pytest.raises(InputError, match=r"name: expected one of reacher, .*, got 'walker'"):
        load("walker", 0, tmp_path)


def test_quick_data_of_a_trained_policy_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"quick: expected False where a policy .*'hopper-trained'"):
        load("hopper-trained", 0, tmp_path, quick=True)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, ROBOTICS, None)
    with pytest.raises(InputError, match=r"name: expected .* installed, got 'hand-reach' .*robotics"):
        load("hand-reach", 0, tmp_path)


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_a_policy_is_trained_once_and_kept_with_its_record(monkeypatch, tmp_path, algorithm):
    train_briefly(monkeypatch, algorithm)
    first = policy_of("Hopper-v5", tmp_path)
    stem = f"Hopper-v5-{algorithm}-{SMALL_TRAININGS[algorithm].steps}"
    assert {path.name for path in tmp_path.iterdir()} == {f"{stem}.zip", f"{stem}.json"}
    record = json.loads((tmp_path / f"{stem}.json").read_text())
    assert record["algorithm"] == algorithm
    assert record["steps"] == SMALL_TRAININGS[algorithm].steps
    for kind in ("stochastic", "deterministic"):
        assert len(record[kind]["returns"]) == len(record[kind]["lengths"]) == 4
        assert record[kind]["return_mean"] == pytest.approx(np.mean(record[kind]["returns"]))

    monkeypatch.setattr(data, "_train", None)
    again = policy_of("Hopper-v5", tmp_path)
    observations = np.random.default_rng(0).normal(size=(5, 11))
    actions = [policy.predict(observations, deterministic=True)[0] for policy in (first, again)]
    np.testing.assert_array_equal(*actions)


def test_data_of_a_trained_policy_repeat_and_leave_torch_as_it_was(monkeypatch, tmp_path):
    train_briefly(monkeypatch)
    shrink(monkeypatch, "hopper-trained")
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(threads + 1)  # other than the one that the training sets
    try:
        training, held = load("hopper-trained", 0, tmp_path)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert (training.obs_dim, training.act_dim, len(training), len(held)) == (11, 3, 400, 200)
    assert torch.equal(torch.get_rng_state(), state)

    for path in tmp_path.glob("*.npz"):
        path.unlink()
    torch.rand(1)
    assert same(load("hopper-trained", 0, tmp_path)[0], training)


def test_stochastic_actions_spread():
    env = gym.make("Hopper-v5")
    policy = Stochastic(PPO("MlpPolicy", env, device="cpu"))
    observations = np.repeat(env.reset(seed=0)[0][None], 100, axis=0)
    assert policy.predict(observations, deterministic=True)[0].std(0).min() > 0.1
    env.close()


def test_no_policy_for_that_environment(tmp_path):
    with pytest.raises(InputError, match="env: expected one of HalfCheetah-v5, Hopper-v5, got 'Ant-v5'"):
        policy_of("Ant-v5", tmp_path)
