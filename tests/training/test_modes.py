"""Training, saving and loading where the user has set torch up otherwise."""

import functools

import numpy as np
import pytest
import torch

from ebm_control.baselines import Baseline, BaselineSettings, fit_baseline
from ebm_control.data import RolloutBuffer, load_images
from ebm_control.models import (
    ImageModelSettings,
    ImageTrainSettings,
    ModelSettings,
    TrainSettings,
    TrajectoryModel,
    fit_images,
    fit_model,
    prediction_error,
)
from tests.training.helpers import linear_buffer

SMALL = ModelSettings(hidden=(8,), base_hidden=(8,))
LOSSES = ["cd", "cd-kl", "infonce", "dsm", "softplus"]


class Double:
    """Double precision by default, inside."""

    def __enter__(self):
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *error):
        torch.set_default_dtype(torch.float32)


class Deterministic:
    """Deterministic algorithms alone, inside."""

    def __enter__(self):
        torch.use_deterministic_algorithms(True)

    def __exit__(self, *error):
        torch.use_deterministic_algorithms(False)


MODES = [torch.no_grad, torch.inference_mode, Double, Deterministic]


def fitted(folder=None, loss="cd"):
    settings = TrainSettings(
        SMALL, updates=4, base_updates=4, batch_size=16, langevin_steps=2, loss=loss, checkpoint_every=2
    )
    return fit_model(linear_buffer(4, 20), settings, folder=folder, progress=False)


@functools.cache
def plain(loss):
    """What is fitted where nothing is set otherwise."""
    return fitted(loss=loss)


def assert_same(found, expected):
    state = found.state_dict()
    for name, value in expected.state_dict().items():
        assert state[name].dtype == value.dtype, name
        # The step sizes of the optimiser are computed in the default precision.
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", LOSSES)
def test_models_are_the_same_in_every_mode(mode, loss, tmp_path):
    expected = plain(loss)
    with mode():
        found = fitted(tmp_path, loss)
        loaded = TrajectoryModel.load(tmp_path / "checkpoints")
        error = prediction_error(found, linear_buffer(3, 20), 3, windows=8)
    for model in (found, loaded, TrajectoryModel.load(tmp_path / "checkpoints")):
        assert_same(model.energy, expected.energy)
    usual = prediction_error(expected, linear_buffer(3, 20), 3, windows=8)
    torch.testing.assert_close(error.rmse, usual.rmse, rtol=1e-3, atol=1e-5)
    prediction_error(loaded, linear_buffer(3, 20), 3, windows=8)


def fitted_baseline(kind):
    settings = BaselineSettings(kind, hidden=(8,), updates=4, batch_size=16)
    return fit_baseline(linear_buffer(4, 20), settings, progress=False)


plain_baseline = functools.cache(fitted_baseline)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["feed-forward", "ensemble"])
def test_baselines_are_the_same_in_every_mode(mode, kind, tmp_path):
    expected = plain_baseline(kind)
    with mode():
        found = fitted_baseline(kind)
        found.save(tmp_path)
        loaded = Baseline.load(tmp_path)
    assert_same(found.dynamics, expected.dynamics)
    assert_same(loaded.dynamics, expected.dynamics)


def fitted_images(loss):
    noise = {"noise": (0.01, 1.0)} if loss == "dsm" else {}
    settings = ImageTrainSettings(
        ImageModelSettings(width=4), updates=3, batch_size=8, loss=loss, langevin_steps=2, **noise
    )
    return fit_images(load_images("digits"), settings, progress=False)


plain_images = functools.cache(fitted_images)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", ["cd", "dsm"])
def test_image_models_are_the_same_in_every_mode(mode, loss):
    expected = plain_images(loss)
    with mode():
        found = fitted_images(loss)
    assert_same(found.energy, expected.energy)
    x = torch.rand(2, *found.shape, dtype=torch.float64)
    told = torch.zeros(2, 1) if loss == "dsm" else None
    assert torch.equal(found.energy(x, told), found.energy(x.float(), told))


def test_data_of_every_layout_train_the_same_model():
    def run(form):
        buffer, source = RolloutBuffer(2, 1), linear_buffer(4, 20)
        for episode in source.episodes():
            parts = (np.float32(part) for part in (episode.observations, episode.actions))
            buffer.add_episode(*(form(part) for part in parts))
        settings = TrainSettings(SMALL, updates=2, base_updates=2, batch_size=16, langevin_steps=2)
        return fit_model(buffer, settings, progress=False).energy

    expected = run(lambda x: x)
    for form in (
        lambda x: x[::-1].copy()[::-1],
        lambda x: x.astype(">f4"),
        lambda x: torch.tensor(x),
        lambda x: x.tolist(),
    ):
        assert_same(run(form), expected)
