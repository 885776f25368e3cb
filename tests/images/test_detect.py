"""Scores of outliers, and the outliers that they are tried on."""

import math

import pytest
import torch
from torch import tensor

from ebm_control.checks import InputError
from ebm_control.energies import SmallCNN
from ebm_control.images import (
    Attack,
    Classifier,
    EnergyProfile,
    attacked,
    auroc,
    energy_score,
    gradient_norm_score,
    nearest,
    outlier_sets,
    robustness,
)
from ebm_control.images.classify import accuracy
from ebm_control.images.detect import in_parts
from ebm_control.images.grid import grid, save_grid
from tests.helpers import assert_equal_up_to_rounding, seeded
from tests.images.helpers import DEVIATION, SHAPE, at, bowls, gaussian, images


def test_areas_are_chances_that_an_inlier_scores_less():
    low, high = tensor([0.0, 1.0]), tensor([2.0, 3.0, 5.0])
    assert auroc(low, high) == 1
    assert auroc(high, low) == 0
    assert auroc(low, low) == 0.5
    assert auroc(tensor([1.0, 1.0]), tensor([1.0])) == 0.5
    assert auroc(tensor([0.0, 2.0]), tensor([1.0, 2.0])) == pytest.approx((1 + 0 + 1 + 0.5) / 4)


def test_areas_agree_with_all_pairs():
    a, b = torch.randn(40, generator=seeded()).round(decimals=1), torch.randn(30, generator=seeded(1)) + 0.7
    b = b.round(decimals=1)
    less, same = (a[:, None] < b).double(), (a[:, None] == b).double()
    assert same.sum() > 0
    assert auroc(a, b) == pytest.approx(float((less + 0.5 * same).mean()))


def test_scores_without_a_value_count_as_the_highest():
    assert auroc(tensor([0.0, 1e30]), tensor([torch.nan, torch.inf])) == 1
    assert auroc(tensor([torch.nan]), tensor([3.0])) == 0
    assert auroc(tensor([-torch.inf]), tensor([-1e30])) == 1


def test_no_scores_are_refused():
    with pytest.raises(InputError, match=r"^outliers: expected some of both, got none"):
        auroc(tensor([]), tensor([1.0]))


@pytest.mark.parametrize("level", [None, 0.5])
def test_the_energy_s_score_is_the_energy(level):
    energy, x = gaussian(0.4), images(600, *SHAPE)
    # In two parts and at once.
    assert_equal_up_to_rounding(energy_score(energy, level)(x), energy(x, at(level or 0.02, 600)))
    plain = bowls(images(1, *SHAPE, seed=1))
    assert torch.equal(energy_score(plain)(x), plain(x))


@pytest.mark.parametrize("level", [None, 0.5])
def test_the_length_of_a_gaussian_s_gradient_is_known(level):
    x = images(5, *SHAPE)
    expected = (x - 0.4).flatten(1).norm(dim=1) / (DEVIATION**2 + (level or 0.02) ** 2)
    assert torch.allclose(gradient_norm_score(gaussian(0.4), level)(x), expected, rtol=1e-4)
    assert not x.requires_grad


def test_scores_of_many_images_are_those_of_each():
    seen = []

    def of(part):
        seen.append(len(part))
        return part.mean(dim=(1, 2, 3))

    x = images(25, *SHAPE)
    assert_equal_up_to_rounding(in_parts(of, x, size=10), x.mean(dim=(1, 2, 3)))
    assert seen == [10, 10, 5]


def drawn(count, seed):
    return 0.5 + DEVIATION * torch.randn(count, *SHAPE, generator=seeded(seed))


def test_a_profile_finds_images_that_are_likely_but_not_typical():
    """The mean image has the least energy of all, and hardly any draw of a Gaussian is so near its mean."""
    energy = gaussian()
    profile, typical = EnergyProfile.fit(energy, drawn(300, 0), components=1), drawn(200, 1)
    odd = 0.5 + 0.1 * (typical - 0.5)
    assert auroc(energy_score(energy)(typical), energy_score(energy)(odd)) == 0
    assert auroc(profile(typical), profile(odd)) == 1
    assert auroc(profile(typical), profile(0.5 + 3 * (typical - 0.5))) == 1


def test_a_profile_is_no_higher_for_fresh_data_than_for_what_it_was_fitted_to():
    data = drawn(300, 0)
    profile = EnergyProfile.fit(gaussian(), data, grid=0, components=1)
    assert 0.4 < auroc(profile(data), profile(drawn(300, 1))) < 0.6
    assert auroc(profile(drawn(100, 2)), profile(drawn(100, 3))) == pytest.approx(0.5, abs=0.15)


def test_a_profile_of_one_gaussian_is_half_a_squared_distance_and_the_density_s_constant(noised, digits):
    """Checked against the definition: whitened features of mean squared length k."""
    data, levels, ridge = digits.part("train", 400), (0.05, 0.5), 0.01
    profile = EnergyProfile.fit(noised, data, levels, grid=0, components=1, ridge=ridge)
    features = torch.from_numpy(EnergyProfile._features(noised, data, levels, 0))
    assert features.shape == (400, 4)
    away = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    spread = away.T @ away / len(away) + ridge * torch.eye(4)
    expected = torch.distributions.MultivariateNormal(torch.zeros(4).double(), spread).log_prob(away)
    assert torch.allclose(profile(data), -expected, rtol=1e-5)


def test_features_are_of_every_level_and_of_every_cell(noised, digits):
    x = digits.part("test", 3)
    (of_energies, of_cells) = (EnergyProfile._features(noised, x, (0.05, 0.5), grid) for grid in (0, 2))
    # Images are denoised at the higher level alone.
    assert of_cells.shape == (3, 2 * 2 + 4 * (2 + 3))
    assert (of_cells[:, :2] == of_energies[:, :2]).all()
    high = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(noised(high, at(0.5, 3)).sum(), high)
    clean = (x - 0.5**2 * gradient).unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5)).flatten(1)
    assert torch.allclose(torch.from_numpy(of_cells[:, -4:]).float(), clean, atol=1e-5)


def test_a_profile_sees_what_is_in_the_wrong_place():
    """Half of the image is always dark: the same ink in that half has the same energy in sum."""

    def half(count, seed, side):
        x = torch.full((count, *SHAPE), 0.5)
        cut = SHAPE[1] // 2
        rows = slice(0, cut) if side == "above" else slice(SHAPE[1] - cut, SHAPE[1])
        x[:, :, rows] += 0.3 * torch.randn(count, SHAPE[0], cut, SHAPE[2], generator=seeded(seed))
        return x

    data, usual, odd = half(300, 0, "above"), half(200, 1, "above"), half(200, 2, "below")
    plain = EnergyProfile.fit(gaussian(), data, grid=0, components=2)
    assert 0.4 < auroc(plain(usual), plain(odd)) < 0.6
    placed = EnergyProfile.fit(gaussian(), data, grid=2, components=2)
    assert auroc(placed(usual), placed(odd)) > 0.99


def test_images_without_a_finite_energy_are_the_oddest():
    profile = EnergyProfile.fit(gaussian(), drawn(100, 0), components=1)
    broken = drawn(3, 1)
    broken[1] = torch.nan
    scores = profile(broken)
    assert scores.isinf().tolist() == [False, True, False]
    assert profile(broken[1:2]).isinf().all()


def test_a_profile_tells_digits_from_noise_and_not_from_other_digits(noised, digits):
    profile = EnergyProfile.fit(noised, digits.part("train", 700))
    inliers = digits.part("test", 150)
    outliers = outlier_sets(inliers, seeded())
    assert auroc(profile(inliers), profile(outliers["uniform"])) > 0.99
    assert auroc(profile(inliers), profile(outliers["constant"])) > 0.95
    # Few training digits for features of every cell: without those, fresh digits are as usual as known ones.
    plain = EnergyProfile.fit(noised, digits.part("train", 700), grid=0)
    assert auroc(plain(digits.part("train", 400)), plain(inliers)) < 0.75


def test_what_a_profile_needs_is_named():
    with pytest.raises(InputError, match=r"^energy: expected one of noised images"):
        EnergyProfile.fit(bowls(images(1, *SHAPE)), images(100, *SHAPE))
    with pytest.raises(InputError, match=r"^images: expected over 60, got 60"):
        EnergyProfile.fit(gaussian(), drawn(60, 0), components=1)
    with pytest.raises(InputError, match=r"^images: expected over 600, got 70"):
        EnergyProfile.fit(gaussian(), drawn(70, 0), components=10)
    with pytest.raises(InputError, match=r"^components: expected a whole number of at least 1, got 0"):
        EnergyProfile.fit(gaussian(), drawn(70, 0), components=0)
    with pytest.raises(InputError, match=r"^grid: expected a whole number of at least 0, got -1"):
        EnergyProfile.fit(gaussian(), drawn(70, 0), grid=-1)


SIZES = pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7)], ids=str)


@SIZES
def test_outliers_are_images_like_the_inliers(shape):
    x = images(12, *shape)
    kept = x.clone()
    found = outlier_sets(x, seeded())
    assert set(found) == {"uniform", "constant", "interpolated", "rotated", "shuffled"}
    for name, outliers in found.items():
        assert len(outliers) == 12
        assert outliers.min() >= 0
        assert outliers.max() <= 1
        assert name == "rotated" or outliers.shape == x.shape
        assert not any(torch.equal(a, b) for a, b in zip(outliers, x, strict=True))
    assert torch.equal(x, kept)


def test_another_set_comes_first_and_as_it_is():
    x, other = images(3, *SHAPE), images(5, *SHAPE, seed=1)
    found = outlier_sets(x, seeded(), other)
    assert next(iter(found)) == "other"
    assert found["other"] is other


def test_outliers_repeat_with_the_seed():
    a, b, c = (outlier_sets(images(9, *SHAPE), seeded(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["shuffled"], c["shuffled"])


def test_uniform_noise_and_greys_are_uniform():
    found = outlier_sets(images(400, *SHAPE), seeded())
    assert float(found["uniform"].std()) == pytest.approx(1 / math.sqrt(12), rel=0.02)
    greys = found["constant"]
    assert torch.equal(greys, greys[:, :1, :1, :1].expand_as(greys))
    assert float(greys.std()) == pytest.approx(1 / math.sqrt(12), rel=0.1)


@SIZES
def test_interpolated_are_means_of_two_different_images(shape):
    x = images(6, *shape)
    for seed in range(5):
        mixed = outlier_sets(x, seeded(seed))["interpolated"]
        pairs = (x[:, None] + x) / 2
        match = (pairs == mixed[:, None, None]).flatten(3).all(dim=3)  # of each outlier, in all pairs
        assert match.any(dim=(1, 2)).all()
        assert not match.diagonal(dim1=1, dim2=2).any()


@SIZES
def test_four_quarter_turns_give_the_image_again(shape):
    x = turned = images(4, *shape)
    for _ in range(4):
        turned = outlier_sets(turned, seeded())["rotated"]
    assert torch.equal(turned, x)
    once = outlier_sets(x, seeded())["rotated"]
    assert torch.equal(once[:, :, 0, 0], x[:, :, 0, -1])


@SIZES
def test_shuffled_images_have_the_same_pixels_and_no_quarter_in_its_place(shape):
    x = images(200, *shape)
    moved = outlier_sets(x, seeded())["shuffled"]
    assert torch.equal(moved.flatten(2).sort(dim=2).values, x.flatten(2).sort(dim=2).values)
    rows, columns = shape[1] // 2, shape[2] // 2
    assert (moved != x)[:, :, : 2 * rows, : 2 * columns].all()
    # A row and a column that are left over at the edge stay.
    assert torch.equal(moved[:, :, 2 * rows :], x[:, :, 2 * rows :])

    def corners(images):
        return torch.stack([images[:, 0, r, c] for r in (0, rows) for c in (0, columns)], dim=1)

    orders = (corners(moved)[:, :, None] == corners(x)[:, None]).int().argmax(dim=2)
    assert len({tuple(order) for order in orders.tolist()}) >= 5
    assert (orders.sort(dim=1).values == torch.arange(4)).all()


NO_IMAGES = {
    "none": None,
    "text": "values",
    "bytes": torch.ones(4, 1, 8, 8, dtype=torch.uint8),
    "number": 0.5,
}


@pytest.mark.parametrize("given", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_refused_wherever_images_are_scored_or_shown(given, tmp_path):
    labels = torch.zeros(4, dtype=torch.long)
    classifier = Classifier(SmallCNN((1, 8, 8), 2, 4))
    for task in (
        lambda: energy_score(gaussian())(given),
        lambda: outlier_sets(given, seeded()),
        lambda: accuracy(classifier, given, labels),
        lambda: attacked(classifier, given, labels, Attack(0.1, 1)),
        lambda: robustness(classifier, given, labels, (0.1,)),
        lambda: nearest(given, images(3, 1, 8, 8)),
        lambda: grid(given, 2),
        lambda: save_grid(tmp_path / "some.png", given, 2),
    ):
        with pytest.raises(InputError, match=r"^images: expected") as caught:
            task()
        assert "\n" not in str(caught.value)
