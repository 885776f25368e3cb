"""From rows of a file to a `RolloutBuffer`: which transitions have a known next observation, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import require
from ebm_control.data.dataset_info import DatasetInfo
from ebm_control.data.error_lines import prefixed
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.data.sound import add_finite_parts, as_numbers

UNKNOWN = "without a recorded next observation (the last of an episode)"
REPEATED = "at the end of an episode, with the first observation of the following one as next observation"
NOT_FINITE = "with readings that are not finite"
_BLOCK = 65_536  # rows compared at once


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of one episode.

    Args:
        where: place in the file, for messages.
        observations: `(T, obs_dim)`.
        actions: `(T, act_dim)`.
        rewards: `(T,)`, None if they were not recorded.
        last: `(obs_dim,)`, observation after the last action; None if it is not known. Then the last action and its
            reward cannot be used.
        terminated: whether the environment ended the episode after the last action.
        unusable: why `last` is not known.

    """

    where: str
    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[Any] | None
    last: NDArray[Any] | None
    terminated: bool = False
    unusable: str = UNKNOWN


class Gathering:
    """Adds rows to a buffer that is made with the first of them.

    Args:
        path: file, for messages.
        periods: periods of the observation coordinates.

    """

    def __init__(self, path: Path, periods: Sequence[float]) -> None:
        self._path, self._periods = path, periods
        self._buffer: RolloutBuffer | None = None
        self._left_out: Counter[str] = Counter()
        self._rows, self._ends_lost, self._cuts, self._first = 0, 0, 0, ""
        self._rewarded = True

    def add(self, rows: Rows, *, cut: bool = False) -> None:
        """Add the transitions of these rows whose next observation is known.

        Args:
            rows: the rows.
            cut: they begin where the file marks no border, but the observations do not go on.

        """
        with prefixed(rows.where):
            self._add(rows)
        self._cuts += cut

    def _add(self, rows: Rows) -> None:
        observations = as_numbers("observations", rows.observations, (None, None))
        steps = len(observations)
        actions = as_numbers("actions", rows.actions, (steps, None))
        if self._buffer is None:
            self._buffer = RolloutBuffer(observations.shape[1], actions.shape[1], periods=self._periods)
        buffer = self._buffer
        as_numbers("observations", observations, (steps, buffer.obs_dim))
        as_numbers("actions", actions, (steps, buffer.act_dim))
        rewards = None if rows.rewards is None else as_numbers("rewards", rows.rewards, (steps,))
        self._rows += steps
        terminated = rows.terminated
        if rows.last is not None:
            last = as_numbers("next_observations", rows.last, (buffer.obs_dim,))
            observations = np.concatenate([observations, last[None]])
        else:
            self._left_out[rows.unusable] += 1
            self._ends_lost += terminated
            terminated, steps = False, steps - 1
        if steps == 0:
            return
        known = None if rewards is None or np.isnan(rewards[:steps]).all() else rewards[:steps]
        self._rewarded &= known is not None
        lost, first = add_finite_parts(buffer, observations, actions[:steps], known, terminated)
        self._left_out[NOT_FINITE] += lost
        self._first = self._first or (first and f"{first} of {rows.where}")

    def finish(
        self,
        format: str,
        parts: Mapping[str, slice],
        *,
        skipped: Mapping[str, tuple[int, ...]] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> tuple[RolloutBuffer, str]:
        """The buffer with its `DatasetInfo`, and a message about what was left out, "" if nothing was.

        Raises:
            InputError: no transition is left.

        """
        left_out = {reason: count for reason, count in self._left_out.items() if count}
        buffer = self._buffer
        some = buffer is not None and len(buffer) > 0
        why = f" ({self._words(left_out)})" if left_out else ""
        require(some, "path", given=f"{self._path} without any{why}", expected="transitions")
        assert buffer is not None
        buffer.info = DatasetInfo(
            str(self._path), format, dict(parts), self._rewarded, left_out, skipped or {}, metadata or {}
        )
        said = [self._words(left_out)] if left_out else []
        if self._cuts:
            said.append(
                f"{self._cuts} episode borders added where the next observation of a row is not the observation "
                "of the following one"
            )
        if skipped:
            arrays = ", ".join(f"{name} {shape}" for name, shape in skipped.items())
            said.append(f"arrays left out, which are no vectors: {arrays}")
        return buffer, "; ".join(said)

    def _words(self, left_out: Mapping[str, int]) -> str:
        words = []
        for reason, count in left_out.items():
            more = f", the first {self._first}" if reason == NOT_FINITE else ""
            words.append(f"{count} {reason}{more}")
        ends = f", {self._ends_lost} terminations with them" if self._ends_lost else ""
        total = sum(left_out.values())
        return f"{total} of {self._rows} actions left out: {'; '.join(words)}{ends}"


def continues(observations: NDArray[Any], next_observations: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each row's next observation is the observation of the following row, up to rounding: `(T - 1,)`."""
    found = np.ones(max(len(observations) - 1, 0), dtype=bool)
    for start in range(0, len(found), _BLOCK):
        stop = min(start + _BLOCK, len(found))
        before, after = next_observations[start:stop], observations[start + 1 : stop + 1]
        unequal = np.flatnonzero((before != after).any(axis=1))  # few, mostly: the closer look is slow
        one, other = (np.asarray(rows[unequal], dtype=np.float64) for rows in (before, after))
        with np.errstate(invalid="ignore"):  # infinities, which are left out later
            same = np.isclose(one, other, rtol=1e-5, atol=1e-6, equal_nan=True)
        found[start + unequal] = same.all(axis=1)
    return found


def spans(border: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First row and end (exclusive) of each episode, from flags of the last rows; the last episode may be open."""
    ends = (np.flatnonzero(border) + 1).tolist()
    if len(border) and (not ends or ends[-1] < len(border)):
        ends.append(len(border))
    yield from zip([0, *ends[:-1]], ends, strict=True)
