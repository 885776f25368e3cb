#!/usr/bin/env bash
# D4RL 1.1: `qlearning_dataset` returns, for each terminal, a transition to the first observation of the next episode,
# also where the file has the true next observation.
#
# It takes row i + 1 of `observations` as next observation of row i and never looks at `next_observations`, which the
# MuJoCo files (v2) have. It skips rows of timeouts for that reason, but not those of terminals. A critic that masks
# terminals does not notice; a model of the dynamics, or of the observation that ends an episode, learns jumps. The last
# row of the file, and the rows at timeouts, are dropped though their next observations are recorded.
#
# Seen (two episodes, observations 0 1 2 3 -> 4 and 100 101 -> 102, the first ended by a terminal, the second by a
# timeout): the transition 3 -> 100 instead of 3 -> 4, and 100 -> 101; 101 -> 102 is missing. Fails if that changes.
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
import h5py
import numpy as np
from d4rl.offline_env import OfflineEnv

observations = np.float32([[0], [1], [2], [3], [100], [101]])
with h5py.File("data.hdf5", "w") as file:
    file["observations"] = np.repeat(observations, 2, axis=1)
    file["next_observations"] = np.repeat(observations + 1, 2, axis=1)
    file["actions"] = np.zeros((6, 2), np.float32)
    file["rewards"] = np.zeros(6, np.float32)
    file["terminals"] = np.array([0, 0, 0, 1, 0, 0], bool)
    file["timeouts"] = np.array([0, 0, 0, 0, 0, 1], bool)


class Env(OfflineEnv):
    observation_space = gym.spaces.Box(-1000, 1000, (2,))
    action_space = gym.spaces.Box(-1, 1, (2,))


env = Env()
found = d4rl.qlearning_dataset(env, env.get_dataset("data.hdf5"))
pairs = [(int(a), int(b)) for a, b in zip(found["observations"][:, 0], found["next_observations"][:, 0])]
print("d4rl", version("d4rl"), "| transitions", pairs, "| terminals", found["terminals"].astype(int).tolist())
assert pairs == [(0, 1), (1, 2), (2, 3), (3, 100), (100, 101)], pairs
assert found["terminals"].tolist() == [False, False, False, True, False]
PYTHON
