"""Executed transitions: data for training, and a held-out fraction for evaluation."""

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
from ebm_control.data.forms import FlatForm
from ebm_control.data.outliers import outlying
from ebm_control.data.sound import add_finite_parts

Array = NDArray[np.float64]
HELD_OUT = 20  # one segment in 20 is held out
LONGEST = 25  # largest number of steps per segment
_PARTS = ("data", "held")


class Parts(NamedTuple):
    """Data buffers of segments.

    Attributes:
        data: for training.
        held: held out for evaluation.
        stretches: number of segments added so far, including those that have been evicted.

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
        """Hash of both parts; equal for equal data."""
        return f"{self.data.digest()}-{self.held.digest()}"

    @classmethod
    def load(cls, folder: Path) -> Parts:
        """Read the files that `save` wrote; evicted segments are no longer counted."""
        data, held = (RolloutBuffer.load(folder / f"{name}.npz") for name in _PARTS)
        return cls(data, held, data.num_episodes + held.num_episodes)


class Experience:
    """Segments of episodes from parallel environments, in the order of execution.

    An episode is added in segments, at each round of training, and need not have ended.

    Args:
        obs_dim: number of observation coordinates.
        act_dim: number of action coordinates.
        periods: see `RolloutBuffer`.
        environments: number of parallel environments.
        memory: capacity of `data` in transitions, of which the latest are stored; at least 25; None for no limit.
        form: see `RolloutBuffer`.

    Attributes:
        data: segments for training.
        held: held-out segments, one in 20.

    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        periods: tuple[float, ...],
        environments: int,
        memory: int | None = None,
        form: FlatForm | None = None,
    ) -> None:
        require(environments >= 1, "environments", given=environments, expected="at least 1")
        require(
            memory is None or memory >= LONGEST,
            "memory",
            given=memory,
            expected=f"None or at least {LONGEST}, the longest stretch",
        )
        self.obs_dim, self.act_dim, self.periods, self.memory = obs_dim, act_dim, periods, memory
        self.form = form
        self.data, self.held, self._stretches = self._empty()
        self._pending: list[Episode] = []
        self._observations: list[list[Array]] = [[] for _ in range(environments)]
        self._actions: list[list[Array]] = [[] for _ in range(environments)]
        self._rewards: list[list[float]] = [[] for _ in range(environments)]
        self._returns = np.zeros(environments)
        self._last = np.zeros(environments)

    def begin(self, which: NDArray[np.bool_], observations: Array) -> None:
        """Begin episodes in the environments `which` `(N,)`, at their entries of `observations` `(N, obs_dim)`."""
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
        """Add one step of every environment: next observations, actions and rewards.

        Where `finite` `(N,)` is False the step is left out, and its episode must end there.
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
        """Close episodes; returns the return and the last reward of each."""
        ended = np.flatnonzero(which).tolist()
        for i in ended:
            self._hand_over(i, bool(terminated[i]))
        return [(float(self._returns[i]), float(self._last[i])) for i in ended]

    def flush(self) -> None:
        """Cut the episodes at the present step, which makes their transitions pending; the episodes continue."""
        for i in range(len(self._observations)):
            self._hand_over(i, terminated=False)

    def extend(self, data: RolloutBuffer) -> None:
        """Add recorded rollouts as pending segments; without rewards theirs are zero."""
        for episode in data.episodes():
            rewards = np.zeros(len(episode)) if episode.rewards is None else episode.rewards
            self._cut(episode.observations, episode.actions, rewards, episode.terminated)

    def pending(self, normalizer: Normalizer) -> Tensor:
        """Pending transitions, which are cut off but not yet in `data`: `(M, 2, D)` in the normaliser's units."""
        parts = [
            _windows(e.observations[:-1], e.actions, e.observations[1:], normalizer) for e in self._pending
        ]
        return torch.cat(parts) if parts else torch.empty(0)

    def take_in(self) -> None:
        """Add pending segments to `data`, and one in 20 to `held`."""
        for episode, wild in zip(self._pending, self._outlying(), strict=True):
            # The second segment of all is held out, so that the first round already has held-out data.
            part = self.held if self._stretches % HELD_OUT == 1 else self.data
            self._stretches += 1
            seen = np.where(wild[:, None], np.nan, episode.observations)
            add_finite_parts(part, seen, episode.actions, episode.rewards, episode.terminated)
        self._pending = []

    def _outlying(self) -> list[NDArray[np.bool_]]:
        """Masks of each pending segment's observations far outside all other data; warns if there are any."""
        if not self._pending:
            return []
        before, fresh = self.data.observations, [episode.observations for episode in self._pending]
        counts = [len(before), *(len(part) for part in fresh)]
        # Observations of adjacent segments in `data` count as neighbours, which only makes the rule more lenient.
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
        """The data buffers so far, without pending segments."""
        return Parts(self.data, self.held, self._stretches)

    def exchange(self, parts: Parts | None = None) -> Parts:
        """Replace `data` and `held`, by empty ones by default, and return the previous ones."""
        before = Parts(self.data, self.held, self._stretches)
        self.data, self.held, self._stretches = self._empty() if parts is None else parts
        return before

    def _empty(self) -> Parts:
        held = None if self.memory is None else max(LONGEST, self.memory // HELD_OUT)
        return Parts(
            RolloutBuffer(self.obs_dim, self.act_dim, self.memory, self.periods, self.form),
            RolloutBuffer(self.obs_dim, self.act_dim, held, self.periods, self.form),
        )

    def _hand_over(self, i: int, terminated: bool) -> None:
        observations, actions, rewards = self._observations[i], self._actions[i], self._rewards[i]
        if not actions:
            return
        self._cut(np.stack(observations), np.stack(actions), np.array(rewards), terminated)
        self._observations[i], self._actions[i], self._rewards[i] = observations[-1:], [], []

    def _cut(self, states: Array, actions: Array, rewards: Array, terminated: bool) -> None:
        """Make segments of an episode, or of a part of one, pending."""
        length = min(LONGEST, -(-len(actions) // 2))
        for first in range(0, len(actions), length):
            rows, last = slice(first, first + length), first + length >= len(actions)
            seen = states[first : first + length + 1]
            self._pending.append(Episode(seen, actions[rows], rewards[rows], terminated and last))

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
