"""Storage of episodes from which any windows can be drawn at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebm_control.checks import InputError, require, require_number, shown
from ebm_control.data.dataset_info import DatasetInfo
from ebm_control.data.foreign import require_rollouts
from ebm_control.data.forms import FlatForm
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.sound import as_numbers
from ebm_control.energies.layout import TrajectoryLayout, as_periods

Array = NDArray[np.float64]
_FORMAT = 1


@dataclass(frozen=True)
class Episode:
    """One episode of `T` steps; the arrays are views into the buffer: copy them before changing them.

    Args:
        observations: `(T + 1, obs_dim)`, from the first state to the one after the last action.
        actions: `(T, act_dim)`.
        rewards: `(T,)`, None if they were not recorded.
        terminated: True if the environment ended the episode, False if a limit cut it off.

    """

    observations: Array
    actions: Array
    rewards: Array | None
    terminated: bool

    def __len__(self) -> int:
        return len(self.actions)


class _Span(NamedTuple):
    """Position of an episode: its first row and its number of actions."""

    start: int
    steps: int
    terminated: bool
    rewarded: bool


class RolloutBuffer:
    """Episodes collected from an environment, contiguous in growing float64 arrays.

    Each row holds `s_t, a_t, r_t`; the last row of an episode has a state but no action. `len` counts
    transitions.

    Args:
        obs_dim: observation coordinates.
        act_dim: action coordinates.
        capacity: greatest number of transitions; beyond it the oldest episodes are evicted. None for no limit.
        periods: period of each observation coordinate, 0 if it is not periodic; () for none.
        form: how the environment's observations and actions became vectors; None if they were vectors.

    Attributes:
        evicted: number of transitions evicted so far.
        info: where `read` found the rollouts, with the columns of named observations; None for others.

    Raises:
        InputError: a dimension, the capacity or the periods are invalid.

    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        capacity: int | None = None,
        periods: Sequence[float] = (),
        form: FlatForm | None = None,
    ) -> None:
        layout = TrajectoryLayout(obs_dim, act_dim, as_periods("periods", periods))
        if capacity is not None:
            require_number("capacity", capacity, 1, whole=True)
        wanted = f"one of {obs_dim} observation and {act_dim} action coordinates"
        fits = form is None or (form.obs_dim, form.act_dim) == (obs_dim, act_dim)
        require(fits, "form", given=form, expected=wanted)
        self.obs_dim, self.act_dim, self.capacity, self.periods = obs_dim, act_dim, capacity, layout.periods
        self.form = form
        self._obs = np.empty((0, obs_dim))
        self._act = np.empty((0, act_dim))
        self._rew = np.empty(0)
        self._left = np.empty(0, dtype=np.int64)  # remaining actions in the row's episode
        self._spans: deque[_Span] = deque()
        self._end = 0
        self._transitions = 0
        self.evicted = 0
        self.info: DatasetInfo | None = None
        self._starts: dict[tuple[int, int], NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return self._transitions

    def __repr__(self) -> str:
        return (
            f"RolloutBuffer(obs_dim={self.obs_dim}, act_dim={self.act_dim}, capacity={self.capacity}, "
            f"episodes={len(self._spans)}, transitions={len(self)})"
        )

    def __add__(self, other: RolloutBuffer) -> RolloutBuffer:
        """A new buffer with the episodes of both, this one's first, and without a limit.

        Raises:
            InputError: their dimensions, periods or forms differ.

        """
        if not isinstance(other, RolloutBuffer):
            return NotImplemented
        words = "{} observation and {} action coordinates with periods {}, {}"
        kinds = [(b.obs_dim, b.act_dim, b.periods, b.form or "vectors") for b in (self, other)]
        mine, others = (words.format(*kind) for kind in kinds)
        require(mine == others, "buffer", given=others, expected=mine)
        both = self.empty()
        for e in (*self.episodes(), *other.episodes()):
            both.add_episode(e.observations, e.actions, e.rewards, e.terminated)
        return both

    def empty(self) -> RolloutBuffer:
        """A buffer for data of the same kind, without a limit."""
        return RolloutBuffer(self.obs_dim, self.act_dim, periods=self.periods, form=self.form)

    @property
    def parts(self) -> dict[str, slice]:
        """Slices of the observations' coordinates by name, as `{"position": slice(0, 3)}`; see `FlatForm.parts`."""
        return {"observation": slice(0, self.obs_dim)} if self.form is None else self.form.parts

    @property
    def num_episodes(self) -> int:
        """Number of stored episodes."""
        return len(self._spans)

    @property
    def observations(self) -> Array:
        """All states, one episode after another: `(transitions + episodes, obs_dim)`, a view."""
        return self._obs[self._begin : self._end]

    @property
    def actions(self) -> Array:
        """All actions, one episode after another: `(transitions, act_dim)`, a copy."""
        return self._act[self._begin : self._end][self._live_left > 0]

    @property
    def _begin(self) -> int:
        return self._spans[0].start if self._spans else self._end

    @property
    def _live_left(self) -> NDArray[np.int64]:
        return self._left[self._begin : self._end]

    def add_episode(
        self,
        observations: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike | None = None,
        terminated: bool = False,
    ) -> None:
        """Append an episode of `T >= 1` steps; the oldest episodes are evicted if the capacity requires it.

        Args:
            observations: `(T + 1, obs_dim)`.
            actions: `(T, act_dim)`.
            rewards: `(T,)` or None.
            terminated: whether the environment ended the episode, see `Episode`.

        Raises:
            InputError: a wrong shape, a non-finite value, or more steps than the capacity. Nothing is added.

        """
        flag = isinstance(terminated, bool | np.bool_)
        require(flag, "terminated", given=shown(terminated), expected="True or False, of the whole episode")
        act = _checked("actions", actions, (None, self.act_dim))
        steps = len(act)
        require(steps >= 1, "actions", given="an episode of no steps", expected="at least one")
        within = self.capacity is None or steps <= self.capacity
        require(within, "actions", given=f"{steps} steps", expected=f"at most the capacity, {self.capacity}")
        obs = _checked("observations", observations, (steps + 1, self.obs_dim))
        rew = np.zeros(steps) if rewards is None else _checked("rewards", rewards, (steps,))

        self._reserve(steps + 1)
        rows = slice(self._end, self._end + steps + 1)
        self._obs[rows] = obs
        self._act[rows] = np.concatenate([act, np.zeros((1, self.act_dim))])
        self._rew[rows] = np.append(rew, 0.0)
        self._left[rows] = np.arange(steps, -1, -1)
        self._spans.append(_Span(self._end, steps, bool(terminated), rewards is not None))
        self._end += steps + 1
        self._transitions += steps
        while self.capacity is not None and self._transitions > self.capacity:
            dropped = self._spans.popleft().steps
            self._transitions -= dropped
            self.evicted += dropped
        self._starts.clear()

    def _reserve(self, rows: int) -> None:
        """Make room for `rows` more rows, at amortised constant cost; evicted rows are dropped on the way."""
        if self._end + rows <= len(self._obs):
            return
        begin, live = self._begin, self._end - self._begin
        room = max(1024, 2 * (live + rows))
        for name in ("_obs", "_act", "_rew", "_left"):
            old = getattr(self, name)
            new = np.empty((room, *old.shape[1:]), dtype=old.dtype)
            new[:live] = old[begin : self._end]
            setattr(self, name, new)
        self._spans = deque(span._replace(start=span.start - begin) for span in self._spans)
        self._end = live

    def episodes(self) -> Iterator[Episode]:
        """All episodes, oldest first."""
        for start, steps, terminated, rewarded in tuple(self._spans):
            rows = slice(start, start + steps)
            rewards = self._rew[rows] if rewarded else None
            yield Episode(self._obs[start : start + steps + 1], self._act[rows], rewards, terminated)

    def transitions(self) -> tuple[Array, Array, Array]:
        """All `(s, a, s_next)`: `(N, obs_dim)`, `(N, act_dim)`, `(N, obs_dim)`."""
        rows = np.flatnonzero(self._live_left > 0)
        return self.observations[rows], self.actions, self.observations[rows + 1]

    def window_starts(self, length: int, gap: int = 1) -> NDArray[np.int64]:
        """Rows of `observations` at which a window of `length` states, `gap` steps apart, fits into its episode.

        Raises:
            InputError: `length` or `gap` is not a whole number of at least 1, or no episode is long enough.

        """
        require_number("length", length, 1, whole=True)
        require_number("gap", gap, 1, whole=True)
        if (length, gap) not in self._starts:
            needed = (length - 1) * gap
            longest = max((span.steps for span in self._spans), default=0)
            if not self._spans or longest < needed:
                raise InputError(
                    f"length: expected windows that fit the data, got {length} states with gap {gap}, which "
                    f"take {needed} steps; the longest episode has {longest}"
                )
            self._starts[length, gap] = np.flatnonzero(self._live_left >= needed)
        return self._starts[length, gap]

    def gap_actions(self, index: NDArray[np.int64], gap: int = 1) -> tuple[Array, NDArray[np.bool_]]:
        """Mean of the `gap` actions from each transition in `index` on, and whether it exists.

        The shapes are `(*index.shape, act_dim)` and `index.shape`.

        If the episode ends before `gap` actions were taken, the mean does not exist and is replaced by 0.
        """
        actions = self._act[self._begin : self._end]
        total = sum(actions[np.minimum(index + j, len(actions) - 1)] for j in range(gap))
        known = self._live_left[index] >= gap
        return np.where(known[..., None], total / gap, 0.0), known

    def sample_windows(
        self, n: int, length: int, gap: int = 1, *, rng: np.random.Generator | None = None
    ) -> tuple[Array, Array]:
        """Draw windows uniformly from all that lie within one episode.

        Args:
            n: number of windows.
            length: states per window.
            gap: steps from one state of a window to the next.
            rng: random generator of the draw; None seeds one from the system.

        Returns:
            Observations `(n, length, obs_dim)` and actions `(n, length, act_dim)`. Time step `t` holds
            `s_{i + t gap}` and the mean of the `gap` actions taken from there. If the last of them lie beyond the
            end of the episode, the last action is 0.

        Raises:
            InputError: `n` is not a whole number of at least 1, or `window_starts` refuses `length` or `gap`.

        """
        require_number("n", n, 1, whole=True)
        starts = self.window_starts(length, gap)
        rng = np.random.default_rng() if rng is None else rng
        index = rng.choice(starts, n)[:, None] + gap * np.arange(length)
        return self.observations[index], self.gap_actions(index, gap)[0]

    def normalizer(self) -> Normalizer:
        """`Normalizer` fitted to all stored states and actions.

        Raises:
            InputError: the buffer is empty.

        """
        return replace(Normalizer.fit(self.observations, self.actions, self.periods), form=self.form)

    def digest(self) -> str:
        """SHA-256 of the data: equal for equal episodes in the same order and equal periods, whatever the capacity."""
        hashed = hashlib.sha256()
        steps, terminated, rewarded = (
            [getattr(span, name) for span in self._spans] for name in ("steps", "terminated", "rewarded")
        )
        live = slice(self._begin, self._end)
        for part in (
            np.array([self.obs_dim, self.act_dim], dtype=np.int64),
            np.array(self.periods or (0.0,) * self.obs_dim),
            np.array([steps, terminated, rewarded], dtype=np.int64),
            self._obs[live],
            self._act[live],
            self._rew[live],
        ):
            hashed.update(np.ascontiguousarray(part).data)
        return hashed.hexdigest()

    def split(
        self, fraction: float, rng: np.random.Generator, steps: int = 1
    ) -> tuple[RolloutBuffer, RolloutBuffer]:
        """About `fraction` of the transitions, and the rest; see `ebm_control.data.split`."""
        from ebm_control.data.split import split  # a circular import: that module makes buffers

        return split(self, fraction, rng, steps)

    def save(self, path: str | Path) -> None:
        """Write the buffer to `path` (`.npz`, no pickle), completely or not at all: a crash leaves the old file."""
        path = Path(path)
        live = slice(self._begin, self._end)
        form: dict[str, Any] = {} if self.form is None else {"form": json.dumps(self.form.to_dict())}
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                np.savez(
                    file,
                    format=_FORMAT,
                    capacity=self.capacity or 0,
                    periods=np.array(self.periods),
                    **form,
                    observations=self._obs[live],
                    actions=self._act[live],
                    rewards=self._rew[live],
                    steps=np.array([s.steps for s in self._spans], dtype=np.int64),
                    terminated=np.array([s.terminated for s in self._spans], dtype=bool),
                    rewarded=np.array([s.rewarded for s in self._spans], dtype=bool),
                )
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> RolloutBuffer:
        """Load a buffer written by `save`.

        Raises:
            InputError: a file that is missing, damaged or of another kind; the message says which.

        """
        path = Path(path)
        require(path.is_file(), "path", given=path, expected="an existing file")
        require_rollouts(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                data = {name: file[name] for name in file.files}
            require(int(data["format"]) == _FORMAT, "format", given=data["format"], expected=str(_FORMAT))
            obs, act, rew = data["observations"], data["actions"], data["rewards"]
            capacity = int(data["capacity"]) or None
            form = FlatForm.from_dict(json.loads(str(data["form"]))) if "form" in data else None
            buffer = cls(obs.shape[1], act.shape[1], capacity, data["periods"].tolist(), form)
            start = 0
            columns = (data[name].tolist() for name in ("steps", "terminated", "rewarded"))
            for steps, terminated, rewarded in zip(*columns, strict=True):
                rows, start = slice(start, start + steps), start + steps + 1
                buffer.add_episode(
                    obs[rows.start : start], act[rows], rew[rows] if rewarded else None, terminated
                )
        except Exception as error:  # readers of a damaged file raise all kinds of errors
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"path: expected a file that RolloutBuffer.save wrote, got {path} ({why})"
            ) from error
        return buffer


def _checked(name: str, value: ArrayLike, shape: tuple[int | None, ...]) -> Array:
    """`value` as a finite float64 array of the given shape, None standing for any size."""
    array = as_numbers(name, value, shape)
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        first = tuple(int(i) for i in bad[0])
        raise InputError(
            f"{name}: expected finite values only, got {len(bad)} non-finite, "
            f"first {array[first]} at index {first}"
        )
    return array
