#!/usr/bin/env bash
# Gymnasium 1.4.0: an environment and its action space that are seeded alike draw the same numbers.
#
# `env.reset(seed=s)` and `env.action_space.seed(s)`, the usual two lines, start equal generators. An environment that
# draws its noise from `self.np_random`, uniform as the random actions are, then has noise equal to the action, up to
# a shift: what is learned from such data is a gain that is twice the true one.
#
# Seen: s' = 0.9 s + 0.1 a + 0.1 u, a and u uniform in [-1, 1]: a fitted gain of 0.200 instead of 0.100, correlation 1.
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
from gymnasium.spaces import Box


class Noisy(gym.Env):
    action_space = Box(-1.0, 1.0, (1,), np.float64)
    observation_space = Box(-np.inf, np.inf, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = np.zeros(1)
        return self.s, {}

    def step(self, action):
        self.noise = self.np_random.uniform(-1.0, 1.0, 1)
        self.s = 0.9 * self.s + 0.1 * action + 0.1 * self.noise
        return self.s, 0.0, False, False, {}


env = Noisy()
s, _ = env.reset(seed=0)
env.action_space.seed(0)
rows = []
for _ in range(1000):
    action = env.action_space.sample()
    after, *_ = env.step(action)
    rows.append((s[0], action[0], after[0], env.noise[0]))
    s = after
s, a, after, noise = np.array(rows).T
gain = np.linalg.lstsq(np.c_[s, a], after, rcond=None)[0][1]
correlation = np.corrcoef(a, noise)[0, 1]
print(f"gymnasium {gym.__version__}: gain {gain:.3f} (true 0.100), correlation {correlation:.3f}")
assert round(gain, 3) == 0.2 and round(correlation, 3) == 1.0
PYTHON
