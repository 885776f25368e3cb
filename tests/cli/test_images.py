import json

import imageio.v3 as iio
import pytest
import torch

from ebm_control.cli import main
from ebm_control.models import ImageModel

pytestmark = pytest.mark.slow

SMALL = [
    "--train.updates", "30", "--train.batch-size", "32", "--train.model.width", "4", "--train.model.conditional",
    "--train.classify", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder with a model of digits and two of shapes."""
    folder = tmp_path_factory.mktemp("images")
    main(["images", "train", "--out", str(folder / "digits"), *SMALL])
    for name in ("shape", "size"):
        brief = [*SMALL, "--train.updates", "2"]  # a page is drawn of them, and nothing is measured
        main(["images", "train", "--data", f"shapes-{name}", "--out", str(folder / name), *brief])
    return folder


def read(folder):
    return json.loads((folder / "summary.json").read_text())


def task(runs, name, out, *arguments, count=12):
    given = ["--checkpoint", str(runs / "digits"), "--out", str(out), "--count", str(count)]
    main(["images", name, *given, *arguments])
    return read(out)


def test_training_leaves_a_model_a_page_of_samples_and_figures(runs):
    folder = runs / "digits"
    model = ImageModel.load(folder / "checkpoints")
    assert (model.data, model.classes, model.shape) == ("digits", 10, (1, 8, 8))
    assert iio.imread(folder / "figures" / "samples.png").shape == ((8 * 9 - 1) * 2, (10 * 9 - 1) * 2, 3)
    summary = read(folder)
    assert summary["updates"] == 30
    assert summary["images"] == 1438
    assert list((folder / "events").rglob("events.out.tfevents.*"))
    with pytest.raises(SystemExit):
        main(["images", "train", "--out", str(folder), *SMALL])


def test_samples_are_drawn_shown_with_their_chains_and_neighbours_and_measured(runs, tmp_path):
    summary = task(runs, "generate", tmp_path, "--label", "3", "--steps", "10", "--judge-updates", "150")
    samples = torch.load(tmp_path / "samples.pt", weights_only=True)
    assert samples.shape == (12, 1, 8, 8)
    assert samples.min() >= 0
    assert samples.max() <= 1
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"samples.png", "chains.png", "nearest.png"}
    assert summary["frechet"] > summary["frechet_of_training_images"] > 0
    assert summary["classifier_accuracy"] > 0.7


@pytest.mark.parametrize("missing", ["bottom", "random"])
def test_filling_keeps_what_is_known_and_says_how_far_off_it_is(runs, tmp_path, missing):
    summary = task(runs, "inpaint", tmp_path, "--missing", missing, "--fills", "2")
    assert summary["known_unchanged"]
    assert 0 < summary["mse_of_the_mean"] < summary["mse_of_a_fill"]
    assert summary["mse_of_the_nearest_training_image"] > 0
    assert (tmp_path / "figures" / "inpainted.png").exists()


@pytest.mark.parametrize("spoilt", ["pixels", "gaussian"])
def test_mending_says_how_far_off_images_were_and_are(runs, tmp_path, spoilt):
    summary = task(runs, "restore", tmp_path, "--spoilt", spoilt)
    assert summary["mse_given"] > 0.01
    assert summary["mse"] > 0
    if spoilt == "gaussian":
        assert summary["mse"] < summary["mse_given"]


def test_outliers_are_scored_by_set_and_score(runs, tmp_path):
    summary = task(runs, "ood", tmp_path, count=100)
    assert summary["profile_uniform"] > 0.9
    assert {"energy_constant", "gradient_norm_shuffled", "profile_rotated"} <= summary.keys()


def test_another_set_has_to_be_of_the_same_shape(runs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        task(runs, "ood", tmp_path, "--other", "shapes-shape")
    assert "other: expected images of shape (1, 8, 8)" in capsys.readouterr().err


def test_accuracy_falls_with_the_radius_of_attacks(runs, tmp_path):
    summary = task(
        runs, "robustness", tmp_path, "--radii", "0", "1.0", "--classifier-updates", "300", count=20
    )
    assert summary["classifier_none_0"] > 0.7
    assert summary["classifier_pgd_1"] == 0
    assert summary["energy_apgd_1"] <= summary["energy_none_0"]


def test_energies_of_attributes_are_composed_to_a_page(runs, tmp_path):
    given = ["--checkpoints", str(runs / "shape"), str(runs / "size"), "--out", str(tmp_path), "--count", "4"]
    main(["images", "compose", *given, "--attributes", "2", "1"])
    assert iio.imread(tmp_path / "figures" / "composed.png").ndim == 3
    with pytest.raises(SystemExit):
        main(["images", "compose", *given, "--attributes", "2"])


def test_an_unknown_set_and_a_missing_folder_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("EBM_CONTROL_DATA", raising=False)
    for name, words in (
        ("cifar", "name: expected one of"),
        ("mnist", "EBM_CONTROL_DATA"),
        ("shapes-x", "data:"),
    ):
        with pytest.raises(SystemExit):
            main(["images", "train", "--data", name, "--out", str(tmp_path / name)])
        assert words in capsys.readouterr().err
