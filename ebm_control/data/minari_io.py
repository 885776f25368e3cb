"""Rollout buffers to and from Minari, the offline data format of the Farama Foundation."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import minari
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from minari.data_collector import EpisodeBuffer
from numpy.typing import NDArray

from ebm_control.checks import InputError, require
from ebm_control.data.environments import action_box, make_env, observation_box
from ebm_control.data.periods import observation_periods
from ebm_control.data.rollout_buffer import RolloutBuffer


def to_minari(
    buffer: RolloutBuffer, dataset_id: str, env: str | EnvSpec | gym.Env | None = None, **metadata: Any
) -> minari.MinariDataset:
    """Write the buffer as a local Minari dataset (below `MINARI_DATASETS_PATH`).

    Arrays are stored in the dtype of the environment's spaces where that loses nothing, else in float64, so
    reading them back gives the same figures. Rewards that were not recorded become NaN.

    Args:
        buffer: what to write; at least one episode.
        dataset_id: `(namespace/)(environment/)name-v0`, not in use yet.
        env: environment the data come from, its id or its spec; kept in the dataset, to be recovered from it.
            Of a dictionary of observations the dataset holds `observation` alone. None for unbounded spaces.
        metadata: passed on to `minari.create_dataset_from_buffers`: `author`, `description`, ...

    Raises:
        InputError: an empty buffer, an id that is in use or malformed, or spaces of other dimensions.

    """
    require(buffer.num_episodes > 0, "buffer", given="no episodes", expected="at least one")
    dims = buffer.obs_dim, buffer.act_dim
    if env is None:
        spaces: list[Box] = [Box(-np.inf, np.inf, (dim,), np.float64) for dim in dims]
    else:
        made = make_env(env) if isinstance(env, str | gym.Env) else gym.make(env)
        spaces = [observation_box(made.observation_space), action_box(made.action_space)]
    given = spaces[0].shape[0], spaces[1].shape[0]
    require(given == dims, "env", given=f"dimensions {given}", expected=f"the buffer's, {dims}")
    obs_space = _lossless(spaces[0], buffer.observations)
    act_space = _lossless(spaces[1], buffer.actions)
    episodes = [
        EpisodeBuffer(
            id=i,
            observations=e.observations.astype(obs_space.dtype),
            actions=e.actions.astype(act_space.dtype),
            rewards=np.full(len(e), np.nan) if e.rewards is None else e.rewards,
            terminations=_last(len(e), e.terminated),
            truncations=_last(len(e), not e.terminated),
        )
        for i, e in enumerate(buffer.episodes())
    ]
    try:
        return minari.create_dataset_from_buffers(
            dataset_id, episodes, env=env, observation_space=obs_space, action_space=act_space, **metadata
        )
    except ValueError as error:
        raise InputError(f"dataset_id: expected a new Minari id, got {dataset_id!r} ({error})") from error


def from_minari(dataset: str | minari.MinariDataset, *, download: bool = False) -> RolloutBuffer:
    """Read a Minari dataset into a buffer.

    Of a dictionary of observations the `observation` is read. Rewards that are all NaN count as not recorded.
    An episode whose last observation was left out, as some datasets do, loses its last action.

    Args:
        dataset: the dataset or its id.
        download: fetch it first if it is not there.

    Raises:
        InputError: no such dataset, spaces that are not flat Boxes, or non-finite data, with the episode.

    """
    if isinstance(dataset, str):
        try:
            dataset = minari.load_dataset(dataset, download=download)
        except (FileNotFoundError, ValueError) as error:
            raise InputError(f"dataset: expected a Minari dataset, got {dataset!r} ({error})") from error
    obs_dim = observation_box(dataset.observation_space).shape[0]
    buffer = RolloutBuffer(
        obs_dim, action_box(dataset.action_space).shape[0], periods=_periods(dataset, obs_dim)
    )
    for episode in dataset.iterate_episodes():
        observations = episode.observations
        if isinstance(observations, dict):
            observations = observations["observation"]
        steps = min(len(episode.actions), len(observations) - 1)
        rewards = None if np.isnan(episode.rewards).all() else episode.rewards[:steps]
        terminated = bool(episode.terminations[steps - 1])
        try:
            buffer.add_episode(observations, episode.actions[:steps], rewards, terminated)
        except InputError as error:
            raise InputError(f"dataset, episode {episode.id}: {error}") from error
    return buffer


def _periods(dataset: minari.MinariDataset, obs_dim: int) -> tuple[float, ...]:
    """Periods that the dataset's environment declares, () where it cannot be made here."""
    if dataset.spec.env_spec is None:
        return ()
    try:
        env = dataset.recover_environment()
    except (gym.error.Error, ImportError):
        return ()
    periods = observation_periods(env)
    env.close()
    return periods if len(periods) == obs_dim else ()


def _lossless(space: Box, values: NDArray[np.float64]) -> Box:
    """The space, widened to float64 where its own dtype would round `values`."""
    assert space.dtype is not None
    if np.array_equal(values.astype(space.dtype).astype(np.float64), values):
        return space
    return Box(space.low.astype(np.float64), space.high.astype(np.float64), dtype=np.float64)


def _last(steps: int, value: bool) -> NDArray[np.bool_]:
    """`(steps,)`, False but for the last."""
    flags = np.zeros(steps, dtype=bool)
    flags[-1] = value
    return flags
