#!/usr/bin/env bash
# Gymnasium 1.4.0: neighbouring seeds of a vector environment share nearly all of their episodes' starts.
#
# `SyncVectorEnv.reset(seed=s)` seeds sub-environment i with s + i. So with 8 environments seeds 0 and 1 share 7 of 8
# starts, and go on sharing them: later resets go on in the same streams. Runs "of seeds 0 to 4" are no independent
# repeats then, and data of seed 1 are no test set for data of seed 0.
#
# Seen (8 environments of Pendulum-v1, 5 episodes each): seeds 0 and 1 share 35 of 40 starts, seeds 0 and 8 none.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gymnasium==1.4.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import gymnasium as gym
import numpy as np


def starts(seed):
    envs = gym.make_vec("Pendulum-v1", num_envs=8, vectorization_mode="sync")
    found = [envs.reset(seed=seed)[0]]
    found += [envs.reset()[0] for _ in range(4)]
    return {tuple(row) for row in np.concatenate(found).round(6)}


shared = {pair: len(starts(pair[0]) & starts(pair[1])) for pair in ((0, 1), (0, 8))}
print("gymnasium", gym.__version__, "shared starts of 40:", shared)
assert shared == {(0, 1): 35, (0, 8): 0}, shared
PYTHON
