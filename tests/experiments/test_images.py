from dataclasses import replace

import pytest
import torch

from ebm_control.data import draw_shapes, load_images
from experiments.images import composition, defence, density
from experiments.images import jobs as jobs_module
from experiments.images.baselines import simple_rows
from experiments.images.jobs import jobs_of, run
from experiments.images.judge import judge_of
from experiments.images.report import minutes, of_task, summarised, withstood
from experiments.images.settings import QUICK, UPDATES, settings_for

TINY = replace(
    QUICK,
    width=4,
    energy=0.01,
    autoencoder=20,
    classifier=150,
    classes=40,
    adversarial=4,
    shapes=20,
    samples=30,
    filled=12,
    outliers=60,
    attacked=12,
    radii=(0.0, 0.3),
    radii_l2=(),
    steps=4,
    drawn=1200,
    composed=12,
    levels=4,
)
HASTY = replace(TINY, classifier=20, filled=4, fills=2)  # where nothing is asked of how good a classifier is


@pytest.fixture(scope="module")
def digits():
    return load_images("digits")


@pytest.mark.parametrize("loss", list(UPDATES))
def test_an_energy_is_measured_on_every_task_of_density(digits, loss, tmp_path):
    rows = density.energy_rows(digits, None, loss, 0, HASTY, tmp_path)
    by_task = {row["task"] for row in rows}
    assert by_task == {"train", "generate", "inpaint", "restore", "outliers"}
    assert all(row["known_unchanged"] == 1.0 for row in rows if row["task"] == "inpaint")
    starts = {row["start"] for row in rows if row["task"] == "generate"}
    assert starts == {"from noise"} | (set() if loss == "dsm" else {"from the sample buffer"})
    scores = {row["score"] for row in rows if row["task"] == "outliers"}
    assert ("profile" in scores) == (loss == "dsm")
    assert list((tmp_path / "figures").glob(f"digits-{loss}-*.png"))


def test_the_nearest_training_image_of_a_training_image_is_another(digits, tmp_path):
    rows = simple_rows(digits, 0, replace(HASTY, filled=TINY.filled), tmp_path)
    nearest = [row for row in rows if row["method"] == "nearest training image" and row["part"] == "train"]
    assert all(row["mse"] > 1e-3 for row in nearest)
    mean = [row["mse"] for row in rows if row["method"] == "mean image" and row["missing"] == "random"]
    near = [row["mse"] for row in rows if row["method"] != "mean image" and row["missing"] == "random"]
    assert sum(near) < sum(mean)


def test_all_methods_are_judged_by_one_classifier_that_is_kept(digits, tmp_path):
    first, again = judge_of(digits, TINY, tmp_path), judge_of(digits, TINY, tmp_path)
    x = digits.part("test", 5)
    assert torch.equal(first(x), again(x))
    assert first.accuracy(digits.part("test"), digits.test_labels) > 0.5


def test_attacks_of_every_defence_are_recorded_with_checks_of_hidden_gradients(digits, tmp_path):
    for method in ("classifier", "energy"):
        rows = defence.defence_rows(digits, method, 0, HASTY, tmp_path)
        assert {row["attack"] for row in rows} == {"none", "pgd", "apgd", "transferred", "pgd, far"}
        assert all(row["accuracy"] <= 0.2 for row in rows if row["attack"] == "pgd, far")
        names = {row["defence"] for row in rows}
        assert len(names) == (1 if method == "classifier" else len(defence.LEVELS) + 1)


def test_combinations_that_were_never_seen_are_told_from_others():
    seen = draw_shapes(3000, torch.Generator().manual_seed(0), without=composition.UNSEEN)
    group = ("shape", "position", "size")
    values = torch.stack([seen.attributes[name] for name in group], dim=1)
    assert not composition.unseen(values, group).any()
    asked = torch.tensor([[0, 1, 0], [0, 2, 0], [2, 0, 1]])
    assert composition.unseen(asked, group).tolist() == [True, False, True]
    assert composition.unseen(asked[:, :2], group[:2]).tolist() == [True, False, False]


def test_a_thick_stroke_is_told_from_a_thin_one():
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    images[0, :, 4:24, 13] = 255
    images[1, :, 4:24, 11:16] = 255
    thin, thick = composition.stroke_width(images)
    assert thick > 3 * thin


def test_composed_shapes_are_judged_by_attribute_and_together(tmp_path):
    rows = composition.shapes_rows(0, HASTY, tmp_path)
    together = [row for row in rows if " + " in row["attributes"]]
    # A plain sum is tried on one group alone.
    assert len(together) == len(composition.TOGETHER) * (len(composition.WAYS) - 1) + 1
    assert {row["way"] for row in rows} == {*composition.WAYS, "mixture", "difference"}
    for row in together:
        each = [value for name, value in row.items() if name.startswith("accuracy_")]
        assert row["joint"] <= min(each)


def test_a_quick_run_needs_no_files_and_a_full_one_covers_both_sets(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs_module, "QUICK", HASTY)
    quick = list(jobs_of(("density", "robustness", "compose"), range(1), True, tmp_path))
    assert {job.data for job in quick} == {"digits", "shapes"}
    full = list(jobs_of(("density", "robustness", "compose"), range(2), False, tmp_path))
    assert {job.data for job in full} == {"mnist", "fashion-mnist", "shapes"}
    assert len({(job.name, job.seed) for job in full}) == len(full)
    [simple] = [job for job in quick if job.method == "no learning"]
    rows = run(simple)
    assert {row["method"] for row in rows} == {"mean image", "nearest training image"}


def test_objectives_are_one_argument_apart():
    made = [settings_for(loss, QUICK, 0) for loss in UPDATES]
    assert [settings.loss for settings in made] == list(UPDATES)
    assert [settings.model.network for settings in made] == ["unet", "small", "small"]
    plain = {replace(settings.model, noise=(), network="auto") for settings in made}
    assert len(plain) == 1


def test_tables_have_a_row_for_every_set_method_and_kind():
    rows = [
        {
            "task": "inpaint", "data": "digits", "missing": "random", "part": "test", "method": method,
            "seed": seed, "mse": 0.1 * (seed + 1), "mse_of_mean": 0.1, "feature_distance": 0.2,
            "fills_apart": 0.3, "known_unchanged": 1.0,
        }
        for method in ("a", "b")
        for seed in (0, 1, 2)
    ]  # fmt: skip
    text = of_task(summarised(rows), "inpaint")
    assert "| digits | random | test | a | 0.2 ± 0.25 | 0.1 ± 0 |" in text
    assert text.count("| digits |") == 2


def attacked_row(attack, radius, accuracy, seed=0, norm="linf", defence="d"):
    return {
        "task": "robustness", "data": "digits", "defence": defence, "attack": attack, "norm": norm, "radius": radius,
        "accuracy": accuracy, "clean_accuracy": 0.9, "seed": seed,
    }  # fmt: skip


def test_a_defence_is_worth_what_the_strongest_attack_leaves_of_it():
    rows = summarised(
        [
            attacked_row("none", 0.0, 0.9),
            attacked_row("pgd", 0.2, 0.5),
            attacked_row("apgd", 0.2, 0.1),
            attacked_row("pgd", 1.0, 0.3, norm="l2"),
            attacked_row("transferred", 0.2, 0.7),
            attacked_row("pgd, far", 1.0, 0.0),
            attacked_row("apgd", 0.2, 0.4, defence="e"),
        ]
    )
    columns, body = withstood(rows)
    assert columns == [
        "data", "defence", "clean", "linf 0.2", "l2 1", "transferred, linf 0.2", "linf 1", "seeds"
    ]  # fmt: skip
    assert body == [
        ["digits", "d", "0.9", "0.1", "0.3", "0.7", "0", "1"],
        ["digits", "e", "0.9", "0.4", "–", "–", "–", "1"],
    ]
    assert "| digits | d | 0.9 | 0.1 |" in of_task(rows, "robustness")


def test_minutes_are_told_apart_by_what_a_run_was_on():
    rows = [
        {"job": "a", "seed": 0, "train_seconds": 60.0, "accelerator": None},
        {"job": "a", "seed": 0, "train_seconds": 60.0, "accelerator": None},
        {"job": "a", "seed": 1, "train_seconds": 180.0, "accelerator": None},
        {"job": "a", "seed": 2, "train_seconds": 30.0, "accelerator": "a GPU"},
        {"job": "b", "seed": 0, "train_seconds": None, "accelerator": None},
    ]
    assert minutes(rows) == [["a", "a GPU", "0.5", "2"], ["a", "one core", "2.0", "0, 1"]]
