"""Base class of the MuJoCo arms: torques on joints, starts given by angles, fixed or random goals."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike

from ebm_envs.base import Array, GoalEnv, checked_vector, require_random


def model_of(asset: str) -> mujoco.MjModel:
    """A new MuJoCo model from the file `asset` in the package's `assets/`."""
    xml = resources.files("ebm_envs").joinpath("assets", asset).read_text(encoding="utf-8")
    return mujoco.MjModel.from_xml_string(xml)


class ArmEnv(GoalEnv):
    """An arm driven by one torque in [-1, 1] per joint, constant for `frame_skip` simulator steps.

    Args:
        observation: space of `observation`.
        goal_space: space of the goals.
        model: MuJoCo model with one motor per hinge.
        start: mean start of episodes, as `checked_start` accepts it; or "random": a random posture, at rest.
        goal: inside `goal_space`, or "random", drawn at each reset.
        start_noise: half-width in radians of the uniform noise on the angles of `start`. A start given as a reset
            option gets no noise.
        render_mode: None or "rgb_array".

    Attributes:
        observe: maps angles in radians and velocities in radians per second to an observation.
        physical_state: maps an observation to angles in radians and velocities in radians per second.
        checked_start: maps a start to a state in observation units, the angles first; takes the argument's name too.
        frame_skip: simulator steps per action.
        angle_unit: radians in one unit of an observed angle.

    Raises:
        ValueError: a start or goal of the wrong shape or outside its space; a negative `start_noise`.

    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 50}  # type: ignore[misc]
    observe: Callable[[ArrayLike, ArrayLike], Array]
    physical_state: Callable[[ArrayLike], tuple[Array, Array]]
    checked_start: Callable[[str, ArrayLike], Array]
    frame_skip: ClassVar[int]
    angle_unit: ClassVar[float] = 1.0

    def __init__(
        self,
        observation: spaces.Box,
        goal_space: spaces.Box,
        model: mujoco.MjModel,
        start: ArrayLike,
        goal: ArrayLike,
        start_noise: float,
        render_mode: str | None,
    ) -> None:
        super().__init__(observation, goal_space, 1.0, render_mode, actions=model.nu)
        if not start_noise >= 0:
            raise ValueError(f"start_noise: expected radians, 0 or more, got {start_noise}")
        self.start_noise = start_noise
        self._start = start if isinstance(start, str) else self.checked_start("start", start)
        self._goal = goal if isinstance(goal, str) else checked_vector("goal", goal, goal_space)
        self.model = model
        self.data = mujoco.MjData(model)

    def set_state(self, qpos: ArrayLike, qvel: ArrayLike) -> None:
        """Set the arm's angles `qpos` (joints,) in radians and velocities `qvel` (joints,) in radians per second."""
        self.data.qpos[:] = qpos
        self.data.qvel[:] = qvel
        mujoco.mj_forward(self.model, self.data)

    def _begin(self, options: Mapping[str, Any]) -> None:
        start, goal = options.get("start", self._start), options.get("goal", self._goal)
        joints = self.model.nq
        if isinstance(start, str):
            require_random("start", start)
            state = np.concatenate([self._posture(), np.zeros(joints)])
        else:
            state = self.checked_start("start", start)
            if "start" not in options:
                noise = self.np_random.uniform(-1, 1, size=joints) * self.start_noise
                state[:joints] += noise / self.angle_unit
        qpos, qvel = self.physical_state(state)
        if isinstance(goal, str):
            require_random("goal", goal)
            goal = self._random_goal(qpos)
        self.goal = checked_vector("goal", goal, self.goal_space)
        mujoco.mj_resetData(self.model, self.data)
        self.set_state(qpos, qvel)

    def _advance(self, action: Array) -> None:
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, self.frame_skip)

    def _state(self) -> Array:
        return self.observe(self.data.qpos, self.data.qvel)

    @abstractmethod
    def _posture(self) -> Array:
        """Random angles (joints,), in units of the observation."""

    @abstractmethod
    def _random_goal(self, qpos: Array) -> Array:
        """A random goal for an arm that starts at angles `qpos` (joints,) in radians."""
