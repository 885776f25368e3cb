"""A model that is trained once for all tests that only use it."""

import pytest
import torch

from ebm_control.cli.demo import spread_starts
from ebm_control.data import collect_mujoco
from ebm_control.training import ModelSettings, TrainSettings, fit_model

torch.set_num_threads(1)  # small tensors: one thread is fastest, and leaves the other cores to others


@pytest.fixture(scope="session")
def reacher():
    """Transition model of Reacher, trained for a few seconds."""
    buffer = collect_mujoco("ebm/Reacher-v0", 20_000, episode_length=50, seed=0, starts=spread_starts)
    settings = TrainSettings(
        ModelSettings(hidden=(64, 64), base_hidden=(64, 64)), updates=50, base_updates=2000, langevin_steps=10
    )
    return fit_model(buffer, settings, progress=False)[0]
