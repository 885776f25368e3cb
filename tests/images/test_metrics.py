"""Figures of how good images are: what they are 0 for, and what makes them grow."""

import pytest
import torch
from torch.nn import functional

from ebm_control.checks import InputError
from ebm_control.images import feature_distance, feature_frechet, nearest, precision_recall
from ebm_control.images.metrics import features
from tests.helpers import seeded
from tests.images.helpers import SHAPE, images


def spoilt(x, std, seed=0):
    return (x + std * torch.randn(x.shape, generator=seeded(seed))).clamp(0, 1)


@pytest.fixture
def data(digits):
    return digits.part("test", 200)


def test_features_are_means_over_quarters_of_the_last_layer(classifier, data):
    last = classifier.features(data)[-1]
    height, width = last.shape[2:]
    quarters = [
        last[:, :, r : r + height // 2, c : c + width // 2].mean(dim=(2, 3))
        for r in (0, height // 2)
        for c in (0, width // 2)
    ]
    by_hand = torch.stack(quarters, dim=2).flatten(1)
    assert torch.allclose(features(classifier, data), by_hand, atol=1e-5)


def test_a_set_is_at_no_distance_from_itself(classifier, data):
    shuffled = data[torch.randperm(len(data), generator=seeded())]
    assert feature_frechet(classifier, data, data) == pytest.approx(0, abs=1e-3)
    assert feature_frechet(classifier, shuffled, data) == pytest.approx(0, abs=1e-3)


def test_the_frechet_distance_grows_with_what_spoils_images(classifier, digits, data):
    other = feature_frechet(classifier, digits.part("train", 200), data)
    distances = [feature_frechet(classifier, spoilt(data, std), data) for std in (0.1, 0.3, 0.6)]
    assert distances == sorted(distances)
    assert distances[-1] > 2 * other > 0


def test_precision_and_recall_of_a_set_and_itself_are_1(classifier, data):
    assert precision_recall(classifier, data, data) == (1, 1)


def test_noise_is_neither_precise_nor_does_it_recall(classifier, data):
    precision, recall = precision_recall(classifier, images(200, *SHAPE), data)
    assert precision < 0.2
    assert recall < 0.2


def test_images_of_few_classes_are_precise_and_recall_little(classifier, digits, data):
    labels = digits.test_labels[:200]
    precision, recall = precision_recall(classifier, data[labels < 2], data)
    assert precision == 1
    assert recall < 0.5
    # The other way round roles change.
    assert precision_recall(classifier, data, data[labels < 2]) == (recall, precision)


def test_more_neighbours_cover_more(classifier, digits, data):
    train = digits.part("train", 200)
    found = [precision_recall(classifier, train, data, neighbours) for neighbours in (1, 3, 9)]
    for figures in zip(*found, strict=True):
        assert list(figures) == sorted(figures)
        assert figures[0] < figures[-1]


def test_precision_agrees_with_all_pairs(classifier, digits, data):
    samples = spoilt(digits.part("train", 60), 0.1)
    a, b = (features(classifier, x).double() for x in (samples, data))
    near = 0
    radii = [(b - row).norm(dim=1).sort().values[2] for row in b]
    for row in a:
        near += any(float((row - b[i]).norm()) <= radii[i] for i in range(len(b)))
    assert precision_recall(classifier, samples, data, 2)[0] == pytest.approx(near / 60, abs=0.02)


def test_fewer_images_than_neighbours_are_refused(classifier, data):
    with pytest.raises(InputError, match=r"^samples: expected more than 3, got 3"):
        precision_recall(classifier, data[:3], data)


def test_an_image_is_at_no_distance_from_itself_and_pairs_have_no_order(classifier, data):
    a, b = data[:50], data[50:100]
    assert feature_distance(classifier, a, a).abs().max() == 0
    ahead, back = feature_distance(classifier, a, b), feature_distance(classifier, b, a)
    assert torch.allclose(ahead, back)
    assert ahead.shape == (50,)
    assert ahead.min() > 0


def test_each_pair_of_images_has_its_own_distance(classifier, data):
    a, b = data[:5], data[5:10]
    together = feature_distance(classifier, a, b)
    alone = torch.cat([feature_distance(classifier, a[i : i + 1], b[i : i + 1]) for i in range(5)])
    assert torch.allclose(together, alone, rtol=1e-4)


def test_distances_are_those_of_features_of_length_1(classifier, data):
    a, b = data[:4], data[4:8]
    expected = torch.zeros(4)
    for left, right in zip(classifier.features(a), classifier.features(b), strict=True):
        alike = functional.cosine_similarity(left, right, dim=1)  # of unit vectors: |u - v|² = 2 - 2 u·v
        expected += (2 - 2 * alike).mean(dim=(1, 2))
    assert torch.allclose(feature_distance(classifier, a, b), expected, rtol=1e-3)


def test_images_are_further_apart_the_more_they_are_spoilt(classifier, data):
    near, far = (feature_distance(classifier, data, spoilt(data, std)) for std in (0.05, 0.3))
    assert (near < far).float().mean() > 0.95
    with pytest.raises(InputError, match=r"^b: expected shape"):
        feature_distance(classifier, data[:3], data[:2])


@pytest.mark.parametrize("size", [1, 7, 256])
def test_the_nearest_image_is_that_of_the_least_squared_difference(size):
    x, pool = images(20, 2, 5, 4), images(30, 2, 5, 4, seed=1)
    expected = (x[:, None] - pool).square().sum(dim=(2, 3, 4)).argmin(dim=1)
    assert torch.equal(nearest(x, pool, size=size), expected)


@pytest.mark.parametrize("size", [3, 256])
def test_unknown_pixels_do_not_count(size):
    x, pool = images(20, 1, 5, 4), images(30, 1, 5, 4, seed=1)
    known = images(20, 1, 5, 4, seed=2) < 0.4
    apart = torch.where(known[:, None], x[:, None] - pool, 0.0).square().sum(dim=(2, 3, 4))
    found = nearest(x, pool, known, size=size)
    assert torch.equal(found, apart.argmin(dim=1))
    assert torch.equal(nearest(torch.where(known, x, 9.0), pool, known), found)
    assert not torch.equal(nearest(x, pool), found)


def test_one_mask_serves_all_images():
    pool = images(10, *SHAPE)
    known = torch.zeros(SHAPE, dtype=torch.bool)
    known[:, :2] = True
    halves = torch.where(known, pool.flip(0), 0.5)
    assert torch.equal(nearest(halves, pool, known), torch.arange(9, -1, -1))
