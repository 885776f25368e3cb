#!/usr/bin/env bash
# MuJoCo 3.11.0: `mujoco.rollout` hands back a simulation that it gave up as if it were sound.
#
# After a warning of instability the rollout stops, and the rest of the returned trajectory repeats its last state,
# which is the one after MuJoCo's own reset: near the default position, with a clock that has begun anew. Nothing is
# raised. The clock alone tells: the time of row t is not start + t * timestep. Looking for a clock that stands still
# is not enough, since that of a rollout of one step has moved, from 0 to one time step.
#
# Seen: a pendulum that starts at 1e12 rad/s: 5 rows, all finite, all times 0.002, velocity 0 within 0.1.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mujoco==3.11.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import mujoco
import numpy as np
from mujoco import rollout

model = mujoco.MjModel.from_xml_string(
    """<mujoco><worldbody><body><joint name="j" type="hinge"/>
    <geom type="capsule" size=".05" fromto="0 0 0 0 0 -.5"/></body></worldbody>
    <actuator><motor joint="j"/></actuator></mujoco>"""
)
data = mujoco.MjData(model)
data.qvel[:] = 1e12
size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
start = np.empty(size)
mujoco.mj_getState(model, data, start, mujoco.mjtState.mjSTATE_FULLPHYSICS)
states, _ = rollout.rollout(model, mujoco.MjData(model), start[None], np.zeros((1, 5, 1)))
time, velocity = states[0, :, 0], states[0, :, 2]
print("mujoco", mujoco.__version__, "times", time, "velocities", velocity)
assert np.isfinite(states).all()
assert np.allclose(time, 0.002), time
assert np.abs(velocity).max() < 0.1, velocity
PYTHON
