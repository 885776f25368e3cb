"""Folders of LeRobot (Cadene et al. 2024), format v3.0 and before it v2.0 and v2.1: parquet."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import InputError, require, shown
from ebm_control.data.readers.gather import Gathering, Rows, spans
from ebm_control.data.readers.parts import columns, flags, one_per_row, side_by_side
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.extras import import_extra

_VERSIONS = ("v2.0", "v2.1", "v3.")
_IMAGES = ("image", "video")


def read_lerobot(
    path: Path, keys: Sequence[str] | None, periods: Sequence[float], split: str | None
) -> tuple[RolloutBuffer, str]:
    """Rollouts from the parquet files below `data`, with rewards from `next.reward`.

    A row holds an observation and the action taken there. No observation follows the last action of an episode, which
    is left out with its reward and with `next.done`: no episode is `terminated`. Numbers of frames are compared with
    those in `meta`, as a folder may have been downloaded in part. Videos are not read.

    Args:
        path: the folder with `meta/info.json`.
        keys: features that make up the observation, in this order. None takes all of `observation.*` that are numbers
            or vectors, in alphabetical order, and leaves out images and videos.
        periods: periods of the observation coordinates.
        split: name of a range of episodes in `meta/info.json`, such as "train"; None for all episodes.

    Returns:
        The rollouts, and a message about what was left out.

    Raises:
        InputError: another version of the format, a feature that is missing, or frames that are missing.
        MissingExtraError: pyarrow is not installed.

    """
    info = _info(path)
    chosen, skipped = _chosen(info["features"], keys)
    rewards = "next.reward" in info["features"]
    done = "next.done" in info["features"]
    optional = [name for name, there in (("next.reward", rewards), ("next.done", done)) if there]
    table = _columns(path, [*chosen, "action", "episode_index", "frame_index", *optional])
    observations, parts = side_by_side({name: table[name] for name in chosen})
    steps = len(observations)
    actions = columns("action", table["action"])
    episodes, frames = (one_per_row(name, table[name], steps) for name in ("episode_index", "frame_index"))
    reward = one_per_row("next.reward", table["next.reward"], steps) if rewards else None
    dones = flags("next.done", table["next.done"], steps) if done else np.zeros(steps, dtype=bool)
    border, marked = np.zeros(steps, dtype=bool), np.zeros(steps, dtype=bool)
    marked[:-1] = episodes[1:] != episodes[:-1]
    border[:-1] = marked[:-1] | (frames[1:] != frames[:-1] + 1)
    wanted = _wanted(path, info, split, episodes)
    gathering = Gathering(path, periods)
    for start, stop in spans(border):
        if int(episodes[start]) in wanted:
            rows = Rows(
                where=f"episode {int(episodes[start])}",
                observations=observations[start:stop],
                actions=actions[start:stop],
                rewards=None if reward is None else reward[start:stop],
                last=None,
                terminated=bool(dones[stop - 1]),
            )
            gathering.add(rows, cut=start > 0 and not marked[start - 1])
    return gathering.finish("lerobot", parts, skipped=skipped, metadata=info)


def _info(path: Path) -> dict[str, Any]:
    """Content of `meta/info.json`."""
    info = json.loads((path / "meta" / "info.json").read_text())
    sound = isinstance(info, dict) and isinstance(info.get("features"), dict)
    require(sound, "meta/info.json", given=shown(info), expected="an object with the features")
    version = str(info.get("codebase_version"))
    known = version.startswith(_VERSIONS)
    expected = "v2.0, v2.1 or v3.x; convert older folders with LeRobot's own scripts"
    require(known, "codebase_version", given=version, expected=expected)
    return dict(info)


def _chosen(
    features: Mapping[str, Any], keys: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Names of the features to read, and those that are left out, with their shapes."""
    images = {name for name, f in features.items() if f.get("dtype") in _IMAGES}
    shapes = {name: tuple(f.get("shape", ())) for name, f in features.items()}
    if keys is not None:
        for name in keys:
            there = ", ".join(name for name in features if name not in images)
            require(name in features, "keys", given=repr(name), expected=f"features among {there}")
            image = name in images
            require(
                not image, "keys", given=f"{name!r}, a video or images", expected=f"vectors among {there}"
            )
        return tuple(keys), {}
    found = sorted(name for name in features if name.startswith("observation."))
    vectors = tuple(name for name in found if name not in images and len(shapes[name]) <= 1)
    expected = "features observation.* that are vectors, or keys="
    require(bool(vectors), "features", given=f"{found} with images or videos alone", expected=expected)
    return vectors, {name: shapes[name] for name in found if name not in vectors}


def _columns(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Columns of all parquet files below `data`, in the order of their numbers."""
    parquet = import_extra("pyarrow.parquet", "lerobot", "LeRobot data sets")
    files = sorted((path / "data").glob("*/*.parquet"), key=_number)
    require(bool(files), "path", given=f"{path} without any", expected="parquet files in data/chunk-000")
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for file in files:
        with parquet.ParquetFile(file) as source:
            there = source.schema_arrow.names
            for name in names:
                given = f"{file.name} without it; there are {', '.join(there)}"
                require(name in there, name, given=given, expected="a column of this name")
            table = source.read(columns=list(names))
        for name in names:
            found[name].append(_values(name, table.column(name)))
    for name, arrays in found.items():
        shapes = {array.shape[1:] for array in arrays}
        require(len(shapes) == 1, name, given=f"shapes {shapes}", expected="the same shape in all files")
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def _values(name: str, column: Any) -> NDArray[Any]:
    """A column of numbers as `(rows,)`, or of lists of equal length as `(rows, length)`."""
    arrow = import_extra("pyarrow", "lerobot", "LeRobot data sets")
    compute = import_extra("pyarrow.compute", "lerobot", "LeRobot data sets")
    require(column.null_count == 0, name, given=f"{column.null_count} rows of null", expected="no null")
    lists = arrow.types.is_list(column.type) or arrow.types.is_large_list(column.type)
    if not lists and not arrow.types.is_fixed_size_list(column.type):
        return np.asarray(column.to_numpy())
    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    require(len(lengths) <= 1, name, given=f"vectors of lengths {lengths[:5]}", expected="one length")
    return np.asarray(compute.list_flatten(column).to_numpy()).reshape(len(column), *lengths)


def _wanted(
    path: Path, info: Mapping[str, Any], split: str | None, episodes: NDArray[np.float64]
) -> set[int]:
    """Numbers of the episodes of a split; all of their frames are there."""
    lengths = _lengths(path)
    wanted = set(lengths)
    if split is not None:
        splits = info.get("splits")
        splits = splits if isinstance(splits, dict) else {}
        known = f"one of {list(splits)}" if splits else "None: meta/info.json has no splits"
        require(split in splits, "split", given=repr(split), expected=known)
        span = re.fullmatch(r"(\d+):(\d+)", str(splits[split]))
        if span is None:
            raise InputError(f"splits: expected first:end for {split!r}, got {splits[split]!r}")
        wanted &= set(range(int(span[1]), int(span[2])))
    numbers, counts = np.unique(episodes, return_counts=True)
    there = {int(number): int(count) for number, count in zip(numbers, counts, strict=True)}
    unknown = sorted(set(there) - set(lengths))
    require(not unknown, "meta/episodes", given=f"nothing on episodes {unknown[:5]}", expected="all of data")
    short = [n for n in sorted(wanted) if there.get(n, 0) != lengths[n]]
    if short:
        raise InputError(
            f"path: expected the {lengths[short[0]]} frames of episode {short[0]} that meta states, got "
            f"{there.get(short[0], 0)} ({len(short)} of {len(wanted)} episodes differ): the folder is damaged, or was "
            "downloaded in part"
        )
    return wanted


def _lengths(path: Path) -> dict[int, int]:
    """Number of frames of each episode, from `meta/episodes`."""
    files = sorted((path / "meta" / "episodes").glob("*/*.parquet"), key=_number)
    if files:
        parquet = import_extra("pyarrow.parquet", "lerobot", "LeRobot data sets")
        rows = []
        for file in files:
            with parquet.ParquetFile(file) as source:
                rows += source.read(columns=["episode_index", "length"]).to_pylist()
    else:
        lines = path / "meta" / "episodes.jsonl"  # v2
        expected = "meta/episodes/*/*.parquet or meta/episodes.jsonl"
        require(lines.is_file(), "path", given=f"{path} without either", expected=expected)
        rows = [json.loads(line) for line in lines.read_text().splitlines() if line.strip()]
    return {int(row["episode_index"]): int(row["length"]) for row in rows}


def _number(path: Path) -> tuple[list[int], str]:
    """Numbers in the names of a file and its folder, then the name."""
    name = f"{path.parent.name}/{path.name}"
    return [int(digits) for digits in re.findall(r"\d+", name)], name
