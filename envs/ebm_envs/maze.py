"""`ebm/Maze-v0`: a point in an S-shaped corridor."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ebm_envs.base import Array
from ebm_envs.point import PointEnv

_LIMIT = 0.99
_WALLS = np.array(
    [
        [(-0.5, -1.0), (-1e-9, 0.25)],  # x = 0 itself is open
        [(0.5, -0.25), (1.0, 1.0)],
        [(-1.1, -1.1), (-_LIMIT, 1.1)],
        [(_LIMIT, -1.1), (1.1, 1.1)],
        [(-1.1, -1.1), (1.1, -_LIMIT)],
        [(-1.1, _LIMIT), (1.1, 1.1)],
    ]
)


class MazeEnv(PointEnv):
    """An S-shaped maze of four columns. The arguments are those of `PointEnv`.

    Open space: |x|, |y| < 0.99, and x in [-1, -0.5) or [0, 0.5), or y > 0.25 for x in [-0.5, 0), or y < −0.25 for x in
    [0.5, 1). From the default start, (−0.45, 0.8) is behind one bend, and (0.7, −0.8), the default goal, behind all.
    """

    walls: ClassVar[Array] = _WALLS

    def __init__(
        self,
        start: ArrayLike = (-0.85, -0.85),
        goal: ArrayLike = (0.7, -0.8),
        obstacles: ArrayLike | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(start, goal, obstacles, render_mode)
