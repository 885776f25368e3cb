"""Checkpoints of version 0.0, whose settings and weights had other names: they load, and their runs go on."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ebm_control.baselines import Baseline
from ebm_control.models import ImageModel, ModelSettings, TrainSettings, TrajectoryModel, fit_model
from ebm_control.training.renames import settings_now, state_now, weight_now
from tests.training.helpers import linear_buffer

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent / "checkpoints"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
RUN = TrainSettings(
    ModelSettings(hidden=(8,), base_hidden=(8,)),
    base_updates=10,
    updates=4,
    batch_size=16,
    langevin_steps=2,
    checkpoint_every=2,
)


def close(value, kind):
    torch.testing.assert_close(value, torch.tensor(EXPECTED[kind]), rtol=1e-4, atol=1e-5)


def test_a_trajectory_model_loads():
    model = TrajectoryModel.load(FOLDER / "trajectory/checkpoints")
    close(model.energy(torch.linspace(-1, 1, 6).reshape(1, 2, 3)), "trajectory")


def test_an_image_model_loads():
    model = ImageModel.load(FOLDER / "image/checkpoints")
    images, context = torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, model.classes + 1)
    close(model.energy(images, context), "image")


def test_a_baseline_loads():
    model = Baseline.load(FOLDER / "baseline")
    close(model.dynamics.residual(torch.linspace(-1, 1, 6).reshape(1, 2, 3)), "baseline")


def test_a_run_goes_on_to_where_it_went(tmp_path):
    shutil.copytree(FOLDER / "trajectory/checkpoints/step_00000002", tmp_path / "checkpoints/step_00000002")
    resumed = fit_model(linear_buffer(4, 30), RUN, folder=tmp_path, resume=True, progress=False)
    assert resumed.training.updates == 2
    close(resumed.energy(torch.linspace(-1, 1, 6).reshape(1, 2, 3)), "trajectory")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("base.deviation", "base.std"),
        ("std", "std"),
        ("network.told.0.weight", "network.films.0.weight"),
        ("told.layers.bias", "films.layers.bias"),
        ("network.untold.weight", "network.untold.weight"),
        ("deviations", "deviations"),
        (3, 3),
    ],
)
def test_names_of_weights(before, now):
    assert weight_now(before) == now
    assert weight_now(now) == now


def test_settings_and_states_at_any_depth():
    assert settings_now({"train": {"batch": 3, "model": {"base_deviation": 1.0}}, "x": [{"batch": 1}]}) == {
        "train": {"batch_size": 3, "model": {"base_std": 1.0}},
        "x": [{"batch_size": 1}],
    }
    assert state_now({"energy": {"base.deviation": 1}, "steps": [{"told.0": 2}]}) == {
        "energy": {"base.std": 1},
        "steps": [{"films.0": 2}],
    }
