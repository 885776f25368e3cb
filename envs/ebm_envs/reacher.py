"""`ebm/Reacher-v0`: a planar arm with two links that turn without limits (MuJoCo)."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebm_envs import drawing
from ebm_envs.arm import ArmEnv, model_of
from ebm_envs.base import Array, box_space, checked_vector, wrap

ENV = "ebm/Reacher-v0"

GOAL = (0.7, 0.5)
"""The default goal: angles / π."""

SUCCESS = 0.1
"""Largest final distance of an episode that counts as solved: wrapped L1 of the angles / π."""

FRAME_SKIP = 2
"""Simulator steps of 0.01 s per action."""

VELOCITY_SCALE = 10.0
"""Radians per second in one unit of observed velocity."""

_LINKS = (0.1, 0.11)


def load_model() -> mujoco.MjModel:
    """A new MuJoCo model of the arm: 2 hinges, 2 motors, timestep 0.01 s."""
    return model_of("reacher.xml")


def observe(qpos: ArrayLike, qvel: ArrayLike) -> Array:
    """Observation (..., 4) of joint angles (..., 2) in radians and velocities (..., 2) in radians per second.

    Angles are divided by π and wrapped to [-1, 1), velocities divided by 10.
    """
    angles = wrap(np.asarray(qpos, np.float64) / np.pi, (2.0, 2.0))
    return np.concatenate([angles, np.asarray(qvel, np.float64) / VELOCITY_SCALE], axis=-1)


def physical_state(observation: ArrayLike) -> tuple[Array, Array]:
    """Angles in radians and velocities in radians per second, both (..., 2), of an observation (..., 4)."""
    observation = np.asarray(observation, np.float64)
    return observation[..., :2] * np.pi, observation[..., 2:] * VELOCITY_SCALE


def spread_starts(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Starts for data collection: angles in radians and velocities in radians per second, (n, 2) each.

    Angles are uniform over the circle; velocities are normal with a std that is itself uniform up to 8, so that
    they cover the velocities of planned motion.
    """
    angles = rng.uniform(-np.pi, np.pi, (n, 2))
    speed = 8 * rng.uniform(0, 1, (n, 1))
    return angles, speed * rng.standard_normal((n, 2))


def checked_start(argument: str, value: ArrayLike) -> Array:
    """An arm's state (4,) in observation units from its 2 angles (at rest) or all 4 values.

    Raises:
        ValueError: another shape, angles outside [-1, 1], non-finite values.

    """
    given = np.shape(value)
    if given not in ((2,), (4,)):
        raise ValueError(f"{argument}: expected 2 angles or 2 angles and 2 velocities, got shape {given}")
    largest = np.finfo(np.float64).max
    size = given[0]
    high = np.array([1.0, 1.0, largest, largest])[:size]
    state = np.zeros(4)
    state[:size] = checked_vector(argument, value, box_space(-high, high))
    return state


class ReacherEnv(ArmEnv):
    """Turn two joints to goal angles by their torques, in either direction.

    Observation: 2 joint angles / π, wrapped to [-1, 1), and 2 velocities / 10. Goals are angles / π. Actions are
    torques in [-1, 1], constant for 0.02 s.

    Args:
        start: mean start of episodes: 2 angles (at rest) or angles and velocities, in observation units; or "random":
            angles uniform over the circle, at rest.
        goal: 2 angles / π, or "random": uniform in [-1, 1)², drawn at each reset.
        start_noise: half-width in radians of the uniform noise on the angles of `start`. A start given as a reset
            option gets no noise.
        render_mode: None or "rgb_array".

    Raises:
        ValueError: a start or goal of the wrong shape or outside its space; a negative `start_noise`.

    """

    observation_periods = (2.0, 2.0, 0.0, 0.0)
    goal_periods = (2.0, 2.0)
    observe = staticmethod(observe)
    physical_state = staticmethod(physical_state)
    checked_start = staticmethod(checked_start)
    frame_skip = FRAME_SKIP
    angle_unit = np.pi

    def __init__(
        self,
        start: ArrayLike = (0.0, 0.0),
        goal: ArrayLike = GOAL,
        start_noise: float = 0.1,
        render_mode: str | None = None,
    ) -> None:
        unbounded = (1.0, 1.0, np.inf, np.inf)
        super().__init__(
            box_space(np.negative(unbounded), unbounded),
            box_space([-1, -1], [1, 1]),
            load_model(),
            start,
            goal,
            start_noise,
            render_mode,
        )

    def render(self) -> NDArray[np.uint8] | None:
        """Picture (256, 256, 3) of the arm, the fingertip's path and, in a pale colour, the arm at its goal."""
        if self.render_mode is None:
            return None
        canvas = drawing.Canvas(extent=0.24)
        goal = _joints(self.goal * np.pi)
        canvas.line(goal, drawing.GHOST, width=0.02)
        canvas.ring(goal[-1], 0.014, drawing.GOAL)
        canvas.line(self.trace, drawing.TRACE, width=0.004)
        arm = _joints(self.data.qpos)
        canvas.line(arm, drawing.LINK, width=0.02)
        for joint in arm[:-1]:
            canvas.disc(joint, 0.013, drawing.JOINT)
        canvas.disc(arm[-1], 0.009, drawing.PAPER)
        return canvas.array()

    def _posture(self) -> Array:
        return self.np_random.uniform(-1, 1, size=2)

    def _random_goal(self, qpos: Array) -> Array:
        return self.np_random.uniform(-1, 1, size=2)

    def _achieved(self) -> Array:
        return self._state()[:2]

    def _place(self) -> Array:
        return _joints(self.data.qpos)[-1]


def _joints(qpos: Array) -> Array:
    """Shoulder, elbow and fingertip in the plane, (3, 2)."""
    directions = np.cumsum(qpos)
    links = np.array(_LINKS)[:, None] * np.stack([np.cos(directions), np.sin(directions)], axis=-1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(links, axis=0)])
