"""OGBench's three layouts hold the same transitions.

Checked once against ogbench 1.2.2: its `load_dataset` of the file as downloaded has these transitions, and what it
returns, saved with np.savez, is what `regular` and `compact` make here.
"""

import numpy as np
import pytest

import ebm_control as ebm
from ebm_control.checks import InputError
from tests.data.readers.samples import episodes, of_steps, ogbench, write_flat
from tests.data.readers.test_d4rl import read

RECORDED = episodes(4, 1, 7)


def regular(**more):
    found = {
        "observations": np.concatenate([e.observations[:-1] for e in RECORDED]),
        "next_observations": np.concatenate([e.observations[1:] for e in RECORDED]),
        "actions": np.concatenate([e.actions for e in RECORDED]),
        "terminals": np.concatenate([np.arange(n) == n - 1 for n in (4, 1, 7)]).astype(np.float32),
    }
    return found | more


def compact():
    found = ogbench(RECORDED)
    last = found["terminals"].astype(np.float32)
    return found | {"valids": 1 - last, "terminals": np.minimum(last + np.append(last[1:], 1), 1)}


@pytest.mark.parametrize("layout", ["downloaded", "compact", "regular"])
def test_all_layouts_hold_the_same_transitions(tmp_path, layout):
    arrays = {"downloaded": ogbench(RECORDED), "compact": compact(), "regular": regular()}[layout]
    rollouts, said = read(write_flat(tmp_path / "cube-play-v0", arrays, ".npz"))
    assert rollouts.info.format == "ogbench"
    assert rollouts.digest() == of_steps(RECORDED, rewards=False).digest()
    assert not any(e.terminated for e in rollouts.episodes())
    assert ("3 of 15 actions left out: 3 without a recorded next observation" in said) == (
        layout != "regular"
    )


def test_the_last_action_of_a_trajectory_is_not_used(tmp_path):
    rollouts = read(write_flat(tmp_path / "a", ogbench(RECORDED), ".npz"))[0]
    assert 777 not in rollouts.actions
    arrays = ogbench(RECORDED)
    arrays["actions"][arrays["terminals"]] = np.nan
    again, said = read(write_flat(tmp_path / "b", arrays, ".npz"))
    assert again.digest() == rollouts.digest()
    assert "not finite" not in said


def test_simulator_states_are_the_observation_if_chosen(tmp_path):
    path = write_flat(tmp_path / "a", ogbench(RECORDED), ".npz")
    rollouts = read(path, keys=("qpos", "qvel"))[0]
    assert rollouts.digest() == of_steps(RECORDED, rewards=False).digest()
    assert rollouts.info.parts == {"qpos": slice(0, 1), "qvel": slice(1, 2)}


def test_reaching_the_goal_of_a_single_task_ends_no_episode(tmp_path):
    rewards = np.concatenate([e.rewards for e in RECORDED])
    arrays = regular(rewards=rewards, masks=(np.arange(12) % 3 > 0).astype(np.float32))
    rollouts, _ = read(write_flat(tmp_path / "a", arrays, ".npz"))
    assert rollouts.info.format == "ogbench"
    assert rollouts.digest() == of_steps(RECORDED).digest()


def test_images_and_files_without_ends_are_refused(tmp_path):
    images = ogbench(RECORDED) | {"observations": np.zeros((15, 8, 8, 3), np.uint8)}
    with pytest.raises(
        InputError, match=r"observations: expected one vector per row; images are not read, got"
    ):
        ebm.read(write_flat(tmp_path / "a", images, ".npz"))
    endless = ogbench(RECORDED) | {"terminals": np.zeros(15, bool)}
    with pytest.raises(InputError, match="terminals: expected a 1 at the end of each trajectory, got no 1"):
        ebm.read(write_flat(tmp_path / "b", endless, ".npz"))
