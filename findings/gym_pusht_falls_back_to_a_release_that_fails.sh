#!/usr/bin/env bash
# gym-pusht with pymunk 7: pip installs gym-pusht 0.1.6 without a word, and that one cannot reset.
#
# gym-pusht 0.1.8 rules pymunk 7 out, since it calls `Space.add_collision_handler`, which pymunk 7 took away. 0.1.6
# makes the same call and rules nothing out. So where anything else asks for pymunk 7, pip resolves to 0.1.6 instead of
# reporting a conflict, and the first `reset` raises. What helps is pymunk 6, not another gym-pusht.
#
# Seen: for "gym-pusht<=0.1.8" beside pymunk 7.3.1 pip would install 0.1.6; its reset raises AttributeError;
# 0.1.8 with pymunk 6.11.1 resets. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
export SDL_VIDEODRIVER=dummy
cat >"$folder/check.py" <<'PYTHON'
import sys
from importlib.metadata import version

import gymnasium as gym
import gym_pusht  # noqa: F401  (registers the environment)

try:
    gym.make("gym_pusht/PushT-v0").reset(seed=0)
    seen = "resets"
except AttributeError as error:
    seen = f"AttributeError: {error}"
print("gym-pusht", version("gym-pusht"), "pymunk", version("pymunk"), "|", seen)
assert seen == sys.argv[1], seen
PYTHON
cd "$folder"
pinned=(gymnasium==1.4.0 numpy==2.4.6 opencv-python==4.14.0.94 pygame==2.6.1 shapely==2.2.0)
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gym-pusht==0.1.6 pymunk==7.3.1 "${pinned[@]}"
"$folder/venv/bin/python" check.py "AttributeError: 'Space' object has no attribute 'add_collision_handler'"
"$folder/venv/bin/pip" uninstall --quiet --yes --disable-pip-version-check gym-pusht
chosen=$("$folder/venv/bin/pip" install --dry-run --disable-pip-version-check 'gym-pusht<=0.1.8' pymunk==7.3.1 \
  "${pinned[@]}" 2>/dev/null | grep '^Would install')
echo "beside pymunk 7.3.1 | $chosen"
[ "$chosen" = "Would install gym-pusht-0.1.6" ]
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gym-pusht==0.1.8 pymunk==6.11.1 "${pinned[@]}"
"$folder/venv/bin/python" check.py resets
