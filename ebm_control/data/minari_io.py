"""Rollout buffers to and from Minari, the offline data format of the Farama Foundation."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from numpy.typing import NDArray

from ebm_control.checks import InputError, require
from ebm_control.data.environments import action_box, make_env, observation_box
from ebm_control.data.error_lines import one_line, prefixed, said
from ebm_control.data.periods import observation_periods
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.data.sound import add_finite_parts, as_numbers, warn_left_out
from ebm_control.extras import ExtraModule

if TYPE_CHECKING:
    import minari
    from minari import data_collector, storage
    from minari.dataset import minari_dataset, minari_storage
else:
    minari, data_collector, storage, minari_dataset, minari_storage = (
        ExtraModule(f"minari{module}", extra="minari", purpose="Minari datasets")
        for module in (
            "",
            ".data_collector",
            ".storage",
            ".dataset.minari_dataset",
            ".dataset.minari_storage",
        )
    )

Arrays = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
_OURS = "ebm_control"  # metadata entry with the checksum


def to_minari(
    buffer: RolloutBuffer, dataset_id: str, env: str | EnvSpec | gym.Env | None = None, **metadata: Any
) -> minari.MinariDataset:
    """Write the buffer as a local Minari dataset (below `MINARI_DATASETS_PATH`), completely or not at all.

    Arrays keep the dtype of the environment's spaces if that loses nothing, else float64. Rewards that were not
    recorded become NaN. The metadata contains a checksum of the data. The dataset is written to a folder
    `unfinished-...` and moved when complete; a killed process may leave that folder, which can be deleted.

    Args:
        buffer: rollouts to write; at least one episode.
        dataset_id: `(namespace/)(environment/)name-v0`, not in use yet.
        env: environment of the data, its id or its spec; stored in the dataset so that it can be recovered.
            For dictionary observations only `observation` is stored. None for unbounded spaces.
            For a spec that JSON cannot represent (a class or function as entry point, arrays as arguments) only the
            id and the step limit are stored: enough for `from_minari`, but not for `recover_environment`.
        metadata: arguments of `minari.create_dataset_from_buffers`: `author`, `description`, ...

    Raises:
        InputError: an empty buffer, an id that is in use or malformed, spaces of other dimensions, metadata that
            Minari refuses, or a format whose package is missing. Nothing is written.
        OSError: the dataset could not be written. No part of it remains.

    """
    require(buffer.num_episodes > 0, "buffer", given="no episodes", expected="at least one")
    _require_id("dataset_id", dataset_id)
    _require_free(dataset_id)
    dims = buffer.obs_dim, buffer.act_dim
    spaces, spec = _described(env, dims)
    obs_space = _lossless(spaces[0], buffer.observations)
    act_space = _lossless(spaces[1], buffer.actions)
    episodes = [
        data_collector.EpisodeBuffer(
            id=i,
            observations=e.observations.astype(obs_space.dtype),
            actions=e.actions.astype(act_space.dtype),
            rewards=np.full(len(e), np.nan) if e.rewards is None else e.rewards,
            terminations=_last(len(e), e.terminated),
            truncations=_last(len(e), not e.terminated),
        )
        for i, e in enumerate(buffer.episodes())
    ]
    given = {"observation_space": obs_space, "action_space": act_space, **metadata}
    if spec is not None:
        # Minari would make an environment again from its id or spec; of an existing one it only reads the spec.
        given["env"] = gym.Env()
        given["env"].spec = spec
    _write(dataset_id, episodes, given)
    return minari.load_dataset(dataset_id)


def from_minari(
    dataset: str | minari.MinariDataset, *, download: bool = False, periods: Sequence[float] | None = None
) -> RolloutBuffer:
    """Read a Minari dataset into a buffer.

    For dictionary observations `observation` is read. Rewards that are all NaN count as not recorded.
    Some datasets omit an episode's last observation; its last action is then dropped. A transition with a value
    that is not finite is left out and its episode cut there, with one warning for the dataset.

    Nothing that the dataset names is imported or made. The one exception is the id of an environment that is
    registered here: that environment is made, as registered here, to read its periods.

    The counts in the metadata must match the data; data that `to_minari` wrote must match its checksum.

    Args:
        dataset: the dataset or its id.
        download: fetch the dataset first if it is not stored locally.
        periods: period of each observation coordinate, 0 if it is not periodic; () for none. None takes those that
            the environment registered here under the dataset's environment id declares, or () if there is no such
            environment, it cannot be made or it declares none.

    Raises:
        InputError: no such dataset, a malformed id, a damaged dataset, spaces that are missing or not flat Boxes,
            or data without a finite transition.

    """
    name = dataset if isinstance(dataset, str) else getattr(dataset, "id", dataset)
    with one_line(f"dataset: expected a whole Minari dataset, got {name!r}"):
        source = _opened(dataset, download)
        with prefixed(f"dataset {name!r}"):
            observations = observation_box(source.storage.observation_space)
            actions = action_box(source.storage.action_space)
        dims = observations.shape[0], actions.shape[0]
        if periods is None:
            periods = _registered_periods(source.metadata, dims[0])
    buffer = RolloutBuffer(*dims, periods=periods)
    with one_line(f"dataset: expected a whole Minari dataset, got {name!r}"):
        _read(source, buffer, f"dataset {name!r}")
    require(len(buffer) > 0, "dataset", given=f"{name!r} without any", expected="finite transitions")
    return buffer


@dataclass(frozen=True)
class _Source:
    """The source of a dataset's episodes, and the number of steps that its metadata state."""

    storage: minari_storage.MinariStorage
    metadata: dict[str, Any]
    indices: Sequence[int]
    steps: int


def _opened(dataset: str | minari.MinariDataset, download: bool) -> _Source:
    """Checked source of a dataset; makes no environment from its metadata."""
    if isinstance(dataset, minari.MinariDataset):
        metadata = minari_storage.MinariStorage.read_raw_metadata(dataset.storage.data_path)
        indices = [int(i) for i in dataset.episode_indices]
        return _Source(dataset.storage, metadata, indices, dataset.total_steps)
    require(isinstance(dataset, str), "dataset", given=repr(dataset), expected="a Minari dataset or its id")
    _require_id("dataset", dataset)
    folder = storage.get_dataset_path(dataset) / "data"
    if download and not folder.exists():
        minari.download_dataset(dataset)
    require(folder.is_dir(), "dataset", given=repr(dataset), expected=f"a Minari dataset in {folder.parent}")
    metadata = minari_storage.MinariStorage.read_raw_metadata(folder)
    # If spaces are missing, Minari would make the environment from any entry point the metadata name.
    for key in ("observation_space", "action_space"):
        known = isinstance(metadata.get(key), str)
        require(known, "dataset", given=f"{dataset!r} without {key}", expected="both spaces in its metadata")
    version, versions = metadata.get("minari_version"), minari.supported_dataset_versions
    newest = max(versions, key=lambda v: [int(part) for part in v.split(".")])
    expected = f"a Minari version that the one installed reads, up to {newest}"
    require(version in versions, "dataset", given=f"{dataset!r} of {version}", expected=expected)
    counts = [metadata.get(key) for key in ("total_episodes", "total_steps")]
    fits = all(type(count) is int and count >= 1 for count in counts)
    given = f"{dataset!r} of {counts[0]} episodes, {counts[1]} steps"
    require(fits, "dataset", given=given, expected="at least one episode and one step")
    return _Source(minari_storage.MinariStorage.read(folder), metadata, range(counts[0]), counts[1])


def _read(source: _Source, buffer: RolloutBuffer, where: str) -> None:
    """Read all episodes of the source into the buffer and check them."""
    steps, left_out, first = 0, 0, ""
    digest = _Digest(source.metadata)
    for number, episode in enumerate(source.storage.get_episodes(source.indices)):
        with prefixed(f"{where}, episode {source.indices[number]}"):
            observations, actions, rewards, ends = _arrays(episode, buffer)
            digest.add(observations, actions, rewards, ends)
            steps += len(actions)
            usable = min(len(actions), len(observations) - 1)
            if usable == 0:
                continue
            known = None if np.isnan(rewards).all() else rewards[:usable]
            lost, reading = add_finite_parts(
                buffer, observations, actions[:usable], known, bool(ends[usable - 1])
            )
        left_out += lost
        first = first or (reading and f"{reading} of episode {source.indices[number]}")
    require(
        steps == source.steps,
        "dataset",
        given=f"{steps} steps in {where}",
        expected=f"the {source.steps} of its metadata",
    )
    recorded = source.metadata.get(_OURS)
    whole = list(source.indices) == list(range(source.metadata.get("total_episodes", -1)))
    # Steps that Minari added later are not part of the checksum.
    if isinstance(recorded, dict) and whole and recorded.get("total_steps") == steps:
        same = recorded.get("sha256") == digest.hex()
        require(same, "dataset", given=f"{where} with another", expected="the checksum it was written with")
    if left_out:
        warn_left_out(where, left_out, first)


def _arrays(episode: Mapping[str, Any], buffer: RolloutBuffer) -> Arrays:
    """Observations `(T + 1, obs_dim)` or `(T, obs_dim)`, actions `(T, act_dim)`, rewards and ends `(T,)`."""
    rewards = as_numbers("rewards", episode["rewards"], (None,))
    steps = len(rewards)
    ends = as_numbers("terminations", episode["terminations"], (steps,))
    as_numbers("truncations", episode["truncations"], (steps,))
    actions = as_numbers("actions", episode["actions"], (steps, buffer.act_dim))
    observations = episode["observations"]
    if isinstance(observations, dict):
        observations = observations["observation"]
    observations = as_numbers("observations", observations, (None, buffer.obs_dim))
    fits = len(observations) in (steps, steps + 1)
    require(fits, "observations", given=f"{len(observations)} rows", expected=f"{steps + 1}, or {steps}")
    return observations, actions, rewards, ends


class _Digest:
    """SHA-256 of the contents of a dataset: its spaces, its environment's spec and its episodes."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._hash = hashlib.sha256()
        for key in ("observation_space", "action_space", "env_spec"):
            self._hash.update(f"{key} {metadata.get(key)}\n".encode())

    def add(self, *arrays: Any) -> None:
        """Add an episode's arrays, as float64 whatever the format stores."""
        for array in arrays:
            values = np.ascontiguousarray(array, dtype=np.float64)
            self._hash.update(f"{values.shape}".encode())
            self._hash.update(values.data)

    def hex(self) -> str:
        return self._hash.hexdigest()


def _registered_periods(metadata: Mapping[str, Any], obs_dim: int) -> tuple[float, ...]:
    """Periods declared by the environment that is registered here under the dataset's environment id."""
    try:
        name = json.loads(metadata["env_spec"])["id"]
        # Use the registry's spec, never the name alone: Gymnasium imports the part before a colon in a name.
        env = gym.make(gym.registry[name])
        try:
            periods = observation_periods(env)
        finally:
            env.close()
    except Exception:  # an environment may raise anything, and the data do not need it
        return ()
    return periods if len(periods) == obs_dim else ()


def _described(
    env: str | EnvSpec | gym.Env | None, dims: tuple[int, int]
) -> tuple[tuple[Box, Box], EnvSpec | None]:
    """Spaces of observations and actions, and the spec to be stored."""
    if env is None:
        observations, actions = (Box(-np.inf, np.inf, (dim,), np.float64) for dim in dims)
        return (observations, actions), None
    made = gym.make(env) if isinstance(env, EnvSpec) else make_env(env)
    try:
        spaces = observation_box(made.observation_space), action_box(made.action_space)
        spec = env if isinstance(env, EnvSpec) else gym.spec(env) if isinstance(env, str) else made.spec
    finally:
        if made is not env:
            made.close()
    given = spaces[0].shape[0], spaces[1].shape[0]
    require(given == dims, "env", given=f"dimensions {given}", expected=f"the buffer's, {dims}")
    if spec is None:
        return spaces, None
    try:
        spec.to_json()
    except (TypeError, ValueError):
        spec = EnvSpec(spec.id, max_episode_steps=spec.max_episode_steps)
    return spaces, spec


def _write(dataset_id: str, episodes: list[data_collector.EpisodeBuffer], given: dict[str, Any]) -> None:
    """Write the dataset next to the others and move it to its place in one step."""
    root, aside = storage.get_dataset_path(), f"unfinished-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        _require_room(root / aside, episodes)
        try:
            minari.create_dataset_from_buffers(f"{aside}/{dataset_id}", episodes, **given)
        except (TypeError, ValueError, AssertionError, ImportError, NotImplementedError) as error:
            raise InputError(
                f"metadata: expected what minari.create_dataset_from_buffers takes, got {said(error)}"
            ) from error
        file = root / aside / dataset_id / "data" / minari_storage.METADATA_FILE_NAME
        metadata = json.loads(file.read_text())
        digest = _Digest(metadata)
        for e in episodes:
            digest.add(e.observations, e.actions, e.rewards, e.terminations)
        digest_of = {"total_steps": metadata["total_steps"], "sha256": digest.hex()}
        file.write_text(json.dumps({**metadata, "dataset_id": dataset_id, _OURS: digest_of}))
        free = (path for path in _path_down(dataset_id) if not (root / path).exists())
        place = next(free, Path(dataset_id))
        (root / aside / place).rename(root / place)
    finally:
        shutil.rmtree(root / aside, ignore_errors=True)


def _require_room(folder: Path, episodes: list[data_collector.EpisodeBuffer]) -> None:
    """Raise `OSError` if the disk, a quota or a limit has no room: the HDF5 library crashes if a write fails."""
    arrays = ("observations", "actions", "rewards", "terminations", "truncations")
    values = sum(np.asarray(getattr(e, name)).nbytes for e in episodes for name in arrays)
    # Measured: up to 6 % for the tree of chunks, and 17 kB per episode for groups and attributes.
    needed = int(1.1 * values) + 20_000 * (len(episodes) + 1)
    folder.mkdir()
    if hasattr(os, "posix_fallocate"):
        file = folder / "room"
        with file.open("wb") as handle:
            os.posix_fallocate(handle.fileno(), 0, needed)
        file.unlink()


def _require_id(argument: str, dataset_id: object) -> None:
    """Raise `InputError` unless the id is a valid Minari id that stays within the folder of datasets."""
    sound = isinstance(dataset_id, str)
    parse = minari_dataset.parse_dataset_id
    if isinstance(dataset_id, str):
        try:
            parse(dataset_id)  # only letters, digits, "_", "-" and "/": no dots, no backslashes
        except (ValueError, TypeError):
            sound = False
        # Minari treats any folder that contains a "data" folder as a dataset.
        sound = sound and all(part not in ("", "data") for part in dataset_id.split("/"))
    require(
        sound,
        argument,
        given=repr(dataset_id),
        expected="a Minari id, (namespace/)name-v0, of letters, digits, '-' and '_', the namespace of two or more",
    )


def _require_free(dataset_id: str) -> None:
    """Raise `InputError` if the id is in use, or lies within another dataset."""
    root = storage.get_dataset_path()
    *above, place = _path_down(dataset_id)
    inside = next((path for path in above if (root / path / "data").exists()), None)
    require(
        inside is None, "dataset_id", given=f"{dataset_id!r}, within {inside}", expected="an id of its own"
    )
    require(not (root / place).exists(), "dataset_id", given=f"{dataset_id!r}, in use", expected="a new id")


def _path_down(dataset_id: str) -> Iterable[Path]:
    """Folders from the first part of the id to the dataset itself."""
    parts = dataset_id.split("/")
    return [Path(*parts[: i + 1]) for i in range(len(parts))]


def _lossless(space: Box, values: NDArray[np.float64]) -> Box:
    """The space, widened to float64 if its own dtype would round `values`."""
    assert space.dtype is not None
    if np.array_equal(values.astype(space.dtype).astype(np.float64), values):
        return space
    return Box(space.low.astype(np.float64), space.high.astype(np.float64), dtype=np.float64)


def _last(steps: int, value: bool) -> NDArray[np.bool_]:
    """`(steps,)`, False except for the last entry."""
    flags = np.zeros(steps, dtype=bool)
    flags[-1] = value
    return flags
