"""What was executed: data to learn from, and a share that is kept to judge by."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import require
from ebm_control.data import Episode, Normalizer, RolloutBuffer
from ebm_control.data.outliers import outlying
from ebm_control.data.sound import add_finite_parts

Array = NDArray[np.float64]
HELD_OUT = 20  # one stretch in so many is held out
LONGEST = 25  # steps of a stretch
_PARTS = ("data", "held")


class Parts(NamedTuple):
    """Where stretches go.

    Attributes:
        data: to learn from.
        held: to judge by.
        stretches: taken in so far, also those that have been forgotten.

    """

    data: RolloutBuffer
    held: RolloutBuffer
    stretches: int = 0

    def save(self, folder: Path) -> None:
        """Write `data.npz` and `held.npz`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _PARTS:
            getattr(self, name).save(folder / f"{name}.npz")

    def digest(self) -> str:
        """Of both parts: equal where their data are."""
        return f"{self.data.digest()}-{self.held.digest()}"

    @classmethod
    def load(cls, folder: Path) -> Parts:
        """Read what `save` wrote; what was forgotten is not counted any more."""
        data, held = (RolloutBuffer.load(folder / f"{name}.npz") for name in _PARTS)
        return cls(data, held, data.num_episodes + held.num_episodes)


class Experience:
    """Stretches of episodes from environments side by side, in the order in which they were executed.

    An episode is handed over in stretches, whenever something is to be learned from it, and need not have ended.

    Args:
        obs_dim: observation coordinates.
        act_dim: action coordinates.
        periods: see `RolloutBuffer`.
        environments: side by side.
        memory: transitions kept in `data`, the last ones, at least 25; None for all.

    Attributes:
        data: stretches to learn from.
        held: the others, one in 20.

    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        periods: tuple[float, ...],
        environments: int,
        memory: int | None = None,
    ) -> None:
        require(environments >= 1, "environments", given=environments, expected="at least 1")
        require(
            memory is None or memory >= LONGEST,
            "memory",
            given=memory,
            expected=f"None or at least {LONGEST}, the longest stretch",
        )
        self.obs_dim, self.act_dim, self.periods, self.memory = obs_dim, act_dim, periods, memory
        self.data, self.held, self._stretches = self._empty()
        self._pending: list[Episode] = []
        self._observations: list[list[Array]] = [[] for _ in range(environments)]
        self._actions: list[list[Array]] = [[] for _ in range(environments)]
        self._rewards: list[list[float]] = [[] for _ in range(environments)]
        self._returns = np.zeros(environments)
        self._last = np.zeros(environments)

    def begin(self, which: NDArray[np.bool_], observations: Array) -> None:
        """New episodes of the environments `which` `(N,)`, at their rows of `observations` `(N, obs_dim)`."""
        for i in np.flatnonzero(which).tolist():
            self._hand_over(i, terminated=False)
            self._observations[i] = [np.array(observations[i], np.float64)]
        self._returns[which] = 0.0

    def add(
        self,
        observations: Array,
        actions: Array,
        rewards: Array,
        finite: NDArray[np.bool_] | None = None,
    ) -> None:
        """One step of every environment: where it led, what was done, what it gave.

        Where `finite` `(N,)` is False the step is left out, and its episode has to end there.
        """
        finite = np.ones(len(self._observations), dtype=bool) if finite is None else finite
        rewards = np.where(finite, rewards, 0.0)
        for i in np.flatnonzero(finite).tolist():
            self._observations[i].append(np.array(observations[i], np.float64))
            self._actions[i].append(np.array(actions[i], np.float64))
            self._rewards[i].append(float(rewards[i]))
        self._returns += rewards
        self._last = np.array(rewards, np.float64)

    def end(self, which: NDArray[np.bool_], terminated: NDArray[np.bool_]) -> list[tuple[float, float]]:
        """Close episodes; gives the return and the last reward of each."""
        ended = np.flatnonzero(which).tolist()
        for i in ended:
            self._hand_over(i, bool(terminated[i]))
        return [(float(self._returns[i]), float(self._last[i])) for i in ended]

    def flush(self) -> None:
        """Cut off what was executed so far; episodes go on."""
        for i in range(len(self._observations)):
            self._hand_over(i, terminated=False)

    def pending(self, normalizer: Normalizer) -> Tensor:
        """Transitions that were cut off but not yet taken in, `(M, 2, D)` in the normaliser's units."""
        parts = [
            _windows(e.observations[:-1], e.actions, e.observations[1:], normalizer) for e in self._pending
        ]
        return torch.cat(parts) if parts else torch.empty(0)

    def take_in(self) -> None:
        """Add what is pending to `data`, and one stretch in 20 to `held`."""
        for episode, wild in zip(self._pending, self._outlying(), strict=True):
            # The second stretch of all is held out: there is something to judge by from the first round on.
            part = self.held if self._stretches % HELD_OUT == 1 else self.data
            self._stretches += 1
            seen = np.where(wild[:, None], np.nan, episode.observations)
            add_finite_parts(part, seen, episode.actions, episode.rewards, episode.terminated)
        self._pending = []

    def _outlying(self) -> list[NDArray[np.bool_]]:
        """Rows of each pending stretch that lie far outside of all data; a warning says so where there are any."""
        if not self._pending:
            return []
        before, fresh = self.data.observations, [episode.observations for episode in self._pending]
        counts = [len(before), *(len(part) for part in fresh)]
        # Rows of different stretches of `data` count as neighbours: their steps only make the rule more lenient.
        number = np.repeat(np.arange(len(counts)), counts)
        wild = outlying(np.concatenate([before, *fresh]), number, self.periods)[len(before) :].any(axis=1)
        if wild.any():
            warnings.warn(
                f"online: {int(wild.sum())} readings far outside of all others left out, with the transitions that "
                "hold them",
                stacklevel=3,
            )
        return np.split(wild, np.cumsum(counts[1:])[:-1])

    def parts(self) -> Parts:
        """What was taken in so far."""
        return Parts(self.data, self.held, self._stretches)

    def exchange(self, parts: Parts | None = None) -> Parts:
        """Put other `data` and `held` in their place, empty ones by default, and hand back those there were."""
        before = Parts(self.data, self.held, self._stretches)
        self.data, self.held, self._stretches = self._empty() if parts is None else parts
        return before

    def _empty(self) -> Parts:
        held = None if self.memory is None else max(LONGEST, self.memory // HELD_OUT)
        return Parts(
            RolloutBuffer(self.obs_dim, self.act_dim, self.memory, self.periods),
            RolloutBuffer(self.obs_dim, self.act_dim, held, self.periods),
        )

    def _hand_over(self, i: int, terminated: bool) -> None:
        observations, actions, rewards = self._observations[i], self._actions[i], self._rewards[i]
        if not actions:
            return
        states, length = np.stack(observations), min(LONGEST, -(-len(actions) // 2))
        for first in range(0, len(actions), length):
            rows = slice(first, first + length)
            self._pending.append(
                Episode(
                    states[first : first + length + 1],
                    np.stack(actions[rows]),
                    np.array(rewards[rows]),
                    terminated and first + length >= len(actions),
                )
            )
        self._observations[i], self._actions[i], self._rewards[i] = observations[-1:], [], []

    def recent(self, count: int, normalizer: Normalizer) -> Tensor:
        """The last `count` transitions of `data`, or fewer: `(M, 2, D)` in the normaliser's units."""
        states, actions, after = (
            part[len(part) - min(count, len(part)) :] for part in self.data.transitions()
        )
        return _windows(states, actions, after, normalizer)

    def held_out(self, normalizer: Normalizer) -> Tensor:
        """All transitions of `held`, `(M, 2, D)` in the normaliser's units."""
        if len(self.held) == 0:
            return torch.empty(0)
        return _windows(*self.held.transitions(), normalizer)


def _windows(states: Array, actions: Array, after: Array, normalizer: Normalizer) -> Tensor:
    first = normalizer.normalize(torch.from_numpy(states), torch.from_numpy(actions))
    second = normalizer.normalize(torch.from_numpy(after), torch.zeros(actions.shape, dtype=torch.float64))
    return torch.stack([first, second], dim=1).float()
