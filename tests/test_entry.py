"""`fit` and `load` choose by data, settings and checkpoint."""

import pytest

import ebm_control as ebm
from ebm_control.checks import InputError
from ebm_control.data import load_images
from ebm_control.training import Checkpoint, CheckpointError
from ebm_control.training.checkpoint import save_model
from tests.training.helpers import linear_buffer, tiny

pytestmark = pytest.mark.slow

IMAGES = ebm.ImageTrainSettings(ebm.ImageModelSettings("small", width=2), updates=1, batch_size=4)
BASELINE = ebm.BaselineSettings(hidden=(8,), updates=2, batch_size=8)


@pytest.mark.parametrize(
    ("data", "settings", "kind"),
    [
        (linear_buffer, tiny(updates=2, base_updates=2), ebm.TrajectoryModel),
        (linear_buffer, BASELINE, ebm.Baseline),
        (lambda: load_images("digits").fewer(20), IMAGES, ebm.ImageModel),
    ],
    ids=["trajectory", "baseline", "image"],
)
def test_every_kind_of_model_is_fitted_saved_and_loaded(tmp_path, data, settings, kind):
    model = ebm.fit(data(), settings, progress=False)
    assert type(model) is kind
    assert model.training.updates == settings.updates
    assert type(ebm.load(model.save(tmp_path / "model"))) is kind


@pytest.mark.parametrize(
    ("data", "settings", "said"),
    [
        (None, None, "^data: expected a RolloutBuffer or an ImageSet, got NoneType"),
        (linear_buffer(1, 5), IMAGES, "^settings: expected TrainSettings or BaselineSettings for rollouts"),
        (load_images("digits").fewer(5), BASELINE, "^settings: expected ImageTrainSettings for images"),
        (linear_buffer(1, 5), {"updates": 3}, "^settings: expected .*, got dict"),
    ],
)
def test_what_does_not_go_together_is_named(data, settings, said):
    with pytest.raises(InputError, match=said):
        ebm.fit(data, settings)


def test_a_baseline_has_no_run_folder(tmp_path):
    with pytest.raises(InputError, match=r"^folder: expected none for a baseline"):
        ebm.fit(linear_buffer(1, 5), BASELINE, folder=tmp_path, resume=True)


def test_a_file_is_no_run_folder_and_no_checkpoint(tmp_path):
    (tmp_path / "data.npz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"^folder: expected a folder, not a file"):
        ebm.fit(linear_buffer(2, 20), tiny(updates=2), folder=tmp_path / "data.npz", progress=False)
    with pytest.raises(CheckpointError, match=r"data\.npz: expected a checkpoint"):
        ebm.load(tmp_path / "data.npz")


def test_a_flag_of_every_step_is_no_end_of_an_episode():
    with pytest.raises(InputError, match=r"^terminated: expected True or False, of the whole episode"):
        ebm.RolloutBuffer(1, 1).add_episode([[0.0], [1.0]], [[0.0]], terminated=[True])


def test_a_checkpoint_of_something_else_is_named(tmp_path):
    save_model(tmp_path, Checkpoint({}, {"settings": "of another kind"}, {}))
    with pytest.raises(CheckpointError, match="expected a model of trajectories or images or a baseline"):
        ebm.load(tmp_path)
