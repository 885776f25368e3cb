#!/usr/bin/env bash
# Gymnasium-Robotics 1.4.2 installs with any newer MuJoCo, and its arms and hands do not start from MuJoCo 3.12 on.
#
# Its joint helpers ask whether an entry of `model.jnt_type`, a NumPy integer, is `in` a tuple of `mujoco.mjtJoint`.
# Python then compares with the enum on the left. Up to MuJoCo 3.11 the order does not matter; from 3.12 the enum is
# unequal to a NumPy integer (`integer == enum` and `enum == int(integer)` still hold), so a bare assert fails.
# `PointMaze` does not ask: an installation that runs it looks sound. Other code that looks types up with `in` is hit.
#
# Seen: MuJoCo 3.11.0: all three environments step. MuJoCo 3.12.0 and 4.0.0: `enum == integer` is false, `FetchReach-v4`
# and `HandReach-v3` raise AssertionError without a message when they are made, `PointMaze_UMaze-v3` steps.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/check.py" <<'PYTHON'
import sys

import gymnasium as gym
import gymnasium_robotics
import mujoco

gym.register_envs(gymnasium_robotics)
gym.logger.min_level = gym.logger.ERROR


def outcome(name):
    try:
        env = gym.make(name)
        env.reset(seed=0)
        env.step(env.action_space.sample())
        return "steps"
    except AssertionError as error:
        return f"AssertionError({error})"


model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><body><joint type='hinge'/><geom size='.1'/></body></worldbody></mujoco>"
)
integer, enum = model.jnt_type[0], mujoco.mjtJoint.mjJNT_HINGE
equal = [bool(integer == enum), bool(enum == integer), bool(enum == int(integer))]
seen = [outcome(name) for name in ("FetchReach-v4", "HandReach-v3", "PointMaze_UMaze-v3")]
print("mujoco", mujoco.__version__, "| integer == enum, enum == integer, enum == int(integer):", equal, "|", seen)
works = sys.argv[1] == "works"
assert equal == [True, works, True], equal
assert seen == (["steps"] * 3 if works else ["AssertionError()", "AssertionError()", "steps"]), seen
PYTHON
cd "$folder"
for pair in 3.11.0:works 3.12.0:fails 4.0.0:fails; do
  python3 -m venv --clear "$folder/venv" # New for each: MuJoCo 4 is several packages.
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check gymnasium-robotics==1.4.2 gymnasium==1.4.0 \
    numpy==2.4.6 imageio==2.38.1 "mujoco==${pair%:*}"
  "$folder/venv/bin/python" check.py "${pair#*:}"
done
