"""A point that moves in the plane by bounded displacements among boxes that block it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebm_envs import drawing
from ebm_envs.base import Array, GoalEnv, box_space, checked_vector

MAX_STEP = 0.05
"""Largest displacement per axis and step."""


def segments_blocked(start: ArrayLike, end: ArrayLike, boxes: ArrayLike) -> NDArray[np.bool_]:
    """Mask (...) of segments `start` (..., 2) to `end` (..., 2) that meet any of the closed `boxes` (n, 2, 2).

    `boxes[i]` is a pair of corners `(low, high)`. A segment of length 0 tests a point. By the separating axis
    theorem, with the axes x, y and the segment's normal.
    """
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    middle, half = (start + end) / 2, np.abs(end - start) / 2
    normal = np.stack([start[..., 1] - end[..., 1], end[..., 0] - start[..., 0]], axis=-1) / 2
    blocked = np.zeros(middle.shape[:-1], dtype=bool)
    for low, high in np.asarray(boxes, np.float64).reshape(-1, 2, 2):
        offset, extent = middle - (low + high) / 2, (high - low) / 2
        meets = np.all(np.abs(offset) <= extent + half, axis=-1)
        meets &= np.abs((normal * offset).sum(-1)) <= (np.abs(normal) * extent).sum(-1)
        blocked |= meets
    return blocked


def checked_boxes(argument: str, boxes: ArrayLike | None) -> Array:
    """`boxes` as an array (n, 2, 2) of corners `(low, high)`; None or an empty sequence means none.

    Raises:
        ValueError: another shape, or a box whose low corner is not below its high corner.

    """
    array = np.array([] if boxes is None else boxes, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 2, 2))
    if array.ndim != 3 or array.shape[1:] != (2, 2):
        raise ValueError(f"{argument}: expected shape (n, 2, 2) of (low, high) corners, got {array.shape}")
    if not np.all(array[:, 0] < array[:, 1]):
        raise ValueError(f"{argument}: expected every low corner below its high corner, got {array.tolist()}")
    return array


class PointEnv(GoalEnv):
    """A point in [-1, 1]² that an action displaces by at most 0.05 per axis.

    A move whose segment meets a wall or an obstacle is not made; at the edge of the plane each axis is clipped.

    Args:
        start: first position, or "random": uniform over the free plane, drawn at each reset.
        goal: goal, or "random", drawn in the same way.
        obstacles: boxes (n, 2, 2) of corners `(low, high)` that block moves.
        render_mode: None or "rgb_array".

    Raises:
        ValueError: a start or goal of the wrong shape, outside the plane or inside a box; malformed obstacles.

    """

    options: ClassVar[frozenset[str]] = frozenset({"start", "goal", "obstacles"})
    walls: ClassVar[Array] = np.zeros((0, 2, 2))
    observation_periods = goal_periods = (0.0, 0.0)

    def __init__(
        self,
        start: ArrayLike,
        goal: ArrayLike,
        obstacles: ArrayLike | None = None,
        render_mode: str | None = None,
    ) -> None:
        plane = box_space([-1, -1], [1, 1])
        super().__init__(plane, plane, MAX_STEP, render_mode)
        self._defaults = {"start": start, "goal": goal, "obstacles": obstacles}
        self.obstacles = checked_boxes("obstacles", obstacles)
        for argument, point in (("start", start), ("goal", goal)):
            if not _is_random(point):
                self._free_point(argument, point)

    @property
    def boxes(self) -> Array:
        """All walls and obstacles of this episode: (n, 2, 2)."""
        return np.concatenate([self.walls, self.obstacles])

    def dynamics(self, states: ArrayLike, actions: ArrayLike) -> Array:
        """Next states of `states` (..., 2) under `actions` (..., 2), clipped as in `step`."""
        states = np.asarray(states, np.float64)
        moves = np.clip(np.asarray(actions, np.float64), -self.max_action, self.max_action)
        ends = np.clip(states + moves, -1.0, 1.0)
        return np.where(segments_blocked(states, ends, self.boxes)[..., None], states, ends)

    def inverse_dynamics(self, states: ArrayLike, next_states: ArrayLike) -> Array:
        """Actions (..., 2) that lead from `states` to `next_states` (..., 2), the clipped displacement."""
        displacement = np.asarray(next_states, np.float64) - np.asarray(states, np.float64)
        return np.clip(displacement, -self.max_action, self.max_action)

    def sample_free(self, shape: int | tuple[int, ...] = ()) -> Array:
        """Points (*shape, 2) drawn uniformly, with `np_random`, outside of walls and obstacles.

        Raises:
            ValueError: obstacles that leave no or almost no free space.

        """
        shape = (shape,) if isinstance(shape, int) else shape
        points = self.np_random.uniform(-1, 1, size=(*shape, 2))
        for _ in range(1000):
            taken = segments_blocked(points, points, self.boxes)
            if not taken.any():
                return points
            points[taken] = self.np_random.uniform(-1, 1, size=(int(taken.sum()), 2))
        raise ValueError(f"obstacles: expected some of the plane to stay free, got {self.obstacles.tolist()}")

    def render(self) -> NDArray[np.uint8] | None:
        """Picture (256, 256, 3) of walls, obstacles, the path so far, the goal and the point."""
        if self.render_mode is None:
            return None
        canvas = drawing.Canvas(extent=1.02)
        for boxes, colour in ((self.walls, drawing.WALL), (self.obstacles, drawing.OBSTACLE)):
            for low, high in boxes:
                canvas.box(low, high, colour)
        canvas.line(self.trace, drawing.TRACE, width=0.025)
        canvas.ring(self.goal, 0.06, drawing.GOAL)
        canvas.disc(self.position, 0.045, drawing.AGENT)
        return canvas.array()

    def _begin(self, options: Mapping[str, Any]) -> None:
        chosen = {**self._defaults, **options}
        self.obstacles = checked_boxes("obstacles", chosen["obstacles"])
        self.position = self._free_point("start", chosen["start"])
        self.goal = self._free_point("goal", chosen["goal"])

    def _free_point(self, argument: str, value: ArrayLike) -> Array:
        if _is_random(value):
            return self.sample_free()
        point = checked_vector(argument, value, self.goal_space)
        if segments_blocked(point, point, self.boxes):
            raise ValueError(
                f"{argument}: expected a point outside walls and obstacles, got {point.tolist()}"
            )
        return point

    def _advance(self, action: Array) -> None:
        self.position = self.dynamics(self.position, action)

    def _state(self) -> Array:
        return self.position.copy()

    _achieved = _place = _state


def _is_random(value: object) -> bool:
    return isinstance(value, str) and value == "random"
