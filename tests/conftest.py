"""One thread and seeded generators for all tests, and a model that is trained once for those that only use it."""

import gc
import getpass
import os
import random
import shutil
import signal
import tempfile

# Before torch and NumPy are imported, and so that processes that tests start inherit it: small tensors are
# fastest on one thread, and on cores that are shared a second one waits longer than it computes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest
import torch

from ebm_control.data import collect_mujoco
from ebm_control.models import ModelSettings, TrainSettings, fit_model
from ebm_envs.reacher import ENV, spread_starts

torch.set_num_threads(1)  # also where the caller's environment names more

# torch (2.13) takes up what it compiled before whatever the instruction set that was for: a folder for each.
capability = torch.backends.cpu.get_cpu_capability()
compiled = f"torchinductor_{getpass.getuser()}_{capability}"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), compiled))

# Tests leave thousands of small folders, which a disk takes tens of seconds to make and remove: in memory if there
# is plenty. Set the variable to have them elsewhere.
MEMORY = "/dev/shm"
if os.access(MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(MEMORY).free > 2**32:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)

# A shell that starts tests in the background has Ctrl-C ignored, in them and in every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Fixtures that train: whatever uses one is slow.
TRAINED = {"reacher", "classifier", "hardened", "noised", "feed_forward", "ensemble", "baseline"}


def pytest_collection_modifyitems(items):
    for item in items:
        if TRAINED & set(item.fixturenames) or item.nodeid.startswith("tests/experiments/"):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """Modules live as long as the session: the collector need not go through them again and again."""
    gc.collect()
    gc.freeze()


hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seeds():
    """Whatever draws from a global generator draws the same in any order of tests and in any process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def reacher():
    """Transition model of Reacher, trained for a few seconds."""
    buffer = collect_mujoco(ENV, 20_000, episode_length=50, seed=0, starts=spread_starts)
    settings = TrainSettings(
        ModelSettings(hidden=(64, 64), base_hidden=(64, 64)), updates=50, base_updates=2000, langevin_steps=10
    )
    return fit_model(buffer, settings, progress=False)
