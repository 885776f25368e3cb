"""A small MuJoCo environment to be changed at resets and in steps."""

from __future__ import annotations

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.spaces import Box

XML = """
<mujoco>
  <option timestep="0.01"/>
  <size nuserdata="2"/>
  <asset><texture name="paint" type="2d" builtin="flat" width="{pixels}" height="{pixels}"/></asset>
  <worldbody>
    <body name="hand" mocap="true" pos="0.4 0 1"><geom size="0.02" contype="0" conaffinity="0"/></body>
    <body name="cart" pos="0 0 1">
      <joint name="x" type="slide" axis="1 0 0" damping="0.1"/>
      <geom size="0.1" mass="1" contype="0" conaffinity="0"/>
      <body name="pole"><joint name="angle" axis="0 1 0" damping="0.05"/>
        <geom type="capsule" fromto="0 0 0 0 0 0.5" size="0.03" mass="0.2" contype="0" conaffinity="0"/>
      </body>
      {more}
    </body>
  </worldbody>
  <actuator><general joint="x" gainprm="3" dyntype="filter" dynprm="0.05"/></actuator>
  <equality><connect name="held" body1="cart" body2="hand" anchor="0 0 0" active="false" solref="0.2 1"/></equality>
</mujoco>
"""


class Rig(gym.Env):
    """A pole on a cart whose motor has an activation, and a hand that may hold the cart.

    Args:
        change: called with the environment at each reset, to change its physics.
        act: called with the environment and an action: the control to apply.
        frames: called with the environment: physics steps of one step.
        action_space: of one action for the one motor by default.
        pixels: sides of a texture, that models are made large by.
    """

    frame_skip = 2

    def __init__(self, change=None, act=None, frames=None, action_space=None, pixels=2):
        self.change, self.act, self.frames, self.pixels = change, act, frames, pixels
        self.load()
        self.init = self.model.opt.timestep
        self.observation_space = Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space = Box(-1, 1, (1,), np.float32) if action_space is None else action_space
        self.resets = 0

    def load(self, more=""):
        self.model = mujoco.MjModel.from_xml_string(XML.format(pixels=self.pixels, more=more))
        self.data = mujoco.MjData(self.model)

    @staticmethod
    def observe(qpos, qvel):
        return np.concatenate([qpos, qvel], axis=-1)

    def set_state(self, qpos, qvel):
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.model, self.data)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.resets, self.steps = self.resets + 1, 0
        if self.change is not None:
            self.change(self)
        self.set_state(self.np_random.uniform(-0.1, 0.1, 2), np.zeros(2))
        return self.observe(self.data.qpos, self.data.qvel), {}

    def step(self, action):
        self.data.ctrl[:] = action if self.act is None else self.act(self, action)
        mujoco.mj_step(self.model, self.data, self.frame_skip if self.frames is None else self.frames(self))
        self.steps += 1
        return self.observe(self.data.qpos, self.data.qvel), 0.0, False, False, {}
