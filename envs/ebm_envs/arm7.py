"""`ebm/Arm7-v0`: an arm with seven joints and human proportions that reaches for points in space (MuJoCo)."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebm_envs import drawing
from ebm_envs.arm import ArmEnv, model_of
from ebm_envs.base import Array, box_space, checked_vector

FRAME_SKIP = 2
"""Simulator steps of 0.01 s per action."""

VELOCITY_SCALE = 10.0
"""Radians per second in one unit of observed velocity."""

TOP_SPEED = 5.0
"""Steady-state speed in radians per second of a joint under full torque and its damping."""

REACH = 0.76
"""Largest distance in metres of the fingertip from the shoulder."""

LIMITS: Array = np.array(
    [[-1.8, 1.8], [-1.4, 1.4], [-1.6, 1.6], [0.0, 2.5], [-1.6, 1.6], [-1.2, 1.2], [-1.6, 1.6]]
)
"""Lowest and highest angle (7, 2) in radians of shoulder pan, shoulder lift, upper-arm roll, elbow flex, forearm
roll, wrist flex and wrist roll. The limits are soft: motion may carry a joint about 0.2 rad beyond."""

NEUTRAL: Array = np.array([0.0, -0.6, 0.0, 1.4, 0.0, 0.0, 0.0])
"""Angles (7,) of the default start: the elbow bent, the upper arm down, the hand ahead."""

JOINTS = len(LIMITS)
_GIVE = 0.5  # radians that a start may be beyond the limits, as observations of moving arms can be
_GOAL_GAP = 0.15  # metres between the start and a random goal

# The plane in which each joint turns, from one axis to another, and the vectors of upper arm, forearm and hand.
_YAW, _PITCH, _ROLL = (0, 1), (0, 2), (1, 2)
_LINKS = (
    ((_YAW, _PITCH, _ROLL), (0.3, 0.0, 0.0)),
    ((_PITCH, _ROLL), (0.27, 0.0, 0.0)),
    ((_PITCH, _ROLL), (0.17, 0.0, 0.07)),
)


def load_model() -> mujoco.MjModel:
    """A new MuJoCo model of the arm: 7 hinges, 7 motors, timestep 0.01 s."""
    return model_of("arm7.xml")


def joint_points(qpos: ArrayLike) -> Array:
    """Shoulder, elbow, wrist and fingertip (..., 4, 3) in metres at angles `qpos` (..., 7) in radians."""
    qpos = np.asarray(qpos, np.float64)
    points = np.zeros((*qpos.shape[:-1], 1, 3))
    joint = JOINTS
    # From the fingertip inwards: each link is put before the points computed so far, and then turns all of them.
    for planes, link in reversed(_LINKS):
        points = np.concatenate([np.zeros_like(points[..., :1, :]), points + link], axis=-2)
        for plane in reversed(planes):
            joint -= 1
            points = _turned(points, qpos[..., joint, None], plane)
    return points


def observe(qpos: ArrayLike, qvel: ArrayLike) -> Array:
    """Observation (..., 17) of joint angles (..., 7) in radians and velocities (..., 7) in radians per second.

    It contains the angles in radians, the velocities divided by 10, and the fingertip's position in metres.
    """
    qpos, qvel = np.asarray(qpos, np.float64), np.asarray(qvel, np.float64)
    return np.concatenate([qpos, qvel / VELOCITY_SCALE, joint_points(qpos)[..., -1, :]], axis=-1)


def physical_state(observation: ArrayLike) -> tuple[Array, Array]:
    """Angles in radians and velocities in radians per second, both (..., 7), of an observation (..., 17).

    Only the first 14 coordinates are used.
    """
    observation = np.asarray(observation, np.float64)
    return observation[..., :JOINTS], observation[..., JOINTS : 2 * JOINTS] * VELOCITY_SCALE


def spread_starts(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Starts for data collection, angles and velocities (n, 7): all postures, from rest to `TOP_SPEED`.

    Angles are uniform over `LIMITS`; velocities are uniform up to a top speed that is itself uniform up to
    `TOP_SPEED`, so that slow motion, where plans end, is as frequent as fast motion.
    """
    angles = rng.uniform(LIMITS[:, 0], LIMITS[:, 1], size=(n, JOINTS))
    fastest = rng.uniform(0, TOP_SPEED, size=(n, 1))
    return angles, fastest * rng.uniform(-1, 1, size=(n, JOINTS))


def checked_start(argument: str, value: ArrayLike) -> Array:
    """An arm's state (14,) in observation units from 7 angles (at rest), 7 angles and 7 velocities, or an observation.

    The fingertip of an observation (17,) is dropped, because the angles determine it.

    Raises:
        ValueError: another shape, angles more than 0.5 rad outside `LIMITS`, non-finite values.

    """
    given = np.shape(value)
    if given not in ((JOINTS,), (2 * JOINTS,), (2 * JOINTS + 3,)):
        raise ValueError(
            f"{argument}: expected {JOINTS} angles, {JOINTS} angles and {JOINTS} velocities, or an observation, "
            f"got {value!r}"
        )
    low, high = LIMITS[:, 0] - _GIVE, LIMITS[:, 1] + _GIVE
    largest = np.full(given[0] - JOINTS, np.finfo(np.float64).max)
    space = box_space(np.concatenate([low, -largest]), np.concatenate([high, largest]))
    state = np.zeros(2 * JOINTS)
    numbers = checked_vector(argument, value, space)[: 2 * JOINTS]
    state[: len(numbers)] = numbers
    return state


class Arm7Env(ArmEnv):
    """Move the fingertip of an arm to a point in space by the torques of seven joints, without gravity.

    Observation: 7 joint angles in radians, 7 velocities / 10, and the fingertip's x (ahead), y (left) and z (up)
    from the shoulder in metres. Goals are fingertip positions. Actions are torques in [-1, 1], constant for 0.02 s.
    The reward is -10 times the Euclidean distance to the goal; a distance within 0.05 m is success.

    Args:
        start: mean start of episodes: 7 angles (at rest), angles and velocities, or an observation; or "random":
            angles uniform over `LIMITS`, at rest.
        goal: position (3,) of the fingertip, or "random", drawn at each reset: reachable by a posture within
            `LIMITS`, and at least 0.15 m from the start.
        start_noise: half-width in radians of the uniform noise on the angles of `start`. A start given as a reset
            option gets no noise.
        render_mode: None or "rgb_array".

    Raises:
        ValueError: a start or goal of the wrong shape or outside its space; a negative `start_noise`.

    """

    reward_scale = 10.0
    observation_periods = (0.0,) * (2 * JOINTS + 3)
    goal_periods = (0.0,) * 3
    observe = staticmethod(observe)
    physical_state = staticmethod(physical_state)
    checked_start = staticmethod(checked_start)
    frame_skip = FRAME_SKIP

    def __init__(
        self,
        start: ArrayLike = tuple(NEUTRAL),
        goal: ArrayLike = "random",
        start_noise: float = 0.05,
        render_mode: str | None = None,
    ) -> None:
        reachable = np.full(3, REACH)
        high = np.concatenate([np.full(2 * JOINTS, np.inf), reachable])
        super().__init__(
            box_space(-high, high),
            box_space(-reachable, reachable),
            load_model(),
            start,
            goal,
            start_noise,
            render_mode,
        )

    def distance(self, achieved: ArrayLike, desired: ArrayLike) -> Array:
        """Euclidean distance in metres of fingertip positions `(..., 3) -> (...)`."""
        difference = np.asarray(achieved, np.float64) - np.asarray(desired, np.float64)
        return np.asarray(np.linalg.norm(difference, axis=-1))

    def render(self) -> NDArray[np.uint8] | None:
        """Picture (256, 512, 3): the arm from above (x right, y up) and from its right (x right, z up).

        Links nearer to the viewer are darker.
        """
        if self.render_mode is None:
            return None
        above, right = np.eye(3), np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
        return np.concatenate([self._view(above), self._view(right)], axis=1)

    def _view(self, axes: Array) -> NDArray[np.uint8]:
        """Orthographic picture (256, 256, 3); rows of `axes` (3, 3) point right, up and to the viewer."""
        canvas = drawing.Canvas(extent=0.8)
        canvas.ring((axes @ self.goal)[:2], self.success_distance, drawing.GOAL)
        canvas.line((np.array(self.trace) @ axes.T)[:, :2], drawing.TRACE, width=0.012)
        points = joint_points(self.data.qpos) @ axes.T
        nearness = (points[:-1, 2] + points[1:, 2]) / 2
        for link in np.argsort(nearness):
            canvas.line(points[link : link + 2, :2], _shade(nearness[link]), width=0.06)
            canvas.disc(points[link, :2], 0.034, drawing.JOINT)
        canvas.disc(points[-1, :2], 0.022, drawing.PAPER)
        return canvas.array()

    def _posture(self) -> Array:
        return self.np_random.uniform(LIMITS[:, 0], LIMITS[:, 1])

    def _random_goal(self, qpos: Array) -> Array:
        """A reachable position (3,) at least `_GOAL_GAP` from the fingertip; the first draw nearly always fits."""
        fingertip = joint_points(qpos)[-1]
        while True:
            goal = joint_points(self._posture())[-1]
            if self.distance(goal, fingertip) >= _GOAL_GAP:
                return goal

    def _achieved(self) -> Array:
        return joint_points(self.data.qpos)[-1]

    _place = _achieved


def _turned(points: Array, angle: Array, plane: tuple[int, int]) -> Array:
    """`points` (..., k, 3) turned by `angle` (..., 1) in the plane from its first axis to its second."""
    a, b = plane
    cos, sin = np.cos(angle), np.sin(angle)
    turned = points.copy()
    turned[..., a] = cos * points[..., a] - sin * points[..., b]
    turned[..., b] = sin * points[..., a] + cos * points[..., b]
    return turned


def _shade(nearness: float) -> drawing.Colour:
    """Colour of a link: dark at `REACH` towards the viewer, pale at `REACH` away."""
    share = np.clip((nearness / REACH + 1) / 2, 0, 1)
    dark, pale = np.array(drawing.LINK), np.array(drawing.TRACE)
    red, green, blue = (int(c) for c in np.rint(share * dark + (1 - share) * pale))
    return red, green, blue
