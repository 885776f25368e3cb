"""Small files in the layouts of D4RL, OGBench, robomimic and LeRobot. Each number says whose it is."""

from __future__ import annotations

import json
from dataclasses import dataclass

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ebm_control.data import RolloutBuffer


@dataclass
class Recorded:
    """An episode of T steps: observation `(100 e + t, -t)`, action `100 e + t + 0.5`, reward `e + t / 10`."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray


def episode(number: int, steps: int) -> Recorded:
    t = np.arange(steps + 1)
    observations = np.stack([100.0 * number + t, -1.0 * t], axis=1).astype(np.float32)
    actions = (100.0 * number + t[:-1, None] + 0.5).astype(np.float32)
    return Recorded(observations, actions, (number + t[:-1] / 10).astype(np.float32))


def episodes(*lengths: int) -> list[Recorded]:
    return [episode(i, steps) for i, steps in enumerate(lengths)]


def flat(recorded, terminated=(), timeouts=True, following=True) -> dict[str, np.ndarray]:
    """Arrays as D4RL has them: one row for each action."""
    last = np.concatenate([np.arange(len(e.actions)) == len(e.actions) - 1 for e in recorded])
    ended = np.concatenate([np.full(len(e.actions), i in terminated) for i, e in enumerate(recorded)])
    found = {
        "observations": np.concatenate([e.observations[:-1] for e in recorded]),
        "actions": np.concatenate([e.actions for e in recorded]),
        "rewards": np.concatenate([e.rewards for e in recorded]),
        "terminals": last & ended,
    }
    if following:
        found["next_observations"] = np.concatenate([e.observations[1:] for e in recorded])
    if timeouts:
        found["timeouts"] = last & ~ended
    return found


def write_flat(path, arrays, suffix=".hdf5"):
    """Write arrays, of groups where a name has a "/", as D4RL does."""
    path = path.with_suffix(suffix)
    if suffix == ".npz":
        np.savez(path, **arrays)
        return path
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value
    return path


def ogbench(recorded) -> dict[str, np.ndarray]:
    """Arrays as OGBench's files have them: T + 1 rows for T transitions, the last action (777) leads nowhere."""
    rows = [len(e.observations) for e in recorded]
    return {
        "observations": np.concatenate([e.observations for e in recorded]),
        "actions": np.concatenate([np.append(e.actions, [[777]], axis=0) for e in recorded]).astype("f4"),
        "terminals": np.concatenate([np.arange(n) == n - 1 for n in rows]),
        "qpos": np.concatenate([e.observations[:, :1] for e in recorded]),
        "qvel": np.concatenate([e.observations[:, 1:] for e in recorded]),
    }


def write_robomimic(path, recorded, *, following=True, dones=True, rewards=True, order=None):
    """A file of robomimic: `object` is the second observation, `robot0_eef_pos` the first, and there is an image."""
    path = path.with_suffix(".hdf5")
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"horizon": 9}})
        data.attrs["total"] = sum(len(e.actions) for e in recorded)
        for number in order or range(len(recorded)):
            e = recorded[number]
            steps = len(e.actions)
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = steps
            demo.attrs["model_file"] = "<mujoco/>"
            demo["actions"] = e.actions
            demo["states"] = np.concatenate([e.observations[:-1], e.observations[:-1] ** 2], axis=1)
            if rewards:
                demo["rewards"] = e.rewards
            if dones:
                demo["dones"] = (np.arange(steps) == steps - 1).astype(np.int64)
            parts = [("obs", slice(0, steps))] + [("next_obs", slice(1, None))] * following
            for group, rows in parts:
                demo[f"{group}/robot0_eef_pos"] = e.observations[rows, :1]
                demo[f"{group}/object"] = e.observations[rows, 1:]
                demo[f"{group}/agentview_image"] = np.zeros((steps, 4, 4, 3), np.uint8)
        half = [f"demo_{i}" for i in range(len(recorded))]
        file["mask/train"] = np.array(half[:-1], dtype="S")
        file["mask/valid"] = np.array(half[-1:], dtype="S")
    return path


def lerobot_info(recorded, version="v3.0", **features) -> dict:
    columns = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "codebase_version": version,
        "robot_type": "arm",
        "total_episodes": len(recorded),
        "total_frames": sum(len(e.observations) for e in recorded),
        "fps": 10,
        "splits": {"train": f"0:{len(recorded)}", "first": "0:1"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "features": {
            "observation.state": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
            "observation.images.top": {"dtype": "video", "shape": [4, 4, 3], "names": None},
            "action": {"dtype": "float32", "shape": [1], "names": ["push"]},
            "next.reward": {"dtype": "float32", "shape": [1], "names": None},
            "next.done": {"dtype": "bool", "shape": [1], "names": None},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), columns),
            **features,
        },
    }


def lerobot_table(recorded, numbers=None) -> pa.Table:
    """Rows as LeRobot has them: a frame for each observation; the last action and reward (777) lead nowhere."""
    numbers = range(len(recorded)) if numbers is None else numbers
    frames = np.concatenate([np.arange(len(e.observations)) for e in recorded])
    states = np.concatenate([e.observations for e in recorded])
    return pa.table(
        {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(states.ravel()), 2),
            "action": np.concatenate([np.append(e.actions, np.float32([[777]])) for e in recorded]),
            "next.reward": np.concatenate([np.append(e.rewards, np.float32(777)) for e in recorded]),
            "next.done": np.concatenate([np.arange(len(e.actions) + 1) == len(e.actions) for e in recorded]),
            "timestamp": (frames / 10).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.repeat(list(numbers), [len(e.observations) for e in recorded]),
            "index": np.arange(len(frames)),
            "task_index": np.zeros(len(frames), np.int64),
        }
    )


def write_lerobot(root, recorded, *, rows_per_file=1000, version="v3.0", table=None, info=None):
    """A folder of LeRobot: v3 with `rows_per_file` rows in each file, v2 with one episode in each."""
    table = lerobot_table(recorded) if table is None else table
    lengths = [len(e.observations) for e in recorded]
    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info or lerobot_info(recorded, version)))
    rows = [{"episode_index": i, "tasks": ["push"], "length": n} for i, n in enumerate(lengths)]
    if version.startswith("v2"):
        (root / "meta" / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        cuts = [(f"episode_{i:06d}", starts[i], lengths[i]) for i in range(len(lengths))]
    else:
        folder = root / "meta" / "episodes" / "chunk-000"
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / "file-000.parquet")
        cuts = [
            (f"file-{i:03d}", start, rows_per_file)
            for i, start in enumerate(range(0, table.num_rows, rows_per_file))
        ]
    for name, start, count in cuts:
        pq.write_table(table.slice(start, count), root / "data" / "chunk-000" / f"{name}.parquet")
    return root


def of_steps(recorded, *dropped: int, terminated=(), rewards=True) -> RolloutBuffer:
    """The buffer that a reader has to return, without the last `dropped[e]` steps of each episode."""
    buffer = RolloutBuffer(2, 1)
    for i, e in enumerate(recorded):
        steps = len(e.actions) - (dropped[i] if i < len(dropped) else 0)
        if steps:
            known = e.rewards[:steps] if rewards else None
            buffer.add_episode(e.observations[: steps + 1], e.actions[:steps], known, i in terminated)
    return buffer


def shapes(buffer) -> list[tuple]:
    """First observation, number of steps and end of each episode."""
    return [(e.observations[0].tolist(), len(e), e.terminated) for e in buffer.episodes()]
