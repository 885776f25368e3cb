"""Flat arrays of transitions, one row after another, with flags for the ends of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import require
from ebm_control.data.readers.arrays import Arrays, require_name
from ebm_control.data.readers.gather import REPEATED, UNKNOWN, Gathering, Rows, continues, spans
from ebm_control.data.readers.parts import columns, one_per_row, side_by_side


@dataclass(frozen=True)
class Flat:
    """Arrays of `N` rows.

    Args:
        observations: `(N, obs_dim)`, the chosen arrays side by side.
        parts: columns of each chosen array.
        next_observations: `(N, obs_dim)`, None unless the file has them for all chosen arrays.
        actions: `(N, act_dim)`.
        rewards: `(N,)`, None without.
        goes_on: `(N - 1,)`, whether row t + 1 begins where row t ends, by `next_observations`; None without.

    """

    observations: NDArray[Any]
    parts: dict[str, slice]
    next_observations: NDArray[Any] | None
    actions: NDArray[Any]
    rewards: NDArray[Any] | None
    goes_on: NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.observations)

    def add_to(
        self, gathering: Gathering, ends: NDArray[np.bool_], terminals: NDArray[np.bool_], limit: int | None
    ) -> None:
        """Cut the rows into episodes and add each.

        An episode ends at each row of `ends`, wherever the observations do not go on, and after `limit` rows.

        Args:
            gathering: takes the episodes.
            ends: `(N,)`, rows that the file marks as the last of an episode.
            terminals: `(N,)`, rows after which the environment ended the episode.
            limit: greatest number of rows in an episode, None for any.

        """
        jumps, repeated = np.zeros_like(ends), np.zeros_like(ends)
        if self.goes_on is not None:
            jumps[:-1] = ~self.goes_on
            # Files made by shifting the observations have the next episode's first one here.
            repeated[:-1] = ends[:-1] & self.goes_on
        border = ends | jumps
        if limit is not None:
            for start, stop in list(spans(border)):
                border[start + limit - 1 : stop : limit] = True
        for start, stop in spans(border):
            end, rewards, after = stop - 1, self.rewards, self.next_observations
            rows = Rows(
                where=f"rows {start} to {end}",
                observations=self.observations[start:stop],
                actions=self.actions[start:stop],
                rewards=None if rewards is None else rewards[start:stop],
                last=None if after is None or repeated[end] else after[end],
                terminated=bool(terminals[end]),
                unusable=REPEATED if repeated[end] and after is not None else UNKNOWN,
            )
            gathering.add(rows, cut=start > 0 and bool(jumps[start - 1] and not ends[start - 1]))


def read_flat(arrays: Arrays, keys: Sequence[str] | None) -> Flat:
    """Arrays of a file, checked for their shapes.

    Args:
        arrays: the file.
        keys: arrays that make up the observation; None for `observations`.

    Raises:
        InputError: an array is missing, has another number of rows than the observations, or is no vector per row.

    """
    chosen = keys or ("observations",)
    for name in (*chosen, "actions"):
        require_name(arrays, name)
    array = cache(arrays.array)
    observations, parts = side_by_side({name: array(name) for name in chosen})
    rows = len(observations)
    require(rows > 0, chosen[0], given="no rows", expected="at least one")
    actions = columns("actions", array("actions"))
    following = {name: f"next_{name}" for name in chosen}
    after = None
    if all(arrays.has(name) for name in following.values()):
        after = side_by_side({name: array(name) for name in following.values()})[0]
    goes_on = None
    if arrays.has("next_observations") and arrays.has("observations"):
        pair = [columns(name, array(name)) for name in ("observations", "next_observations")]
        given = f"shape {pair[1].shape}"
        require(pair[0].shape == pair[1].shape, "next_observations", given=given, expected=str(pair[0].shape))
        _require_rows("observations", len(pair[0]), rows, chosen[0])
        goes_on = continues(*pair)
    for name, value in (("actions", actions), (f"next_{chosen[0]}", after)):
        if value is not None:
            _require_rows(name, len(value), rows, chosen[0])
    rewards = one_per_row("rewards", array("rewards"), rows) if arrays.has("rewards") else None
    return Flat(observations, parts, after, actions, rewards, goes_on)


def _require_rows(name: str, given: int, rows: int, like: str) -> None:
    require(given == rows, name, given=f"{given} rows", expected=f"{rows} rows, as many as {like}")
