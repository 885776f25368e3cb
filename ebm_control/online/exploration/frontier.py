"""Exploration without a task: goals at places that were not visited, next to visited ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ebm_control.checks import require, require_shape
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.online.exploration.novelty import NoveltyCost
from ebm_control.online.exploration.ways import NONE, Ways

Array = NDArray[np.float64]
SPARED = 0.2  # cost of a width of path, in visits, when no new place is left
AHEAD = 4  # number of places along a path that the intermediate goal lies ahead


class Goals(Protocol):
    """Interface: sets goals during online learning, instead of the environment's."""

    def __call__(self, observations: Array, fresh: NDArray[np.bool_]) -> Array | None:
        """Goals `(N, g)` for observations `(N, obs_dim)`, both in the environment's units; None for its own goals.

        NaN means no goal: the next action of that environment is random. `fresh` `(N,)` is True where an episode has
        just begun.
        """
        ...


@dataclass
class _Explorers:
    """Goals and progress of N parallel environments.

    Attributes:
        goals: `(N, k)` goal of each environment, in its units.
        anchor: `(N, k)` position of each when it last moved by more than half a width.
        age: `(N,)` steps since the goal was set.
        still: `(N,)` steps since the anchor was set.
        place: `(N,)` index of the current place; `NONE` before the first step.
        last: `(N,)` index of the place on the path that is next to the goal, or is the goal.
        back: `(N,)` whether it returns to a visited place, because no new one is left.
        arrived: `(N,)` whether it has arrived there, and acts at random until the spell is over.

    """

    goals: NDArray[np.float32]
    anchor: NDArray[np.float32]
    age: NDArray[np.intp]
    still: NDArray[np.intp]
    place: NDArray[np.intp]
    last: NDArray[np.intp]
    back: NDArray[np.bool_]
    arrived: NDArray[np.bool_]

    @classmethod
    def at(cls, here: NDArray[np.float32]) -> _Explorers:
        """State for environments at `here` `(N, k)`, which is also the goal of each."""
        count = len(here)
        steps, flags = (lambda: np.zeros(count, np.intp)), (lambda: np.zeros(count, bool))
        place = np.full(count, NONE, np.intp)
        return cls(here.copy(), here.copy(), steps(), steps(), place, steps(), flags(), flags())

    def __len__(self) -> int:
        return len(self.goals)


class FrontierGoals:
    """Heads for the nearest place that was not visited and lies next to a visited one (Yamauchi 1997).

    Distances are along visited paths (`Ways`). The goal that is returned is the place itself once it is next, and
    until then a place a little ahead on the path. A goal that is given up close by counts as visited: moves that the
    environment blocked are not repeated, so walls need not be known beforehand. Parallel environments share their
    memory, and head for different places.

    Args:
        obs_dim: number of observation coordinates.
        index: coordinates that define a place and a goal.
        width: `(len(index),)` or a number: size of a place, in the environment's units.
        low: `(len(index),)` or a number: lower corner of the box for goals, in these units; None for no bound.
        high: upper corner of the box.
        patience: steps after which a goal is given up.
        stalled: steps without a move of more than half a width after which a goal is given up.
        reach: distance in widths within which a goal that is given up counts as visited.
        spell: steps at random, once no new place is left, in the least visited places: data of all directions and
            lengths, for energies of pairs of states. All environments do this together, and wait for the last.
        until: number of calls after which the environment's own goals are used; None for no limit.
        capacity: number of places that are stored.
        seed: seed for ties, and for goals after one was given up from afar.

    Attributes:
        memory: places that were visited, or tried without success.
        ways: visited places and the connections between them.

    Raises:
        InputError: a setting is invalid.

    """

    def __init__(
        self,
        obs_dim: int,
        index: Sequence[int],
        width: Tensor | float,
        low: ArrayLike | None = None,
        high: ArrayLike | None = None,
        *,
        patience: int = 80,
        stalled: int = 4,
        reach: float = 1.6,
        spell: int = 0,
        until: int | None = None,
        capacity: int = 4000,
        seed: int = 0,
    ) -> None:
        require(patience >= 1, "patience", given=patience, expected="at least 1 step")
        require(stalled >= 1, "stalled", given=stalled, expected="at least 1 step")
        require(reach > 0, "reach", given=reach, expected="a positive number of widths")
        self.memory = NoveltyCost(TrajectoryLayout(obs_dim), index, width, capacity=capacity)
        require(spell >= 0, "spell", given=spell, expected="0 or more steps")
        self.obs_dim, self.reach, self.spell = obs_dim, reach, spell
        self.index, self.patience, self.stalled, self.until = list(index), patience, stalled, until
        self.width = torch.as_tensor(width, dtype=torch.float32).expand(len(self.index)).numpy()
        self.low = np.asarray(-np.inf if low is None else low, np.float32)
        self.high = np.asarray(np.inf if high is None else high, np.float32)
        for name, bound in (("low", self.low), ("high", self.high)):
            require(
                bound.shape in ((), (len(self.index),)),
                name,
                given=f"shape {bound.shape}",
                expected=f"one number, or one for each of {len(self.index)} coordinates",
            )
        self._offsets = np.array(
            [o for o in product((-1, 0, 1), repeat=len(self.index)) if any(o)], np.float32
        )
        self.ways = Ways(self.width)
        self._candidates = np.empty((0, len(self.index)), np.float32)
        self._beside = np.empty(0, np.intp)  # the visited place that each candidate is next to
        self._rng = np.random.default_rng(seed)
        self._explorers = _Explorers.at(np.empty((0, len(self.index)), np.float32))
        self._spell_left = 0  # remaining steps
        self._calls = 0

    def __call__(self, observations: Array, fresh: NDArray[np.bool_]) -> Array | None:
        """Goals for the next step, or None after `until` calls; see `Goals`."""
        require_shape("observations", torch.as_tensor(observations), (None, self.obs_dim))
        self._calls += 1
        here = np.asarray(observations, np.float32)[:, self.index]
        if len(self._explorers) != len(here):
            self._explorers, self._spell_left = _Explorers.at(here), 0
        self._visit(here, fresh)
        if self.until is not None and self._calls > self.until:
            return None
        self._aim(here, fresh)
        headings = np.full(here.shape, np.nan)
        for i in np.flatnonzero(~self._explorers.arrived).tolist():
            headings[i] = self._heading(i)
        return headings

    def _aim(self, here: NDArray[np.float32], fresh: NDArray[np.bool_]) -> None:
        """Set a new goal where the goal is reached, given up, or visited by now."""
        them = self._explorers
        them.age += 1
        moved = self._distance(here, them.anchor) > 0.5
        them.anchor[moved | fresh] = here[moved | fresh]
        them.still = np.where(moved | fresh, 0, them.still + 1)
        away = self._distance(here, them.goals)
        reached = away < 0.5
        given_up = ~reached & ~fresh & ((them.age > self.patience) | (them.still >= self.stalled))
        # A goal that was given up from afar (behind a wall) may be reached by another path.
        close = given_up & (away < self.reach)
        self._remember(them.goals[(reached | close) & ~them.back])
        # Another environment may have visited the goal in the meantime.
        known = ~them.back & ~self.memory.novel(torch.from_numpy(them.goals)).numpy()
        them.arrived |= them.back & (reached | given_up)
        over = np.where(them.back, them.arrived & self._spell_is_over(), reached | given_up | known)
        for i in np.flatnonzero(over).tolist():
            them.arrived[i] = False
            self._next(i, anywhere=bool(given_up[i] & ~close[i] & ~them.back[i]))
            them.age[i], them.still[i], them.anchor[i] = 0, 0, here[i]

    def _spell_is_over(self) -> bool:
        """Count the steps of the spell. It begins when all have arrived, because steps without goals need no plans."""
        if self.spell == 0:
            return True
        if self._spell_left == 0:
            self._spell_left = self.spell if self._explorers.arrived.all() else 0
            return False
        self._spell_left -= 1
        return self._spell_left == 0

    def _visit(self, here: NDArray[np.float32], fresh: NDArray[np.bool_]) -> None:
        """Update the current places, and add the surroundings of new places to the candidates."""
        self._explorers.place, new = self.ways.visit(here, np.where(fresh, NONE, self._explorers.place))
        if len(new) == 0:
            return
        places = self.ways.places[new]
        self._remember(places)
        around = (places[:, None] + self._offsets * self.width).reshape(-1, len(self.index))
        inside = ((around >= self.low) & (around <= self.high)).all(axis=1)
        self._candidates = np.concatenate([self._candidates, around[inside]])
        self._beside = np.concatenate([self._beside, new.repeat(len(self._offsets))[inside]])

    def _remember(self, places: NDArray[np.float32]) -> None:
        if len(places):
            self.memory.visit(torch.from_numpy(places))

    def _next(self, i: int, anywhere: bool) -> None:
        """The nearest candidate (or a random one) that is still new and is not the goal of another environment."""
        new = self.memory.novel(torch.from_numpy(self._candidates)).numpy()
        self._candidates, self._beside = self._candidates[new], self._beside[new]
        others = np.delete(self._explorers.goals, i, axis=0)
        free = (self._distance(self._candidates[:, None], others[None]) > 0.5).all(axis=1)
        candidates, beside = self._candidates[free], self._beside[free]
        length, _ = self.ways.lengths(int(self._explorers.place[i]))
        self._explorers.back[i] = len(candidates) == 0
        if self._explorers.back[i]:
            # The least visited place; among equally visited ones the nearest.
            visits = self.ways.visits + SPARED * length + 0.1 * self._rng.random(len(length))
            self._explorers.last[i] = visits.argmin()
            self._explorers.goals[i] = self.ways.places[self._explorers.last[i]]
            return
        if anywhere:
            chosen = int(self._rng.integers(len(candidates)))
        else:
            step = self._distance(candidates, self.ways.places[beside])
            chosen = int((length[beside] + step + 0.1 * self._rng.random(len(candidates))).argmin())
        self._explorers.goals[i], self._explorers.last[i] = candidates[chosen], beside[chosen]

    def _heading(self, i: int) -> NDArray[np.float32]:
        """The goal itself, or a place on the path to it."""
        place, last = int(self._explorers.place[i]), int(self._explorers.last[i])
        if place == last or self._distance(self._explorers.goals[i], self.ways.places[place]) < 1.5:
            return self._explorers.goals[i]
        length, following = self.ways.lengths(last)
        if not np.isfinite(length[place]):
            return self._explorers.goals[i]
        for _ in range(AHEAD):
            if place == last:
                return self._explorers.goals[i]
            place = int(following[place])
        return self.ways.places[place]

    def _distance(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance in widths."""
        return np.linalg.norm((a - b) / self.width, axis=-1)
