#!/usr/bin/env bash
# gym-pusht 0.1.8: the five numbers of `obs_type="state"` are not a state: the velocity of the pusher is missing.
#
# The action is a target that a controller of position and velocity tracks, and the pusher still moves when a step
# ends. Its velocity is in no kind of observation, only in `info["vel_agent"]`, and `reset(options={"reset_to_state":
# ...})` sets it to 0. So the same observation and action have different successors: a one-step model of them has an
# error that no data removes, and a recorded episode that is resumed from one of its observations takes another course.
# This comes on top of the documented shift of the block in `reset_to_state`: here the block is not turned nor touched.
#
# Seen: pusher at x = 159.13 in both cases, target x = 100: next x = 164.05 after a step to the right, 141.65 after
# `reset_to_state` with the very observation. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
export SDL_VIDEODRIVER=dummy
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gym-pusht==0.1.8 pymunk==6.11.1 gymnasium==1.4.0 \
  numpy==2.4.6 opencv-python==4.14.0.94 pygame==2.6.1 shapely==2.2.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import gymnasium as gym
import gym_pusht  # noqa: F401  (registers the environment)
import numpy as np

env = gym.make("gym_pusht/PushT-v0", obs_type="state")
right, left = np.array([[300.0, 100.0], [100.0, 100.0]], np.float32)

env.reset(seed=0, options={"reset_to_state": [100.0, 100.0, 300.0, 300.0, 0.0]})
moving, _, _, _, info = env.step(right)
after_moving, *_ = env.step(left)
resting, _ = env.reset(seed=0, options={"reset_to_state": moving})
after_resting, *_ = env.step(left)

print("gym-pusht", version("gym-pusht"), "| observation", moving.round(2), "velocity", info["vel_agent"][0].round(1))
print("| next x", after_moving[0].round(2), "or, from the same observation at rest,", after_resting[0].round(2))
assert np.array_equal(moving, resting)
assert round(after_moving[0], 2) == 164.05 and round(after_resting[0], 2) == 141.65
assert np.allclose(after_moving[1:], after_resting[1:])  # The block has not been touched.
PYTHON
