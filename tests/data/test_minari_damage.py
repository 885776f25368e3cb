"""Minari datasets that are damaged or not finite: refused in one line, or read as far as they are sound."""

import json
import warnings

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer, from_minari, to_minari

pytestmark = pytest.mark.filterwarnings("ignore:.*is set to None", "ignore:env_spec is None")
STEPS = (4, 6, 5)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def rows(steps: int) -> np.ndarray:
    return np.random.default_rng(steps).uniform(-1, 1, (steps + 1, 2))


def episode(steps: int) -> dict:
    return {
        "observations": rows(steps),
        "actions": rows(steps)[:-1, :1],
        "rewards": np.arange(steps, dtype=float),
        "terminations": np.arange(steps) == steps - 1,
        "truncations": np.zeros(steps, dtype=bool),
    }


def foreign(name="foreign-v0", episodes=None) -> str:
    """A dataset that others wrote: without our checksum."""
    episodes = [episode(n) for n in STEPS] if episodes is None else episodes
    minari.create_dataset_from_buffers(
        name,
        [EpisodeBuffer(id=i, **e) for i, e in enumerate(episodes)],
        observation_space=gym.spaces.Box(-np.inf, np.inf, (2,), np.float64),
        action_space=gym.spaces.Box(-1, 1, (1,), np.float64),
    )
    return name


def own(name="own-v0") -> str:
    buffer = RolloutBuffer(2, 1)
    for e in map(episode, STEPS):
        buffer.add_episode(e["observations"], e["actions"], e["rewards"], True)
    to_minari(buffer, name)
    return name


def one_line(name, match="dataset") -> str:
    with pytest.raises(InputError, match=match) as caught:
        from_minari(name)
    message = str(caught.value)
    assert message.startswith("dataset")
    assert name in message
    assert "\n" not in message
    return message


def change(folder, name, changes: dict) -> None:
    file = folder / name / "data" / "metadata.json"
    metadata = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in metadata.items() if v is not None}))


@pytest.mark.parametrize("write", [own, foreign])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("file", ["main_data.hdf5", "metadata.json"])
def test_files_that_end_too_early_are_refused_in_one_line(folder, write, share, file):
    name = write()
    path = folder / name / "data" / file
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    one_line(name)


@pytest.mark.parametrize("file", ["main_data.hdf5", "metadata.json"])
def test_missing_files_are_refused_in_one_line(folder, file):
    (folder / foreign() / "data" / file).unlink()
    one_line("foreign-v0", "No data found")


def test_no_changed_byte_of_our_own_datasets_gives_other_data(folder):
    digest = from_minari(own()).digest()
    rng = np.random.default_rng(0)
    refused = []
    for file in ("main_data.hdf5", "metadata.json"):
        path = folder / "own-v0" / "data" / file
        content = path.read_bytes()
        values = content.index(rows(STEPS[1])[0].tobytes()) if file == "main_data.hdf5" else 0
        for place in [values, *rng.integers(0, len(content), 60).tolist()]:
            damaged = bytearray(content)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            try:
                assert from_minari("own-v0").digest() == digest
            except InputError as error:
                refused.append(str(error))
        path.write_bytes(content)
    assert len(refused) > 20
    assert not any("\n" in message for message in refused)
    assert from_minari("own-v0").digest() == digest


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"total_episodes": 2}, r"expected the 15 of its metadata, got 10 steps"),
        ({"total_episodes": 4}, r"episode_3"),
        ({"total_episodes": 10**15}, r"episode_3"),
        ({"total_episodes": "3"}, r"at least one episode"),
        ({"total_episodes": True}, r"at least one episode"),
        ({"total_episodes": None}, r"at least one episode"),
        ({"total_steps": 14}, r"expected the 14 of its metadata, got 15 steps"),
        ({"total_steps": 0, "total_episodes": 0}, r"at least one episode"),
        ({"total_steps": None}, r"at least one episode"),
        ({"observation_space": None}, r"without observation_space"),
        ({"action_space": None}, r"without action_space"),
        ({"action_space": {"type": "Box"}}, r"without action_space"),
        ({"observation_space": '{"type": "Box"}'}, r"KeyError: 'shape'"),
        ({"observation_space": "{"}, r"JSONDecodeError"),
        ({"observation_space": "[" * 100_000}, r"RecursionError"),
        ({"observation_space": '{"type": "Sphere"}'}, r"dataset"),
        ({"action_space": '{"type": "Discrete", "n": 3, "start": 0}'}, r"continuous action space"),
        ({"minari_version": "99.0.0"}, r"up to .*of 99\.0\.0"),
        ({"minari_version": None}, r"of None"),
        ({"data_format": "zip"}, r"KeyError: 'zip'"),
        ({"data_format": None}, r"KeyError: 'data_format'"),
    ],
)
def test_metadata_that_do_not_fit_the_data_are_refused(folder, changes, match):
    change(folder, foreign(), changes)
    one_line("foreign-v0", match)


@pytest.mark.parametrize("content", ["[]", "3", "null", "\xff\xfe", "{}"])
def test_metadata_of_another_kind_are_refused(folder, content):
    (folder / foreign() / "data" / "metadata.json").write_bytes(content.encode("latin-1"))
    one_line("foreign-v0")


def _without(key):
    def damage(group):
        del group[key]

    return damage


def _replaced(key, values):
    def damage(group):
        del group[key]
        group[key] = values

    return damage


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (_without("observations"), "observations"),
        (_without("actions"), "actions"),
        (_without("rewards"), "rewards"),
        (_without("terminations"), "terminations"),
        (
            _replaced("observations", np.zeros((5, 2))),
            r"episode 1: observations: expected 7, or 6, got 5 rows",
        ),
        (
            _replaced("observations", np.zeros((9, 2))),
            r"episode 1: observations: expected 7, or 6, got 9 rows",
        ),
        (_replaced("observations", np.zeros((7, 3))), r"episode 1: observations: expected shape \(any, 2\)"),
        (_replaced("observations", np.zeros(7)), r"observations: expected shape"),
        (_replaced("observations", np.array([b"a"] * 7)), r"observations: expected an array of real numbers"),
        (_replaced("actions", np.zeros((5, 1))), r"episode 1: actions: expected shape \(6, 1\)"),
        (_replaced("actions", np.zeros(6)), r"episode 1: actions: expected shape \(6, 1\)"),
        (_replaced("rewards", np.zeros((6, 1))), r"episode 1: rewards: expected shape \(any,\)"),
        (_replaced("rewards", np.zeros(5)), r"expected shape \(5,\)"),
        (_replaced("terminations", np.zeros(2)), r"episode 1: terminations: expected shape \(6,\)"),
        (_replaced("truncations", np.zeros(7)), r"episode 1: truncations: expected shape \(6,\)"),
    ],
)
def test_an_episode_of_wrong_arrays_is_named(folder, damage, match):
    with h5py.File(folder / foreign() / "data" / "main_data.hdf5", "a") as file:
        damage(file["episode_1"])
    one_line("foreign-v0", match)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("key", "name", "left_out", "lengths"),
    [
        ("observations", "observation", 2, [4, 1, 3, 5]),
        ("actions", "action", 1, [4, 2, 3, 5]),
        ("rewards", "reward", 1, [4, 2, 3, 5]),
    ],
)
def test_readings_that_are_not_finite_are_left_out_with_one_warning(value, key, name, left_out, lengths):
    episodes = [episode(n) for n in STEPS]
    episodes[1][key][2] = value
    foreign(episodes=episodes)
    expected = f"'foreign-v0': {left_out} transition.*first is {value} as {name} in row 2.* of episode 1"
    with pytest.warns(UserWarning, match=expected) as caught:
        buffer = from_minari("foreign-v0")
    assert len(caught) == 1
    assert [len(e) for e in buffer.episodes()] == lengths
    assert [e.terminated for e in buffer.episodes()] == [True, False, True, True]
    for e in buffer.episodes():
        assert np.array_equal(e.actions, e.observations[:-1, :1])


def test_damage_of_many_episodes_gives_one_warning_that_counts_all_and_names_the_first():
    episodes = [episode(n) for n in STEPS]
    for e in episodes[1:]:
        e["observations"][0] = np.nan
    foreign(episodes=episodes)
    with pytest.warns(UserWarning, match=r"2 transitions left out.*row 0, column 0 of episode 1") as caught:
        assert len(from_minari("foreign-v0")) == sum(STEPS) - 2
    assert len(caught) == 1


def test_a_dataset_without_a_finite_transition_is_refused():
    episodes = [episode(4)]
    episodes[0]["observations"][:, 1] = np.nan
    foreign(episodes=episodes)
    with pytest.warns(UserWarning, match="4 transitions left out"):
        one_line("foreign-v0", "expected finite transitions")


def test_rewards_that_are_all_nan_count_as_not_recorded():
    episodes = [episode(n) for n in STEPS]
    episodes[2]["rewards"][:] = np.nan
    foreign(episodes=episodes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = list(from_minari("foreign-v0").episodes())
    assert [e.rewards is None for e in read] == [False, False, True]


def test_an_episode_without_its_last_observation_loses_its_last_action():
    episodes = [episode(n) for n in (1, *STEPS)]
    for e in episodes:
        e["observations"] = e["observations"][:-1]
    foreign(episodes=episodes)
    read = list(from_minari("foreign-v0").episodes())
    assert [len(e) for e in read] == [n - 1 for n in STEPS]
    assert not any(e.terminated for e in read)


def test_episodes_that_minari_adds_later_are_read_with_those_of_the_checksum():
    dataset = minari.load_dataset(own())
    dataset.update_dataset_from_buffer([EpisodeBuffer(**episode(7))])
    assert [len(e) for e in from_minari("own-v0").episodes()] == [*STEPS, 7]


def test_a_part_of_a_dataset_is_read_as_it_is():
    dataset = minari.load_dataset(own())
    assert [len(e) for e in from_minari(dataset.filter_episodes(lambda e: len(e) > 4)).episodes()] == [6, 5]
    parts = minari.split_dataset(dataset, [1, 2], seed=0)
    assert sorted(len(e) for part in parts for e in from_minari(part).episodes()) == sorted(STEPS)
    (shuffled,) = minari.split_dataset(dataset, [3], seed=1)
    assert sorted(len(e) for e in from_minari(shuffled).episodes()) == sorted(STEPS)
