#!/usr/bin/env bash
# torchebm 0.8.9: `ScoreMatching(hessian_method="approx")` minimises another objective than "exact".
#
# Its estimate of the trace of the Hessian is v'Hv for a normal v, which has the right mean, divided by the number of
# dimensions, which has not. So the objective weighs the trace 1/d too little: its minimum for normal data is an energy
# with 1/d of the right precision, samples of which are sqrt(d) too wide. Nothing is raised, the loss falls, and in
# one dimension both agree. `SlicedScoreMatching` is right.
#
# Seen (E = k/2 |x|^2, x of N(0, 1) in 10 dimensions): the loss at k = 1 is -5.0 exact and sliced, +4.0 approximate; the
# best k is 1.0 exact and 0.1 approximate. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torchebm==0.8.9 torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch
from torchebm.core import BaseModel
from torchebm.losses import ScoreMatching, SlicedScoreMatching

DOUBLE = {"dtype": torch.float64, "device": "cpu"}


class Quadratic(BaseModel):
    def __init__(self, k):
        super().__init__()
        self.k = k

    def forward(self, x):
        return 0.5 * self.k * x.square().sum(-1)


torch.manual_seed(0)
seen = {}
for d in (1, 10):
    x = torch.randn(20_000, d, dtype=torch.float64)
    x = (x - x.mean(0)) / x.std(0, correction=0)
    seen[d, "sliced"] = SlicedScoreMatching(Quadratic(1.0), **DOUBLE)(x).item()
    for method in ("exact", "approx"):
        losses = [ScoreMatching(Quadratic(k / 20), hessian_method=method, **DOUBLE) for k in range(1, 41)]
        loss = [loss_fn(x).item() for loss_fn in losses]
        seen[d, method] = loss[19]
        seen[d, method, "best k"] = min(range(1, 41), key=lambda k: loss[k - 1]) / 20
print("torchebm", version("torchebm"), {name: round(value, 2) for name, value in seen.items()})
assert abs(seen[10, "exact"] + 5.0) < 0.01 and abs(seen[10, "sliced"] + 5.0) < 0.2
assert abs(seen[10, "approx"] - 4.0) < 0.1
assert seen[10, "exact", "best k"] == 1.0 and seen[10, "approx", "best k"] == 0.1
assert abs(seen[1, "exact"] - seen[1, "approx"]) < 0.05
PYTHON
