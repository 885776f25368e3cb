"""The whole recipe for images: what is learned, kept, resumed and refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import ImageSet, load_images
from ebm_control.models import ImageModel, ImageModelSettings, ImageTrainSettings, fit_images
from ebm_control.training import CheckpointError, load_checkpoint, save_checkpoint
from tests.helpers import same
from tests.training.helpers import small_checkpoint

pytestmark = pytest.mark.slow

LOSSES = ("cd", "cd-kl", "dsm")
DIGITS = load_images("digits")


def quick(loss="dsm", updates=60, **changes):
    """Settings of a run of seconds; those of the model are told apart by name."""
    of_model = {
        name: changes.pop(name) for name in list(changes) if name in ImageModelSettings.__dataclass_fields__
    }
    given = {"batch_size": 32, "langevin_steps": 5, "chains": 256, "ema": 0.9, "checkpoint_every": 20}
    model = ImageModelSettings(**{"width": 8} | of_model)
    return ImageTrainSettings(model, loss, updates, **given | changes)


def untrained(settings):
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model = ImageModel.create(settings.model, DIGITS.shape, DIGITS.classes, "digits")
    model.energy.fit_base(DIGITS.part("train"))
    return model


def context_for(model, x, level=0.3):
    """Classes in turn, one image of all, and the noise level."""
    columns = []
    if model.classes:
        columns.append(torch.eye(model.classes + 1)[torch.arange(len(x)) % (model.classes + 1), :-1])
    if model.settings.noise:
        columns.append(torch.full((len(x), 1), level).log())
    return torch.cat(columns, dim=1) if columns else None


def errors(model, level, tilted=True):
    """Mean squared error of the noise that the gradient tells, on images that were not trained on."""
    x = DIGITS.part("test")
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    noised = (x + level * noise).requires_grad_()
    base, tilt = model.energy.split(noised, torch.full((len(x), 1), level).log())
    (gradient,) = torch.autograd.grad((base + tilt if tilted else base).sum(), noised)
    return float((level * gradient - noise).square().mean())


@pytest.mark.parametrize(
    "kind",
    [{}, {"network": "residual", "conditional": True}, {"spectral": True, "conditional": True}],
    ids=str,
)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_kind_of_model_trains_and_is_loaded_again(tmp_path, kind, loss):
    settings = quick(loss, updates=12, **kind)
    model = fit_images(DIGITS, settings, folder=tmp_path, progress=False)
    outcome = model.training
    assert (outcome.updates, outcome.rollbacks) == (12, 0)
    assert all(np.isfinite(value) for value in outcome.metrics.values())
    loaded = ImageModel.load(tmp_path / "checkpoints")
    assert (loaded.settings, loaded.data, loaded.shape) == (settings.model, "digits", (1, 8, 8))
    assert loaded.classes == (10 if kind.get("conditional") else 0)
    x = DIGITS.part("test", 22)
    context = context_for(model, x)
    assert torch.equal(model.energy(x, context), loaded.energy(x, context))
    assert kind.get("spectral", False) == any(
        "parametrizations" in name for name in loaded.energy.state_dict()
    )
    assert not torch.allclose(model.energy(x, context), untrained(settings).energy(x, context))
    for made in (model, loaded):
        assert not made.energy.training
        assert not any(p.requires_grad for p in made.energy.parameters())


@pytest.mark.parametrize("loss", ["cd", "cd-kl"])
def test_contrastive_training_tells_digits_from_noise(loss):
    settings = quick(loss, updates=30, learning_rate=1e-3)
    model = fit_images(DIGITS, settings, progress=False)
    x = DIGITS.part("test")
    grey = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    shuffled = x.flatten(1)[:, torch.randperm(64, generator=torch.Generator().manual_seed(1))].reshape(
        x.shape
    )
    for other in (grey, shuffled):
        assert (model.energy(x) < model.energy(other)).float().mean() > 0.95
    assert (untrained(settings).energy(x) < untrained(settings).energy(grey)).float().mean() < 0.9


def test_score_matching_learns_the_noise_of_images_that_it_has_not_seen():
    settings = quick(updates=200, learning_rate=3e-3)
    model = fit_images(DIGITS, settings, progress=False)
    for level, share in ((0.1, 0.93), (0.3, 0.8), (0.6, 0.9)):
        # The base alone beats the guess that there is no noise, whose error is 1; the tilt beats the base.
        base = errors(model, level, tilted=False)
        assert errors(model, level) < share * base < base < 1
        assert errors(model, level) < share * errors(untrained(settings), level)
    torch.testing.assert_close(model.energy.mean, DIGITS.part("train").mean(dim=0))


@pytest.mark.parametrize(
    ("loss", "kind"),
    [("cd", {}), ("cd-kl", {"conditional": True}), ("dsm", {"conditional": True, "spectral": True})],
    ids=str,
)
def test_a_run_that_is_resumed_ends_at_the_same_weights_to_the_bit(tmp_path, loss, kind):
    settings = quick(loss, updates=16, checkpoint_every=8, **kind)
    whole = fit_images(DIGITS, settings, folder=tmp_path / "whole", progress=False)
    ends = load_checkpoint(tmp_path / "whole" / "checkpoints")
    half = tmp_path / "half" / "checkpoints" / "step_00000008"
    shutil.copytree(tmp_path / "whole" / "checkpoints" / half.name, half)
    resumed = fit_images(DIGITS, settings, folder=tmp_path / "half", progress=False, resume=True)
    outcome = resumed.training
    assert outcome.updates == 8
    assert same(whole.energy.state_dict(), resumed.energy.state_dict())
    assert not same(dict(load_checkpoint(half).weights), dict(ends.weights))
    assert same(dict(ends.state), dict(load_checkpoint(tmp_path / "half" / "checkpoints").state))


def test_equal_seeds_give_equal_models_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    runs = (("cd", 0), ("cd", 0), ("cd", 1), ("cd-kl", 0))
    a, b, c, d = (fit_images(DIGITS, quick(loss, 4, seed=seed), progress=False) for loss, seed in runs)
    assert torch.equal(before, torch.get_rng_state())
    assert same(a.energy.state_dict(), b.energy.state_dict())
    assert not same(a.energy.state_dict(), c.energy.state_dict())
    assert not same(a.energy.state_dict(), d.energy.state_dict())


def test_resuming_under_other_settings_is_refused_and_names_them(tmp_path):
    begun = quick(updates=2)
    fit_images(DIGITS, begun, folder=tmp_path, progress=False)
    with pytest.raises(
        InputError, match=r"folder: expected none with checkpoints, or resume=True, got .*0002"
    ):
        fit_images(DIGITS, begun, folder=tmp_path, progress=False)
    for change in ({"updates": 4}, {"batch_size": 16}, {"width": 4}):
        with pytest.raises(
            InputError, match=r"^settings: expected those .*step_00000002 began with"
        ) as caught:
            fit_images(DIGITS, quick(**{"updates": 2} | change), folder=tmp_path, progress=False, resume=True)
        assert ("model" if "width" in change else next(iter(change))) in str(caught.value)
    outcome = fit_images(
        DIGITS, replace(begun, checkpoint_every=7), folder=tmp_path, progress=False, resume=True
    ).training
    assert outcome.updates == 0


def test_resuming_a_run_that_never_began_begins_it(tmp_path):
    outcome = fit_images(DIGITS, quick(updates=2), folder=tmp_path, progress=False, resume=True).training
    assert outcome.updates == 2
    assert load_checkpoint(tmp_path / "checkpoints").settings["train"]["updates"] == 2


def test_an_energy_of_score_matching_knows_of_noise_and_no_other_does():
    assert ImageTrainSettings(noise=(0.1, 2.0)).model.noise == (0.1, 2.0)
    assert ImageTrainSettings(loss="cd").model.noise == ()
    with pytest.raises(InputError, match=r"^model\.noise: expected noise levels with 'dsm' alone"):
        quick("cd", noise=(0.1, 1.0))


def test_bad_settings_are_named():
    with pytest.raises(InputError, match=r"^loss: expected one of .*'cd-kl'.*got infonce"):
        quick("infonce")
    with pytest.raises(InputError, match=r"^updates: expected a whole number of at least 1, got 0"):
        quick(updates=0)
    with pytest.raises(InputError, match=r"^classify: expected 0, or more with a conditional energy"):
        quick(classify=1.0)
    with pytest.raises(InputError, match=r"^classify: expected a number of at least 0, got -1.0"):
        quick(classify=-1.0, conditional=True)
    with pytest.raises(
        InputError, match=r"^network: expected one of \('auto', 'small', 'residual', 'unet'\), got large"
    ):
        ImageModelSettings("large")
    with pytest.raises(InputError, match=r"^width: expected a whole number of at least 1, got 0"):
        ImageModelSettings(width=0)
    for noise in ((0.1,), (1.0, 0.1), (0.0, 1.0)):
        with pytest.raises(InputError, match=r"^noise: expected (two noise levels|a number above)"):
            ImageModelSettings(noise=noise)


def test_a_checkpoint_of_something_else_is_not_an_image_model(tmp_path):
    save_checkpoint(tmp_path, 1, small_checkpoint())
    with pytest.raises(CheckpointError, match=r"not a checkpoint of an image model"):
        ImageModel.load(tmp_path)


def test_noise_levels_of_model_and_objective_are_the_same_whichever_way_they_are_set():
    assert replace(ImageTrainSettings(), noise=(0.1, 2.0)).model.noise == (0.1, 2.0)
    with pytest.raises(InputError, match=r"^learning_rate"):
        ImageTrainSettings(learning_rate=0.0)


def test_a_run_does_not_go_on_with_another_set(tmp_path):
    data = load_images("digits").fewer(100)
    settings = ImageTrainSettings(ImageModelSettings(width=4), updates=2, batch_size=8)
    fit_images(data, settings, folder=tmp_path, progress=False)
    with pytest.raises(
        InputError, match=r"^data: expected the data .* \(100 images of digits, .*got others \(100 images of"
    ):
        fit_images(replace(data, name="other"), settings, folder=tmp_path, resume=True, progress=False)


@pytest.mark.parametrize("loss", LOSSES)
def test_images_of_one_pixel_train(loss):
    pixels = (torch.rand(40, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    data = ImageSet("one", pixels, torch.arange(40) % 4, pixels[:8], torch.arange(8) % 4)
    settings = ImageTrainSettings(
        ImageModelSettings(width=8), loss=loss, updates=3, batch_size=8, langevin_steps=2, chains=16
    )
    assert fit_images(data, settings, progress=False).training.rollbacks == 0
