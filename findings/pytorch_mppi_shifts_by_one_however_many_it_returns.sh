#!/usr/bin/env bash
# pytorch-mppi 0.9.1: with `u_per_command=n` the plan moves on by one step a command, not by n.
#
# A command returns the plan's first n actions, and shifts its nominal plan by one before the next one. A caller who
# carries out all n gets a warm start that lags by n - 1 steps a command: actions which were already carried out are the
# mean of the next samples. The shift also comes before the first plan, so the first action of `U_init` is never used.
# What helps: `shift_nominal_trajectory()` n - 1 times before each command but the first.
#
# Seen (`U_init` 0, 1, ..., 9, next to no noise, u_per_command=3): [1 2 3], then [2 3 4]; with two shifts more [4 5 6].
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pytorch-mppi==0.9.1 torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch
from pytorch_mppi import MPPI


def commands(shifts):
    torch.manual_seed(0)
    planner = MPPI(
        dynamics=lambda state, action: state + action,
        running_cost=lambda state, action: torch.zeros(len(state)),
        nx=1,
        noise_sigma=1e-8 * torch.eye(1),
        num_samples=16,
        horizon=10,
        U_init=torch.arange(10.0)[:, None],
        u_per_command=3,
    )
    first = planner.command(torch.zeros(1))
    for _ in range(shifts):
        planner.shift_nominal_trajectory()
    return [actions.flatten().round().int().tolist() for actions in (first, planner.command(first.sum(0)))]


seen = commands(0), commands(2)
print("pytorch-mppi", version("pytorch-mppi"), "| two commands:", seen[0], "| with two shifts between:", seen[1])
assert seen == ([[1, 2, 3], [2, 3, 4]], [[1, 2, 3], [4, 5, 6]]), seen
PYTHON
