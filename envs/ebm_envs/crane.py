"""`ebm/Crane-v0`: a cart that brings a swinging load to a target, by a motor with a state of its own (MuJoCo)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from ebm_envs import drawing
from ebm_envs.arm import model_of
from ebm_envs.base import Array, box_space, checked_vector, wrap

FRAME_SKIP = 5
"""Simulator steps of 0.01 s per action."""

ROPE = 0.8
"""Metres from the cart to the load."""

REACH = 1.0
"""Largest distance in metres of starts and targets from the middle of the rail, which ends at 1.5 m."""

SWING = 0.2
"""Largest angle of the rope in radians at the start of an episode."""

SUCCESS = 0.05
"""Largest distance of the load from its target in metres that counts as success."""

_ACTIVATION = 4  # its coordinate in the observation
_LARGEST = np.finfo(np.float64).max
_FREE = np.array([_LARGEST, _LARGEST, _LARGEST, _LARGEST, 1.0])


def load_model() -> mujoco.MjModel:
    """A new MuJoCo model: a slide, a hinge, and a motor whose activation follows its control; timestep 0.01 s."""
    return model_of("crane.xml")


def offset(qpos: ArrayLike, target: ArrayLike) -> Array:
    """Vector (..., 2) in metres, sideways and up, from the target, at rest under `target` (...), to the load.

    Args:
        qpos: (..., 2), the cart's position and the rope's angle.
        target: position of the target on the rail.

    """
    cart, angle = np.moveaxis(np.asarray(qpos, np.float64), -1, 0)
    return np.stack([cart + ROPE * np.sin(angle) - target, ROPE * (1 - np.cos(angle))], axis=-1)


def observe(qpos: ArrayLike, qvel: ArrayLike, act: ArrayLike, target: ArrayLike) -> Array:
    """Observation (..., 6) of position and angle (..., 2), their velocities (..., 2), activation (..., 1) and target.

    The angle is wrapped to [-π, π).
    """
    wrapped = wrap(qpos, (0.0, 2 * np.pi))
    at = np.broadcast_to(np.asarray(target, np.float64)[..., None], (*wrapped.shape[:-1], 1))
    return np.concatenate([wrapped, qvel, act, at], axis=-1)


def checked_start(argument: str, value: ArrayLike) -> Array:
    """A crane's state (5,) from its position and angle (at rest) or all 5 values.

    Raises:
        ValueError: another shape, an activation outside [-1, 1], non-finite values.

    """
    given = np.shape(value)
    if given not in ((2,), (5,)):
        raise ValueError(f"{argument}: expected a position and an angle, or 5 numbers, got shape {given}")
    state = np.zeros(5)
    high = _FREE[: given[0]]
    state[: given[0]] = checked_vector(argument, value, box_space(-high, high))
    return state


class CraneEnv(gym.Env[Array, NDArray[Any]]):
    """Bring a hanging load to a target and keep it still there, by the force on the cart.

    Observation, float64: position of the cart in metres, angle of the rope in radians in [-π, π), their velocities, the
    motor's activation, and the target's position. The action in [-1, 1], clipped, is the motor's control for 0.05 s.
    Its force is 8 N times the activation, which approaches the control with a time constant of 0.15 s. The reward is
    minus the load's distance in metres from its place at rest under the target. Episodes end only by the registered
    step limit; `info` has `distance` and `is_success` (distance at most 0.05).

    Episodes start at rest, with the cart and the target uniform within 1 m of the middle and the angle within 0.2.

    Args:
        hide_actuator: leave the activation out of the observation, which then does not describe the state.
        render_mode: None or "rgb_array".

    Attributes:
        observation_periods: period of each observation coordinate, 0 if it is not periodic.

    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}  # type: ignore[misc]
    frame_skip = FRAME_SKIP
    observation_periods: tuple[float, ...]

    def __init__(self, hide_actuator: bool = False, render_mode: str | None = None) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode: expected None or 'rgb_array', got {render_mode!r}")
        self.hide_actuator, self.render_mode = hide_actuator, render_mode
        high = np.array([np.inf, np.pi, np.inf, np.inf, *([] if hide_actuator else [1.0]), REACH])
        self.observation_space: spaces.Box = box_space(-high, high)  # type: ignore[assignment]
        self.action_space: spaces.Box = spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)
        self.observation_periods = (0.0, 2 * np.pi, *[0.0] * (len(high) - 2))
        self.model = load_model()
        self.data = mujoco.MjData(self.model)
        self.target = 0.0
        self.trace: list[Array] = []  # positions of the load in this episode, for drawing

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: seeds `np_random`.
            options: `start`, the cart's position and the rope's angle (at rest), or these, their velocities and the
                motor's activation; `target`, a position.

        Returns:
            Observation and info.

        Raises:
            ValueError: unknown key, or a start or target of the wrong shape or outside its space.

        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := sorted(set(options) - {"start", "target"}):
            raise ValueError(f"options: expected keys among ['start', 'target'], got {unknown}")
        drawn = self.np_random.uniform(-1, 1, size=3) * (REACH, SWING, REACH)
        state = checked_start("start", options.get("start", drawn[:2]))
        target = np.reshape(options.get("target", drawn[2]), -1)
        self.target = float(checked_vector("target", target, box_space([-REACH], [REACH]))[0])
        mujoco.mj_resetData(self.model, self.data)
        self.set_state(state[:2], state[2:4], state[4:])
        self.trace = [self._load()]
        return self._observation(), self._info()

    def set_state(self, qpos: ArrayLike, qvel: ArrayLike, act: ArrayLike) -> None:
        """Set position and angle (2,), their velocities (2,) and the motor's activation (1,)."""
        self.data.qpos[:], self.data.qvel[:], self.data.act[:] = qpos, qvel, act
        mujoco.mj_forward(self.model, self.data)

    def step(self, action: NDArray[Any] | Sequence[float]) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take `action` (1,), clipped to the action space; the reward is that of the state it leads to.

        Raises:
            ValueError: an action of another shape or with non-finite values.

        """
        vector = np.asarray(action, dtype=np.float64)
        if vector.shape != (1,) or not np.all(np.isfinite(vector)):
            raise ValueError(f"action: expected 1 finite number, got {action!r}")
        self.data.ctrl[:] = np.clip(vector, -1, 1)
        mujoco.mj_step(self.model, self.data, FRAME_SKIP)
        self.trace.append(self._load())
        info = self._info()
        return self._observation(), -info["distance"], False, False, info

    def render(self) -> NDArray[np.uint8] | None:
        """Picture (256, 256, 3) of the rail, the cart, the load with its path, and the target."""
        if self.render_mode is None:
            return None
        canvas = drawing.Canvas(extent=1.8)
        cart, half = np.array([self.data.qpos[0], 0.0]), np.array([0.14, 0.07])
        canvas.line([(-1.5, 0), (1.5, 0)], drawing.WALL, width=0.03)
        canvas.ring(np.array([self.target, -ROPE]), 0.13, drawing.GOAL)
        canvas.line(self.trace, drawing.TRACE, width=0.02)
        canvas.line([cart, self._load()], drawing.JOINT, width=0.03)
        canvas.box(cart - half, cart + half, drawing.LINK)
        canvas.disc(self._load(), 0.08, drawing.OBSTACLE)
        return canvas.array()

    def _observation(self) -> Array:
        seen = observe(self.data.qpos, self.data.qvel, self.data.act, self.target)
        return np.delete(seen, _ACTIVATION) if self.hide_actuator else seen

    def _info(self) -> dict[str, Any]:
        distance = float(np.linalg.norm(offset(self.data.qpos, self.target)))
        return {"distance": distance, "is_success": distance <= SUCCESS}

    def _load(self) -> Array:
        return offset(self.data.qpos, 0.0) - (0.0, ROPE)
