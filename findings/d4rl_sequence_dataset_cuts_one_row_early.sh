#!/usr/bin/env bash
# D4RL 1.1: without `timeouts`, `sequence_dataset` cuts every episode after the first one row early.
#
# The counter of steps is set to 0 at the end of an episode and raised by 1 before the next row is read. So the first
# episode has `_max_episode_steps` rows, the following ones have one less, and the borders drift: each later
# "trajectory" joins the end of one true episode to the beginning of the next. `qlearning_dataset` of the same file cuts
# at the right rows.
#
# Seen (limit 4, five episodes of 4 rows, numbered 0 to 3, without terminals): lengths 4, 3, 3, 3, 3, 3; the
# second is 0 1 2, the third 3 0 1, and the last row is in none. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==1.26.4 h5py==3.11.0 gym==0.24.1 \
  termcolor==2.5.0 click==8.1.8 tqdm==4.67.1 progressbar2==4.5.0
# Without its dependencies: reading data needs no simulator.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps d4rl==1.1
cd "$folder"
D4RL_SUPPRESS_IMPORT_ERROR=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import d4rl
import gym
import numpy as np
from d4rl.offline_env import OfflineEnv


class Env(OfflineEnv):
    observation_space = gym.spaces.Box(-9, 9, (2,))
    action_space = gym.spaces.Box(-1, 1, (2,))
    _max_episode_steps = 4  # as gym's TimeLimit has it


rows = np.tile(np.arange(4, dtype=np.float32), 5)
data = {
    "observations": np.stack([rows, rows], axis=1),
    "actions": np.zeros((20, 2), np.float32),
    "rewards": np.zeros(20, np.float32),
    "terminals": np.zeros(20, bool),
}
found = [e["observations"][:, 0].astype(int).tolist() for e in d4rl.sequence_dataset(Env(), data)]
flat = d4rl.qlearning_dataset(Env(), data)
joined = (flat["next_observations"][:, 0] != flat["observations"][:, 0] + 1).sum()
print("d4rl", version("d4rl"), "| sequence_dataset:", found, "| qlearning_dataset joins", int(joined))
assert found == [[0, 1, 2, 3], [0, 1, 2], [3, 0, 1], [2, 3, 0], [1, 2, 3], [0, 1, 2]], found
assert joined == 0
PYTHON
