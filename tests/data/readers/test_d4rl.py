"""D4RL's layout: which transitions are read, and where episodes end.

Checked once against d4rl 1.1: its `qlearning_dataset` of the file with timeouts and next observations has the same
transitions, but for two kinds. It leaves out the one at each timeout and the last of all, and its transition at a
terminal leads to the first observation of the following episode, as it does not use `next_observations`.
"""

import warnings

import numpy as np
import pytest

import ebm_control as ebm
from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer
from tests.data.readers.samples import episodes, flat, of_steps, shapes, write_flat

RECORDED = episodes(4, 1, 7)


def read(path, **given):
    """Rollouts and the one warning, "" without."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rollouts = ebm.read(path, **given)
    assert len(caught) <= 1
    return rollouts, str(caught[0].message) if caught else ""


@pytest.mark.parametrize("suffix", [".hdf5", ".npz"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_with_next_observations_every_transition_is_read(tmp_path, suffix, dtype):
    arrays = flat(RECORDED, terminated=(0, 2))
    arrays |= {name: arrays[name].astype(dtype) for name in ("terminals", "timeouts")}
    rollouts, said = read(write_flat(tmp_path / "a", arrays, suffix))
    assert rollouts.digest() == of_steps(RECORDED, terminated=(0, 2)).digest()
    assert said == ""
    assert rollouts.info.format == "d4rl"
    assert rollouts.info.rewards
    assert rollouts.info.left_out == {}


def test_without_next_observations_the_last_action_of_each_episode_is_left_out_and_counted(tmp_path):
    path = write_flat(tmp_path / "a", flat(RECORDED, terminated=(0, 1), following=False))
    rollouts, said = read(path)
    assert rollouts.digest() == of_steps(RECORDED, 1, 1, 1).digest()
    assert shapes(rollouts) == [([0, 0], 3, False), ([200, 0], 6, False)]
    assert said == (
        f"{path}, as d4rl: 3 of 12 actions left out: 3 without a recorded next observation (the last of an episode), "
        "2 terminations with them"
    )
    assert list(rollouts.info.left_out.values()) == [3]


@pytest.mark.parametrize("following", [True, False])
def test_rows_after_the_last_border_are_an_episode_too(tmp_path, following):
    arrays = flat(RECORDED, following=following)
    cut = {name: value[:10] for name, value in arrays.items()}  # within the third episode, at its row 5
    rollouts, _ = read(write_flat(tmp_path / "a", cut))
    assert [len(e) for e in rollouts.episodes()] == ([4, 1, 5] if following else [3, 4])


def test_without_timeouts_episodes_end_where_observations_do_not_go_on(tmp_path):
    path = write_flat(tmp_path / "a", flat(RECORDED, terminated=(0,), timeouts=False))
    rollouts, said = read(path)
    assert rollouts.digest() == of_steps(RECORDED, terminated=(0,)).digest()
    assert "1 episode borders added where the next observation" in said


def test_an_unmarked_border_within_an_episode_is_cut_there(tmp_path):
    arrays = {name: np.delete(value, [7, 8], axis=0) for name, value in flat(RECORDED).items()}
    rollouts, said = read(write_flat(tmp_path / "a", arrays))
    assert shapes(rollouts) == [
        ([0, 0], 4, False),
        ([100, 0], 1, False),
        ([200, 0], 2, False),
        ([204, -4], 3, False),
    ]
    assert "1 episode borders added" in said


def test_rounding_is_no_border(tmp_path):
    arrays = flat(RECORDED)
    arrays["next_observations"] = arrays["next_observations"].astype(np.float64) * (1 + 1e-7)
    rollouts, said = read(write_flat(tmp_path / "a", arrays))
    assert [len(e) for e in rollouts.episodes()] == [4, 1, 7]
    assert said == ""


def test_without_timeouts_and_next_observations_a_limit_is_asked_for(tmp_path):
    arrays = flat(episodes(4, 2, 4), terminated=(1,), timeouts=False, following=False)
    path = write_flat(tmp_path / "a", arrays)
    with pytest.raises(InputError, match=r"max_episode_steps: expected the step limit of the environment"):
        ebm.read(path)
    rollouts, said = read(path, max_episode_steps=4)
    assert shapes(rollouts) == [([0, 0], 3, False), ([100, 0], 1, False), ([200, 0], 3, False)]
    assert "3 of 10 actions left out" in said
    everything_marked = flat(RECORDED, terminated=(0, 1, 2), timeouts=False, following=False)
    rollouts, _ = read(write_flat(tmp_path / "b", everything_marked), max_episode_steps=10**9)
    assert rollouts.digest() == of_steps(RECORDED, 1, 1, 1).digest()


def test_a_next_observation_that_is_the_next_episode_s_first_is_not_used(tmp_path):
    arrays = flat(RECORDED, terminated=(0, 1), following=False)
    shifted = np.concatenate([arrays["observations"][1:], arrays["observations"][-1:]])
    rollouts, said = read(write_flat(tmp_path / "a", arrays | {"next_observations": shifted}))
    assert [(len(e), e.terminated) for e in rollouts.episodes()] == [(3, False), (7, False)]
    assert "2 at the end of an episode, with the first observation of the following one" in said


def test_chosen_arrays_are_side_by_side_in_the_order_given(tmp_path):
    arrays = flat(RECORDED)
    rows = len(arrays["rewards"])
    arrays |= {"infos/goal": np.arange(rows, dtype=np.int32), "infos/qvel": np.full((rows, 3), 0.5)}
    path = write_flat(tmp_path / "a", arrays)
    rollouts, said = read(path, keys=("infos/qvel", "observations", "infos/goal"))
    assert rollouts.info.parts == {
        "infos/qvel": slice(0, 3), "observations": slice(3, 5), "infos/goal": slice(5, 6)
    }  # fmt: skip
    assert str(rollouts.info).endswith(
        "columns infos/qvel 0:3, observations 3:5, infos/goal 5:6; with rewards"
    )
    first = next(rollouts.episodes())
    assert np.array_equal(first.observations[:, rollouts.info.parts["infos/goal"]].ravel(), [0, 1, 2, 3])
    # Next values of infos are not in the file: the last actions cannot be used.
    assert "3 of 12 actions left out" in said
    with pytest.raises(InputError, match=r"infos/qpos: expected an array of this name, got none; there are "):
        ebm.read(path, keys=("infos/qpos",))


def test_rewards_that_are_missing_are_not_zero(tmp_path):
    arrays = flat(RECORDED)
    without = {name: value for name, value in arrays.items() if name != "rewards"}
    for i, given in enumerate((without, arrays | {"rewards": np.full(12, np.nan)})):
        rollouts, said = read(write_flat(tmp_path / f"a{i}", given))
        assert [e.rewards for e in rollouts.episodes()] == [None] * 3
        assert not rollouts.info.rewards
        assert str(rollouts.info).endswith("rewards not recorded")
        assert said == ""


def test_whole_numbers_columns_and_other_byte_orders_are_read(tmp_path):
    arrays = flat(RECORDED)
    arrays["rewards"] = (10 * arrays["rewards"]).round().astype(np.int32)[:, None]
    arrays["terminals"] = arrays["terminals"][:, None]
    arrays["observations"] = arrays["observations"].astype(">f8")
    rollouts, _ = read(write_flat(tmp_path / "a", arrays))
    assert np.array_equal(next(rollouts.episodes()).rewards, [0, 1, 2, 3])
    assert len(rollouts) == 12
    arrays |= {name: arrays[name][:, 0] for name in ("observations", "next_observations")}
    assert read(write_flat(tmp_path / "b", arrays))[0].obs_dim == 1


def test_readings_that_are_not_finite_are_left_out_and_counted(tmp_path):
    arrays = flat(RECORDED, following=False)
    arrays["observations"][7, 1] = np.nan
    arrays["actions"][0] = np.inf
    arrays["actions"][3] = np.nan  # the last of its episode: not used anyway
    rollouts, said = read(write_flat(tmp_path / "a", arrays))
    assert [(e.observations[0, 0], len(e)) for e in rollouts.episodes()] == [(1, 2), (200, 1), (203, 3)]
    assert "6 of 12 actions left out: 3 without" in said
    assert (
        "3 with readings that are not finite, the first inf as action in row 0, column 0 of rows 0 to 3"
        in said
    )
    assert sum(rollouts.info.left_out.values()) + len(rollouts) == 12


def test_a_file_of_unsound_arrays_is_refused_by_name(tmp_path):
    sound = flat(RECORDED)
    for change, words in (
        ({"actions": sound["actions"][:-1]}, "actions: expected 12 rows, as many as observations, got 11 rows"),
        ({"rewards": sound["rewards"][:-1]}, r"rewards: expected shape \(12,\)"),
        ({"timeouts": sound["timeouts"][:-1]}, r"timeouts: expected shape \(12,\)"),
        ({"terminals": np.full(12, 0.5)}, "terminals: expected 0 or 1"),
        ({"terminals": np.full(12, np.nan)}, "terminals: expected 0 or 1"),
        ({"next_observations": np.zeros((12, 3))}, r"next_observations: expected \(12, 2\), got shape \(12, 3\)"),
        ({"observations": np.zeros((12, 8, 8, 3), np.uint8)}, "images are not read"),
        ({"actions": np.array([b"left"] * 12)}, "actions: expected an array of real numbers"),
        ({"observations": np.zeros((0, 2))}, "observations: expected at least one, got no rows"),
    ):  # fmt: skip
        path = write_flat(tmp_path / "a", sound | change)
        with pytest.raises(InputError, match=words) as caught:
            ebm.read(path, "d4rl")
        assert str(caught.value).startswith(f"{path}, as d4rl: ")
        assert "\n" not in str(caught.value)


def test_a_file_without_any_usable_transition_is_refused(tmp_path):
    path = write_flat(tmp_path / "a", flat(episodes(1, 1), following=False))
    with pytest.raises(
        InputError, match=r"expected transitions, got .* without any \(2 of 2 actions left out"
    ):
        ebm.read(path)


def test_periods_belong_to_the_columns(tmp_path):
    path = write_flat(tmp_path / "a", flat(RECORDED))
    assert ebm.read(path, periods=(0.0, 6.0)).periods == (0.0, 6.0)
    with pytest.raises(InputError, match="periods"):
        ebm.read(path, periods=(1.0,))


def test_every_transition_is_an_episode_if_the_rows_are_shuffled(tmp_path):
    order = np.random.default_rng(0).permutation(12)
    path = write_flat(tmp_path / "a", {name: value[order] for name, value in flat(RECORDED).items()})
    found = read(path)[0].transitions()
    expected = of_steps(RECORDED).transitions()
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours[np.argsort(order)], theirs)


def test_rollouts_that_were_read_are_saved_and_merged_as_others(tmp_path):
    rollouts = ebm.read(write_flat(tmp_path / "a", flat(RECORDED)))
    rollouts.save(tmp_path / "own.npz")
    again = ebm.read(tmp_path / "own.npz")
    assert again.digest() == RolloutBuffer.load(tmp_path / "own.npz").digest() == rollouts.digest()
    assert again.info.format == "ebm-control"
    assert len(rollouts + again) == 24
