#!/usr/bin/env bash
# stable-worldmodel 0.1.1: `MPPISolver` and `CEMSolver` plan actions beyond the Box that they are configured with.
#
# All solvers take `configure(action_space=...)`. `ICEMSolver` keeps its candidates within the bounds of that space.
# `MPPISolver` and `CEMSolver` read its shape alone: their candidates and the plans they return are unbounded, without
# a warning. So a model is asked about actions that its environment does not have, and replacing one solver by another
# changes which actions are possible. What helps: clamp candidates in the model's `get_cost`, and the plan afterwards.
#
# The solvers are imported without the rest of the package, which needs its environments and data formats.
#
# Seen (bounds -1 and 1, cost minus the sum of the actions, one start, default settings): greatest action 39.8 from
# MPPISolver, 13.1 from CEMSolver, 1.0 from ICEMSolver. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
install() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
install torch==2.13.0 numpy==2.4.6 gymnasium==1.4.0 loguru==0.7.3
install --no-deps stable-worldmodel==0.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import importlib
import importlib.util
import io
import sys
from importlib.metadata import version
from types import ModuleType, SimpleNamespace

import torch
from gymnasium.spaces import Box

package = ModuleType("stable_worldmodel")
package.__path__ = list(importlib.util.find_spec("stable_worldmodel").submodule_search_locations)
sys.modules["stable_worldmodel"] = package
solvers = importlib.import_module("stable_worldmodel.solver")


class Model:
    def get_cost(self, info, candidates):
        return -candidates.sum((2, 3))


seen = {}
for name in ("MPPISolver", "CEMSolver", "ICEMSolver"):
    solver = getattr(solvers, name)(Model(), seed=0)
    config = SimpleNamespace(horizon=3, action_block=1)
    solver.configure(action_space=Box(-1.0, 1.0, (1, 2)), n_envs=1, config=config)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its time
        actions = solver.solve({"state": torch.zeros(1, 4)})["actions"]
    assert actions.shape == (1, 3, 2)
    seen[name] = round(actions.max().item(), 1)
print("stable-worldmodel", version("stable-worldmodel"), "| bound 1, greatest action:", seen)
assert seen["MPPISolver"] > 2 and seen["CEMSolver"] > 2 and seen["ICEMSolver"] <= 1, seen
PYTHON
