"""Models in one process, saved, and taken up in another; futures in the environment's units."""

import math

import numpy as np
import pytest
import torch

import ebm_control as ebm
from ebm_control.checks import InputError
from ebm_control.data import load_images
from ebm_control.models import (
    ImageModel,
    ImageModelSettings,
    ImageTrainSettings,
    TrajectoryModel,
    fit_images,
    fit_model,
)
from ebm_control.prediction import predict
from ebm_control.training import CheckpointError
from tests.helpers import seeded
from tests.training.helpers import linear_buffer, tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return fit_model(linear_buffer(12, 60), tiny(updates=5, base_updates=600), progress=False)


@pytest.fixture(scope="module")
def digits():
    settings = ImageTrainSettings(
        ImageModelSettings("small", width=2, conditional=True), updates=2, batch_size=4, checkpoint_every=1
    )
    return fit_images(load_images("digits").fewer(20), settings, progress=False)


def test_a_saved_trajectory_model_is_the_same_model(model, tmp_path):
    where = model.save(tmp_path / "models" / "linear")
    x = torch.randn(4, 2, 3, generator=seeded())
    for path in (where, where / "step_00000000", where / "step_00000000" / "weights.safetensors"):
        again = ebm.load(path)
        assert isinstance(again, TrajectoryModel)
        assert torch.equal(again.energy(x), model.energy(x))
        assert again.normalizer.to_dict() == model.normalizer.to_dict()
    assert again.training.updates == 0


def test_saving_again_replaces_and_a_run_folder_is_left_alone(model, tmp_path):
    other = fit_model(linear_buffer(4, 30, seed=1), tiny(updates=2), folder=tmp_path / "run", progress=False)
    x = torch.randn(4, 2, 3, generator=seeded())
    other.save(tmp_path / "one")
    model.save(tmp_path / "one")
    assert torch.equal(ebm.load(tmp_path / "one").energy(x), model.energy(x))
    assert torch.equal(ebm.load(tmp_path / "run").energy(x), other.energy(x))
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoints"):
        with pytest.raises(CheckpointError, match="expected a folder for one model, got that of a run"):
            model.save(folder)
    assert torch.equal(ebm.load(tmp_path / "run").energy(x), other.energy(x))


def test_images_are_saved_loaded_and_drawn(digits, tmp_path):
    again = ebm.load(digits.save(tmp_path / "digits"))
    assert isinstance(again, ImageModel)
    labels = torch.tensor([1, 7])
    drawn, expected = (m.generate(2, labels=labels, generator=seeded()) for m in (again, digits))
    assert drawn.shape == (2, 1, 8, 8)
    assert torch.equal(drawn, expected)


@pytest.mark.parametrize("path", ["nothing", "."])
def test_what_is_no_model_is_named(tmp_path, path):
    with pytest.raises(CheckpointError, match="expected a checkpoint"):
        ebm.load(tmp_path / path)


def test_futures_are_those_of_normalised_units_in_raw_ones(model):
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(0, 1, (5, 2)), rng.uniform(-1, 1, (5, 4, 1))
    futures = model.predict(observations, actions, horizon=4, samples=3, generator=seeded())
    assert futures.states.shape == (5, 3, 4, 2)
    normalizer = model.normalizer
    x = normalizer.normalize(torch.from_numpy(observations)[:, None]).float()
    given = normalizer.normalize_actions(torch.from_numpy(actions)).float()
    below = predict(model.energy, x, given, horizon=4, samples=3, generator=seeded())
    torch.testing.assert_close(futures.states, normalizer.denormalize_observations(below.states))
    torch.testing.assert_close(
        futures.actions[:, 0].double(), torch.from_numpy(actions), atol=1e-5, rtol=1e-5
    )
    # The true dynamics of the data, s' = 0.9 s + B a, to which noise of 0.02 and 0.05 was added.
    expected = 0.9 * observations + actions[:, 0] * np.array([0.2, -0.1])
    off = futures.states[:, :, 0].mean(dim=1).numpy() - expected
    assert np.abs(off).max() < 0.25


def test_a_history_comes_with_its_actions(model):
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(0, 1, (5, 3, 2)), rng.uniform(-1, 1, (5, 6, 1))
    futures = model.predict(observations, actions, horizon=4, generator=seeded())
    last = model.predict(observations[:, -1], actions[:, 2:], horizon=4, generator=seeded())
    torch.testing.assert_close(futures.states, last.states)  # one state is all that a transition needs


def test_actions_are_drawn_where_none_are_given(model):
    futures = model.predict(np.zeros((2, 2)), horizon=3, samples=4, generator=seeded())
    assert futures.actions.shape == (2, 4, 3, 1)
    assert futures.actions.std() > 0.1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"observations": np.zeros((2, 3))}, "^observations: "),
        ({"observations": np.full((2, 2), math.nan)}, "^history: |^observations: "),
        ({"actions": np.zeros((2, 5, 1))}, "^actions: expected shape"),
        (
            {"observations": np.zeros((2, 3, 2)), "actions": None},
            "^actions: expected those of the history too",
        ),
        ({"horizon": 0}, "^horizon: "),
        ({"samples": 0}, "^samples: "),
        ({"gap": 3}, "^gap: expected one of"),
    ],
)
def test_what_does_not_fit_is_named(model, changes, said):
    given = {"observations": np.zeros((2, 2)), "actions": np.zeros((2, 4, 1)), "horizon": 4} | changes
    with pytest.raises(InputError, match=said):
        model.predict(given.pop("observations"), given.pop("actions"), **given)
