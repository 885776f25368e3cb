"""What was executed: data to learn from, and a share that is kept to judge by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import require
from ebm_control.data import Normalizer, RolloutBuffer

Array = NDArray[np.float64]
HELD_OUT = 20  # one stretch in so many is held out
LONGEST = 25  # steps of a stretch
_PARTS = ("data", "held")


class Experience:
    """Stretches of episodes from environments side by side, in the order in which they were executed.

    An episode is handed over in stretches, whenever something is to be learned from it, and need not have ended.

    Args:
        obs_dim: observation coordinates.
        act_dim: action coordinates.
        periods: see `RolloutBuffer`.
        environments: side by side.

    Attributes:
        data: stretches to learn from.
        held: the others, one in 20.

    """

    def __init__(self, obs_dim: int, act_dim: int, periods: tuple[float, ...], environments: int) -> None:
        require(environments >= 1, "environments", given=environments, expected="at least 1")
        self.obs_dim, self.act_dim = obs_dim, act_dim
        self.data, self.held = (RolloutBuffer(obs_dim, act_dim, periods=periods) for _ in _PARTS)
        self._observations: list[list[Array]] = [[] for _ in range(environments)]
        self._actions: list[list[Array]] = [[] for _ in range(environments)]
        self._rewards: list[list[float]] = [[] for _ in range(environments)]
        self._returns = np.zeros(environments)
        self._last = np.zeros(environments)

    def begin(self, which: NDArray[np.bool_], observations: Array) -> None:
        """New episodes of the environments `which` `(N,)`, at their rows of `observations` `(N, obs_dim)`."""
        for i in np.flatnonzero(which):
            self._hand_over(i, terminated=False)
            self._observations[i] = [np.array(observations[i], np.float64)]
        self._returns[which] = 0.0

    def add(self, observations: Array, actions: Array, rewards: Array) -> None:
        """One step of every environment: where it led, what was done, what it gave."""
        for i in range(len(self._observations)):
            self._observations[i].append(np.array(observations[i], np.float64))
            self._actions[i].append(np.array(actions[i], np.float64))
            self._rewards[i].append(float(rewards[i]))
        self._returns += rewards
        self._last = np.array(rewards, np.float64)

    def end(self, which: NDArray[np.bool_], terminated: NDArray[np.bool_]) -> Iterator[tuple[float, float]]:
        """Close episodes; gives the return and the last reward of each."""
        for i in np.flatnonzero(which):
            self._hand_over(i, bool(terminated[i]))
            yield float(self._returns[i]), float(self._last[i])

    def flush(self) -> None:
        """Hand over what was executed so far; episodes go on."""
        for i in range(len(self._observations)):
            self._hand_over(i, terminated=False)

    def _hand_over(self, i: int, terminated: bool) -> None:
        observations, actions, rewards = self._observations[i], self._actions[i], self._rewards[i]
        if not actions:
            return
        states, length = np.stack(observations), min(LONGEST, -(-len(actions) // 2))
        for first in range(0, len(actions), length):
            rows = slice(first, first + length)
            last = first + length >= len(actions)
            stretches = self.data.num_episodes + self.held.num_episodes
            # The second stretch of all is held out: there is something to judge by from the first round on.
            (self.held if stretches % HELD_OUT == 1 else self.data).add_episode(
                states[first : first + length + 1],
                np.stack(actions[rows]),
                np.array(rewards[rows]),
                terminated and last,
            )
        self._observations[i], self._actions[i], self._rewards[i] = observations[-1:], [], []

    def recent(self, count: int, normalizer: Normalizer | None) -> Tensor:
        """The last `count` transitions to learn from, or fewer: `(M, 2, D)` in the normaliser's units."""
        states, actions, after = (part[-count:] if count else part[:0] for part in self.data.transitions())
        if normalizer is None or not len(states):
            return torch.empty(0)
        first = normalizer.normalize(torch.from_numpy(states), torch.from_numpy(actions))
        second = normalizer.normalize(torch.from_numpy(after), torch.from_numpy(np.zeros_like(actions)))
        return torch.stack([first, second], dim=1).float()

    def save(self, folder: Path) -> None:
        """Write `data.npz` and `held.npz`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _PARTS:
            getattr(self, name).save(folder / f"{name}.npz")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        self.data, self.held = (RolloutBuffer.load(folder / f"{name}.npz") for name in _PARTS)
