#!/usr/bin/env bash
# Minari 0.5.4: a data set id that is refused leaves a folder, and the whole listing fails from then on.
#
# `create_dataset_from_buffers` makes the data set's folder before it checks the id. The call raises, as it should; but
# `minari.list_local_datasets()`, and so `minari list local`, then raises for all data sets below MINARI_DATASETS_PATH,
# until the folder is removed by hand.
#
# Seen: "x/y-v0" (a namespace of one letter is malformed) raises ValueError; the listing, which held one data set before,
# raises ValueError. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'minari[hdf5]==0.5.4' gymnasium==1.4.0 numpy==2.4.6 h5py==3.16.0 \
  pillow==13.0.0 # which its hdf5 storage imports and its extra does not ask for
export MINARI_DATASETS_PATH="$folder/datasets"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import minari
import numpy as np
from gymnasium.spaces import Box
from minari.data_collector import EpisodeBuffer

warnings.simplefilter("ignore")


def write(name):
    episode = EpisodeBuffer(
        id=0,
        observations=np.zeros((4, 2)),
        actions=np.zeros((3, 1)),
        rewards=np.zeros(3),
        terminations=np.zeros(3, bool),
        truncations=np.array([False, False, True]),
    )
    box = [Box(-np.inf, np.inf, (n,), np.float64) for n in (2, 1)]
    minari.create_dataset_from_buffers(name, [episode], observation_space=box[0], action_space=box[1])


def raised(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return None


write("good/one-v0")
before = list(minari.list_local_datasets())
refused = raised(lambda: write("x/y-v0"))
after = raised(minari.list_local_datasets)
print("minari", minari.__version__, "| listing before:", before, "| refused with", refused, "| listing after:", after)
assert before == ["good/one-v0"] and refused == "ValueError" and after == "ValueError"
PYTHON
