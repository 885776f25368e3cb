"""`ebm/Particle-v0`: a point in an open square."""

from __future__ import annotations

from numpy.typing import ArrayLike

from ebm_envs.point import PointEnv


class ParticleEnv(PointEnv):
    """The plane without walls. Obstacles are given as an argument or reset option; arguments are those of `PointEnv`.

    From (0, 0) to (0.5, 0.5) no policy has a return above −4.5.
    """

    def __init__(
        self,
        start: ArrayLike = (0.0, 0.0),
        goal: ArrayLike = (0.5, 0.5),
        obstacles: ArrayLike | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(start, goal, obstacles, render_mode)
