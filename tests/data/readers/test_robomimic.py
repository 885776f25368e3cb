"""robomimic's layout: demonstrations in their order, named parts, filter keys.

Checked once against robomimic 0.3.0: its `SequenceDataset` of the file with next observations has the same
observations, next observations, actions and rewards in the same order, with and without a filter key.
"""

import h5py
import numpy as np
import pytest

import ebm_control as ebm
from ebm_control.checks import InputError
from tests.data.readers.samples import episodes, of_steps, shapes, write_robomimic
from tests.data.readers.test_d4rl import read

RECORDED = episodes(4, 1, 7)
IN_ORDER = ("robot0_eef_pos", "object")


def test_parts_are_named_and_in_alphabetical_order(tmp_path):
    rollouts, said = read(write_robomimic(tmp_path / "a", RECORDED))
    assert rollouts.info.format == "robomimic"
    assert rollouts.info.parts == {"object": slice(0, 1), "robot0_eef_pos": slice(1, 2)}
    first = next(rollouts.episodes())
    assert first.observations[:, rollouts.info.parts["robot0_eef_pos"]].ravel().tolist() == [0, 1, 2, 3, 4]
    assert said.endswith("arrays left out, which are no vectors: agentview_image (4, 4, 4, 3)")
    assert rollouts.info.skipped == {"agentview_image": (4, 4, 4, 3)}
    assert rollouts.info.metadata["env_args"]["env_name"] == "Lift"


def test_chosen_keys_keep_their_order_and_all_transitions_are_there(tmp_path):
    rollouts, said = read(write_robomimic(tmp_path / "a", RECORDED), keys=IN_ORDER)
    assert rollouts.digest() == of_steps(RECORDED, terminated=(0, 1, 2)).digest()
    assert said == ""


def test_without_next_observations_the_last_actions_are_left_out(tmp_path):
    path = write_robomimic(tmp_path / "a", RECORDED, following=False)
    rollouts, said = read(path, keys=IN_ORDER)
    assert rollouts.digest() == of_steps(RECORDED, 1, 1, 1).digest()
    assert "3 of 12 actions left out" in said
    assert "3 terminations with them" in said


def test_without_dones_and_rewards_neither_is_made_up(tmp_path):
    path = write_robomimic(tmp_path / "a", RECORDED, dones=False, rewards=False)
    rollouts = ebm.read(path, keys=IN_ORDER)
    assert rollouts.digest() == of_steps(RECORDED, rewards=False).digest()
    assert not rollouts.info.rewards


def test_filter_keys_choose_demonstrations(tmp_path):
    path = write_robomimic(tmp_path / "a", RECORDED)
    train, valid = (ebm.read(path, keys=IN_ORDER, split=split) for split in ("train", "valid"))
    assert [first for first, *_ in shapes(train)] == [[0, 0], [100, 0]]
    assert [first for first, *_ in shapes(valid)] == [[200, 0]]
    with pytest.raises(InputError, match=r"split: expected one of \['train', 'valid'\], got 'test'"):
        ebm.read(path, split="test")
    with h5py.File(path, "r+") as file:
        file["mask/broken"] = np.array(["demo_0", "demo_9"], dtype="S")
        file["mask/twice"] = np.array(["demo_0", "demo_0"], dtype="S")
    for split, words in (("broken", r"got \['demo_9'\]"), ("twice", "got a name twice")):
        with pytest.raises(InputError, match=words):
            ebm.read(path, split=split)
    with h5py.File(path, "r+") as file:
        del file["mask"]
    with pytest.raises(InputError, match="split: expected None: the file has no group mask, got 'train'"):
        ebm.read(path, split="train")


def test_demonstrations_are_in_the_order_of_their_numbers(tmp_path):
    recorded = episodes(*[2] * 12)
    rollouts = ebm.read(
        write_robomimic(tmp_path / "a", recorded, order=list(range(11, -1, -1))), keys=IN_ORDER
    )
    assert [first[0] for first, *_ in shapes(rollouts)] == [100 * i for i in range(12)]


def test_states_of_the_simulator_are_the_observation_if_chosen(tmp_path):
    path = write_robomimic(tmp_path / "a", RECORDED)
    rollouts, said = read(path, keys=("states",))
    assert rollouts.obs_dim == 4
    assert "3 of 12 actions left out" in said, "there are no next states"
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            del demo["obs"], demo["next_obs"]
    with pytest.raises(InputError, match=r'keys: expected \("states",\).*dataset_states_to_obs.py.*got None'):
        ebm.read(path)
    assert read(path, keys=("states",))[0].digest() == rollouts.digest()


def change(path, name, value):
    with h5py.File(path, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value
    return path


def test_an_image_that_is_chosen_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"agentview_image: expected one vector per row; images are not read"
    ):
        ebm.read(write_robomimic(tmp_path / "a", RECORDED), keys=("object", "agentview_image"))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("actions", np.zeros((3, 1)), r"data/demo_0: actions: expected 4, as many as observations, got 3"),
        ("rewards", np.zeros(3), r"data/demo_0: rewards: expected shape \(4,\)"),
        ("dones", np.full(4, 2), "dones: expected 0 or 1"),
        ("obs/object", np.zeros((3, 1)), "robot0_eef_pos: expected 3 rows, got 4 rows"),
        ("obs/object", np.zeros((4, 2)), r"next_obs: expected shape \(4, 3\), got \(4, 2\)"),
        ("obs/object", None, "object: expected an array of this name, got none"),
        ("next_obs/object", np.zeros((3, 1)), "robot0_eef_pos: expected 3 rows, got 4 rows"),
        ("actions", None, "data/demo_0/actions: expected an array of this name, got none"),
    ],
)
def test_a_demonstration_that_does_not_fit_is_refused_by_name(tmp_path, name, value, words):
    path = change(write_robomimic(tmp_path / "a", RECORDED), f"data/demo_0/{name}", value)
    with pytest.raises(InputError, match=words) as caught:
        ebm.read(path, keys=("object", "robot0_eef_pos"))
    assert "\n" not in str(caught.value)


def test_a_demonstration_that_is_shorter_than_stated_is_refused(tmp_path):
    path = write_robomimic(tmp_path / "a", RECORDED)
    with h5py.File(path, "r+") as file:
        file["data/demo_2"].attrs["num_samples"] = 8
    with pytest.raises(
        InputError, match="data/demo_2: num_samples: expected 7, as many as observations, got 8"
    ):
        ebm.read(path)


def test_a_demonstration_is_cut_where_its_observations_do_not_go_on(tmp_path):
    path = write_robomimic(tmp_path / "a", RECORDED)
    with h5py.File(path, "r+") as file:
        file["data/demo_2/next_obs/object"][3] = -9
    rollouts, said = read(path, keys=IN_ORDER)
    assert [(len(e), e.terminated) for e in rollouts.episodes()] == [
        (4, True),
        (1, True),
        (4, False),
        (3, True),
    ]
    assert "1 episode borders added" in said
