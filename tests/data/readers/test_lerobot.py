"""LeRobot's layouts v3.0 and v2.1: episodes over several files, features by name, frames that are missing.

Checked once against lerobot 0.4.4 (pyarrow 26.0.1): folders that its `LeRobotDataset.create`, `add_frame` and
`save_episode` wrote, with one file and with one file for each episode, are read as those here. For that check
torchvision, which only images need, was an empty module, and torch 2.13 newer than lerobot allows. The layouts of v2
were not checked so.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ebm_control as ebm
from ebm_control.checks import InputError
from tests.data.readers.samples import (
    episodes,
    lerobot_info,
    lerobot_table,
    of_steps,
    shapes,
    write_lerobot,
)
from tests.data.readers.test_d4rl import read

RECORDED = episodes(4, 1, 7)


@pytest.mark.parametrize("rows_per_file", [1000, 3, 1])
def test_episodes_are_read_whole_over_however_many_files(tmp_path, rows_per_file):
    rollouts, said = read(write_lerobot(tmp_path / "a", RECORDED, rows_per_file=rows_per_file))
    assert rollouts.info.format == "lerobot"
    assert rollouts.digest() == of_steps(RECORDED).digest()
    assert "3 of 15 actions left out: 3 without a recorded next observation" in said
    assert "3 terminations with them" in said
    assert rollouts.info.skipped == {"observation.images.top": (4, 4, 3)}
    assert rollouts.info.metadata["fps"] == 10


def test_files_are_in_the_order_of_chunks_then_numbers(tmp_path):
    root = write_lerobot(tmp_path / "a", RECORDED, rows_per_file=3)
    data = root / "data"
    for number, place in ((2, "chunk-001/file-000"), (3, "chunk-001/file-001"), (4, "chunk-002/file-000")):
        (data / place).parent.mkdir(exist_ok=True)
        (data / "chunk-000" / f"file-{number:03d}.parquet").rename(data / f"{place}.parquet")
    assert read(root)[0].digest() == of_steps(RECORDED).digest()


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_the_layout_before_is_read_too(tmp_path, version):
    rollouts, _ = read(write_lerobot(tmp_path / "a", RECORDED, version=version))
    assert rollouts.digest() == of_steps(RECORDED).digest()


def test_other_versions_are_refused_by_name(tmp_path):
    info = lerobot_info(RECORDED, "v1.6")
    with pytest.raises(
        InputError, match=r"codebase_version: expected v2\.0, v2\.1 or v3\.x; convert .* got v1\.6"
    ):
        ebm.read(write_lerobot(tmp_path / "a", RECORDED, info=info))


def with_object(recorded):
    table = lerobot_table(recorded)
    height = np.arange(table.num_rows, dtype=np.float32)
    table = table.append_column("observation.environment_state", pa.array(height))
    extra = {"observation.environment_state": {"dtype": "float32", "shape": [1], "names": ["z"]}}
    return table, lerobot_info(recorded, **extra)


def test_all_vectors_of_the_observation_are_taken_or_those_chosen(tmp_path):
    table, info = with_object(RECORDED)
    root = write_lerobot(tmp_path / "a", RECORDED, table=table, info=info)
    rollouts, _ = read(root)
    assert rollouts.info.parts == {
        "observation.environment_state": slice(0, 1), "observation.state": slice(1, 3),
    }  # fmt: skip
    chosen, _ = read(root, keys=("observation.state",))
    assert chosen.digest() == of_steps(RECORDED).digest()
    with pytest.raises(
        InputError, match=r"keys: expected vectors among .*, got 'observation.images.top', a video"
    ):
        ebm.read(root, keys=("observation.images.top",))
    with pytest.raises(InputError, match=r"keys: expected features among .*observation.state.*, got 'state'"):
        ebm.read(root, keys=("state",))


def test_splits_are_ranges_of_episodes(tmp_path):
    root = write_lerobot(tmp_path / "a", RECORDED)
    assert shapes(read(root, split="first")[0]) == [([0, 0], 4, False)]
    assert len(read(root, split="train")[0]) == 12
    with pytest.raises(InputError, match=r"split: expected one of \['train', 'first'\], got 'valid'"):
        ebm.read(root, split="valid")


def test_a_folder_that_was_downloaded_in_part_is_refused_unless_the_split_is_there(tmp_path):
    root = write_lerobot(tmp_path / "a", RECORDED, rows_per_file=5)
    (root / "data" / "chunk-000" / "file-002.parquet").unlink()
    with pytest.raises(
        InputError, match=r"expected the 8 frames of episode 2 that meta states, got 3 \(1 of 3"
    ):
        ebm.read(root)
    assert len(read(root, split="first")[0]) == 4


def test_a_missing_frame_cuts_the_episode(tmp_path):
    table = lerobot_table(RECORDED)
    table = table.filter(pa.array(np.arange(15) != 10))  # frame 3 of episode 2
    root = write_lerobot(tmp_path / "a", RECORDED, table=table)
    episodes_of_meta = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    rows = [{"episode_index": i, "length": n} for i, n in enumerate((5, 2, 7))]
    pq.write_table(pa.Table.from_pylist(rows), episodes_of_meta)
    rollouts, said = read(root)
    assert [len(e) for e in rollouts.episodes()] == [4, 1, 2, 3]
    assert "1 episode borders added" in said


def test_without_rewards_none_are_made_up(tmp_path):
    info = lerobot_info(RECORDED)
    del info["features"]["next.reward"], info["features"]["next.done"]
    table = lerobot_table(RECORDED).drop_columns(["next.reward", "next.done"])
    rollouts, said = read(write_lerobot(tmp_path / "a", RECORDED, table=table, info=info))
    assert rollouts.digest() == of_steps(RECORDED, rewards=False).digest()
    assert "terminations" not in said


def ragged(table):
    lists = table.column("observation.state").to_pylist()
    lists[4] = [0.0]
    column = pa.array(lists, pa.list_(pa.float32()))
    return table.set_column(0, "observation.state", column)


def nulls(table):
    actions = table.column("action").to_pylist()
    return table.set_column(1, "action", pa.array([None, *actions[1:]], pa.float32()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (ragged, r"observation.state: expected one length, got vectors of lengths \[2, 1\]"),
        (nulls, "action: expected no null, got 1 rows of null"),
        (lambda table: table.drop_columns(["action"]), "action: expected a column of this name"),
        (lambda table: table.drop_columns(["frame_index"]), "frame_index: expected a column of this name"),
    ],
)
def test_columns_that_do_not_fit_are_refused_by_name(tmp_path, change, words):
    root = write_lerobot(tmp_path / "a", RECORDED, table=change(lerobot_table(RECORDED)))
    with pytest.raises(InputError, match=words):
        ebm.read(root)


def test_lists_of_any_arrow_type_are_vectors(tmp_path):
    table = lerobot_table(RECORDED)
    for i, kind in enumerate((pa.list_(pa.float64()), pa.large_list(pa.float32()))):
        column = pa.array(table.column("observation.state").to_pylist(), kind)
        root = write_lerobot(
            tmp_path / f"a{i}", RECORDED, table=table.set_column(0, "observation.state", column)
        )
        assert read(root)[0].digest() == of_steps(RECORDED).digest()


def test_damaged_metadata_and_data_are_refused_in_one_line(tmp_path):
    root = write_lerobot(tmp_path / "a", RECORDED)
    file = root / "data" / "chunk-000" / "file-000.parquet"
    whole = file.read_bytes()
    for damaged in (whole[:100], b"", whole[:-8] + b"\x00" * 8):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"^path: expected whole rollouts of lerobot") as caught:
            ebm.read(root)
        assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(InputError, match="expected parquet files in data/chunk-000"):
        ebm.read(root)
    for text in ("{", "[]", json.dumps({"features": []})):
        (root / "meta" / "info.json").write_text(text)
        with pytest.raises(InputError, match=r"(as|of) lerobot"):
            ebm.read(root)
