"""`ebm/Fork-v0`: a point driven along a road that forks three times, so that its futures have up to eight modes.

The branch at a fork is random; the action changes its probability but never determines it. The mean of the two
possible ends of a step over a fork is at least 0.02 (more than three standard deviations) away from both lanes, so a
model that predicts the mean is wrong however well it is fitted. Over several forks the mean of the ends may happen
to be in one of the up to eight lanes.

The true distribution is known: `mode_probabilities` gives the probability of each lane, `mode_of` the lane of a state.
Lanes are numbered from the lowest: after n forks there are `2**n`, and lane k turns up at fork i if bit `n - 1 - i`
of k is set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from ebm_envs import drawing
from ebm_envs.base import Array, box_space, checked_vector

Indices = NDArray[np.int64]

START = (-1.0, 0.0)
"""Mean (x, y) of the start, whose std is `NOISE`."""

STEP = 0.1
"""Mean advance in x of one step."""

NOISE = (0.002, 0.005)
"""Standard deviations, in x and in y, of the noise of the start and of every step."""

FORKS = (-0.65, -0.15, 0.35)
"""Positions of the forks in x, half a step from the nearest mean positions of a point from the start.

The std of x is at most 0.008 until the last fork, a sixth of what would make the step of the crossing uncertain."""

JUMPS = (0.4, 0.2, 0.1)
"""Distance in y of the branches from the lane that forks. Each is half the one before, for evenly spaced lanes."""

RELAXATION = 0.5
"""Share of a point's distance to the middle of its lane that remains after one step."""

SWAY = 0.4
"""The upper branch has probability `0.5 + SWAY * action`."""

TOLERANCE = 0.04
"""Largest distance in y from the middle of a lane that counts as in it: 7 std of y within a lane (0.0058)."""

_LOW, _HIGH = np.array([-1.1, -1.0]), np.array([1.1, 1.0])
_FORKS = np.array(FORKS)
_EDGES = np.array([-np.inf, *FORKS, np.inf])

# By the number of passed forks: the jump at the next fork, the y of the highest lane, and the distance of lanes.
_NEXT_JUMP = np.array([*JUMPS, 0.0])
_TOP = np.cumsum([0.0, *JUMPS])
_SPACING = 2 * np.array([JUMPS[0], *JUMPS])  # the first entry, for a single lane, is unused


class ForkEnv(gym.Env[Array, NDArray[Any]]):
    """A point (x, y) that advances by 0.1 per step, stays in its lane, and jumps to one of two others at each fork.

    The observation is (x, y), float64, and Markov: x gives the number of passed forks, y the lane. The action (1,) in
    [-1, 1], clipped, matters only in the three steps that cross a fork. The reward is the new y. Episodes end only by
    the registered step limit; the road ends at x = 1.1.

    Args:
        render_mode: None or "rgb_array".

    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}  # type: ignore[misc]

    def __init__(self, render_mode: str | None = None) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode: expected None or 'rgb_array', got {render_mode!r}")
        self.render_mode = render_mode
        self.observation_space: spaces.Box = box_space(_LOW, _HIGH)  # type: ignore[assignment]
        self.action_space: spaces.Box = spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)
        self.position: Array
        self.trace: list[Array] = []  # positions in this episode, for drawing

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: seeds `np_random`.
            options: `start`, (x, y), for an exact start; any y belongs to the nearest lane.

        Returns:
            Observation (2,) and an empty info.

        Raises:
            ValueError: unknown key, or a start of the wrong shape or outside the observation space.

        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := sorted(set(options) - {"start"}):
            raise ValueError(f"options: expected keys among ['start'], got {unknown}")
        if "start" in options:
            self.position = checked_vector("start", options["start"], self.observation_space)
        else:
            self.position = self.np_random.normal(START, NOISE)
        self.trace = [self.position]
        return self.position.copy(), {}

    def step(self, action: NDArray[Any] | Sequence[float]) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take `action` (1,), clipped to the action space; the reward is the new y.

        Raises:
            ValueError: an action of another shape or with non-finite values.

        """
        vector = np.asarray(action, dtype=np.float64)
        if vector.shape != self.action_space.shape or not np.all(np.isfinite(vector)):
            raise ValueError(f"action: expected 1 finite number, got {action!r}")
        self.position = transition(self.position, vector, self.np_random)
        self.trace.append(self.position)
        return self.position.copy(), float(self.position[1]), False, False, {}

    def render(self) -> NDArray[np.uint8] | None:
        """Picture (256, 256, 3) of the lanes, the path so far and the point."""
        if self.render_mode is None:
            return None
        canvas = drawing.Canvas(extent=1.12)
        bends = np.repeat(FORKS, 2) + STEP / 2 * np.tile([-1, 1], len(FORKS))
        for lane in range(2 ** len(FORKS)):
            middles = [lane_centres(n)[lane >> (len(FORKS) - n)] for n in range(len(FORKS) + 1)]
            xs = np.concatenate([_LOW[:1], bends, _HIGH[:1]])
            canvas.line(np.stack([xs, np.repeat(middles, 2)], axis=-1), drawing.GHOST, width=0.05)
        canvas.line(self.trace, drawing.TRACE, width=0.025)
        canvas.disc(self.position, 0.045, drawing.AGENT)
        return canvas.array()


def transition(states: ArrayLike, actions: ArrayLike, generator: np.random.Generator) -> Array:
    """Draw the next states of `states` (..., 2) under `actions` (..., 1), clipped: one step of the environment.

    The noise-free advance decides when a fork is crossed: fork i in the step from x with `x < FORKS[i] <= x + STEP`.

    Raises:
        ValueError: states or actions of another shape.

    """
    states, actions = np.asarray(states, np.float64), np.asarray(actions, np.float64)
    if states.ndim == 0 or states.shape[-1] != 2:
        raise ValueError(f"states: expected shape (..., 2), got shape {states.shape}")
    if actions.shape != (*states.shape[:-1], 1):
        raise ValueError(f"actions: expected shape {(*states.shape[:-1], 1)}, got shape {actions.shape}")
    up = generator.uniform(size=states.shape[:-1]) < _up_probability(actions[..., 0])
    noise = generator.normal(scale=NOISE, size=states.shape)
    behind, _, middle = _lane(states)
    advanced = states[..., 0] + STEP
    section = np.searchsorted(_FORKS, advanced, side="right")
    turn = np.where(section > behind, np.where(up, 1.0, -1.0) * _NEXT_JUMP[behind], 0.0)
    y = middle + turn + RELAXATION * (states[..., 1] - middle) + noise[..., 1]
    # Noise must not carry a point over a fork: from starts close to one it could be crossed twice or never.
    end = np.nextafter(_EDGES[section + 1], -np.inf)
    x = np.minimum(np.maximum(advanced + noise[..., 0], _EDGES[section]), end)
    return np.minimum(np.maximum(np.stack([x, y], axis=-1), _LOW), _HIGH)


def lane_centres(forks: int) -> Array:
    """The y (2**forks,) of the middles of the lanes after `forks` forks, ascending: index k is lane k.

    Raises:
        ValueError: `forks` is not one of the possible numbers of passed forks.

    """
    if forks not in range(len(FORKS) + 1):
        raise ValueError(f"forks: expected a whole number from 0 to {len(FORKS)}, got {forks!r}")
    centres = np.zeros(1)
    for jump in JUMPS[:forks]:
        centres = (centres[:, None] + np.array([-jump, jump])).ravel()
    return centres


def mode_of(states: ArrayLike, tolerance: float = TOLERANCE) -> Indices:
    """The lane (...) of each of `states` (..., 2), or -1 if it is in none.

    Lanes are those after the forks that the state's own x has passed, so only states between the same forks compare.

    Args:
        states: states (x, y); one with NaN is in no lane.
        tolerance: largest distance in y from the middle of a lane that counts as in it.

    Raises:
        ValueError: states of another shape, or a tolerance that is not positive and finite.

    """
    try:
        points = np.asarray(states, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"states: expected numbers of shape (..., 2), got {states!r}") from None
    if points.ndim == 0 or points.shape[-1] != 2:
        raise ValueError(f"states: expected shape (..., 2), got shape {points.shape}")
    if not isinstance(tolerance, Real) or not 0 < tolerance < np.inf:
        raise ValueError(f"tolerance: expected a positive, finite number, got {tolerance!r}")
    _, lane, middle = _lane(points)
    inside = (np.abs(points[..., 1] - middle) <= tolerance) & ~np.isnan(points[..., 0])
    return np.where(inside, lane, -1.0).astype(np.int64)


def mode_probabilities(actions: ArrayLike, x: ArrayLike = START[0], y: ArrayLike = START[1]) -> Array:
    """The true probability of each lane at the end of action sequences: (N, 2**forks), numbered as by `mode_of`.

    `forks` is the number of forks passed at the end, including those before the start, whose branches follow from y.
    Forks are crossed by the noise-free advance. This is exact if mean positions are as far from the forks as those
    from `START`, so for every state of a default episode.

    Args:
        actions: sequences (N, T) or (N, T, 1), clipped; N and T at least 1.
        x, y: starts of the sequences, () or (N,) each.

    Raises:
        ValueError: another shape, non-finite values, or starts from which sequences pass different numbers of forks.

    """
    actions = _finite("actions", actions)
    if actions.ndim == 3 and actions.shape[-1] == 1:
        actions = actions[..., 0]
    if actions.ndim != 2 or actions.size == 0:
        raise ValueError(
            f"actions: expected shape (N, T) or (N, T, 1), N and T at least 1, got {np.shape(actions)}"
        )
    starts = np.stack([_per_sequence("x", x, len(actions)), _per_sequence("y", y, len(actions))], axis=-1)
    # Steps before the one that crosses each fork (N, forks), negative if the start has passed the fork.
    crossing = np.ceil((_FORKS - starts[:, :1]) / STEP) - 1
    behind, chosen, _ = _lane(starts)
    ends = np.count_nonzero(crossing < actions.shape[1], axis=1)
    if ends.min() != ends.max():
        raise ValueError(
            f"x: expected starts from which {actions.shape[1]} steps end behind equally many forks, "
            f"got ends behind {ends.min()} to {ends.max()}"
        )
    forks = int(ends[0])
    lanes = np.arange(2**forks)
    probabilities = np.where(lanes >> (forks - behind)[:, None] == chosen[:, None], 1.0, 0.0)
    for i in range(forks):
        step = np.maximum(crossing[:, i : i + 1], 0).astype(np.int64)
        up = _up_probability(np.take_along_axis(actions, step, axis=1))
        turn = np.where(lanes >> (forks - 1 - i) & 1, up, 1 - up)
        probabilities *= np.where(crossing[:, i : i + 1] < 0, 1.0, turn)
    return probabilities


def _lane(states: Array) -> tuple[Indices, Array, Array]:
    """Forks passed by `states` (..., 2), and index (NaN if y is NaN) and middle of the nearest lane: each (...)."""
    behind = np.asarray(np.searchsorted(_FORKS, states[..., 0], side="right"))
    top, spacing = _TOP[behind], _SPACING[behind]
    index = np.rint((states[..., 1] + top) / spacing)
    index = np.minimum(np.maximum(index, 0.0), 2.0**behind - 1)
    return behind, index, index * spacing - top


def _up_probability(actions: Array) -> Array:
    return 0.5 + SWAY * np.minimum(np.maximum(actions, -1.0), 1.0)


def _finite(argument: str, value: ArrayLike) -> Array:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{argument}: expected numbers, got {value!r}") from None
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{argument}: expected finite numbers, got {value!r}")
    return array


def _per_sequence(argument: str, value: ArrayLike, count: int) -> Array:
    array = _finite(argument, value)
    if array.shape not in ((), (count,)):
        raise ValueError(f"{argument}: expected one number or shape ({count},), got shape {array.shape}")
    return np.broadcast_to(array, (count,))
