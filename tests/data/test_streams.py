"""Streams of tasks: what arrives when."""

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import ImageSet, load_images
from ebm_control.data.streams import TaskStream, permuted_stream, split_stream, task_shares


@pytest.fixture(scope="module")
def digits():
    return load_images("digits")


def test_split_tasks_have_each_image_of_their_classes_once(digits):
    stream = split_stream(digits)
    assert stream.name == "split-digits"
    assert stream.classes == 10
    assert [stream.classes_of(i) for i in range(5)] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert sum(len(task.images) for task in stream.tasks) == len(digits.images)
    assert sum(len(task.test_images) for task in stream.tasks) == len(digits.test_images)
    second = torch.isin(digits.labels, torch.tensor([2, 3]))
    assert torch.equal(stream.tasks[1].images, digits.images[second])
    assert torch.equal(stream.tasks[1].labels, digits.labels[second])
    assert set(stream.tasks[1].test_labels.tolist()) == {2, 3}


def test_classes_arrive_in_the_order_asked_for(digits):
    stream = split_stream(digits, 5, order=[9, 1, 8, 2, 7, 3, 6, 4, 5, 0])
    assert [stream.classes_of(i) for i in range(2)] == [(1, 2, 7, 8, 9), (0, 3, 4, 5, 6)]


def test_permuted_tasks_show_the_same_pixels_in_other_places(digits):
    stream = permuted_stream(digits, 3, seed=1)
    first, second, third = stream.tasks
    assert torch.equal(first.images, digits.images)
    assert not torch.equal(second.images, first.images)
    assert not torch.equal(second.images, third.images)
    assert torch.equal(second.images.flatten(1).sort().values, first.images.flatten(1).sort().values)
    # One order for all images, of train and test.
    where = second.images.flatten(1)[:, :, None] == first.images.flatten(1)[:, None]
    order = where.all(dim=0).float().argmax(dim=1)
    moved = where.all(dim=0).sum(dim=1) == 1  # pixels that are always black could be anywhere
    assert moved.sum() > 30
    test = first.test_images.flatten(1)[:, order]
    assert torch.equal(second.test_images.flatten(1)[:, moved], test[:, moved])
    assert torch.equal(permuted_stream(digits, 2, seed=1).tasks[1].images, second.images)


def test_permuted_tasks_have_classes_of_their_own_or_the_same(digits):
    own, same = (permuted_stream(digits, 2, new_classes=new) for new in (True, False))
    assert own.classes == 20
    assert own.classes_of(1) == tuple(range(10, 20))
    assert same.classes == 10
    assert same.classes_of(1) == tuple(range(10))


def test_with_boundaries_a_batch_is_of_one_task_and_says_which(digits):
    stream = split_stream(digits)
    drawn = list(stream.batches(3, 16))
    assert [batch.task for batch in drawn] == [i for i in range(5) for _ in range(3)]
    for batch in drawn:
        assert batch.x.shape == (16, 1, 8, 8)
        assert 0.5 < batch.x.max() <= 1
        assert set(batch.labels.tolist()) <= set(stream.classes_of(batch.task))


def test_without_boundaries_tasks_take_each_other_s_place_little_by_little(digits):
    stream = split_stream(digits)
    drawn = list(stream.batches(20, 200, overlap=0.5))
    assert len(drawn) == 100
    assert all(batch.task is None for batch in drawn)
    shares = torch.stack([torch.bincount(batch.labels // 2, minlength=5) / 200 for batch in drawn])
    assert (shares - task_shares(5, 20, 0.5)).abs().max() < 0.15
    assert (shares[20] > 0).tolist() == [True, True, False, False, False]
    assert (shares[30] > 0).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("overlap", [0.0, 0.3, 1.0])
def test_shares_of_tasks_add_up_and_each_has_its_time(overlap):
    shares = task_shares(4, 50, overlap)
    assert shares.shape == (200, 4)
    assert torch.allclose(shares.sum(dim=1), torch.ones(200))
    assert shares.min() >= 0
    assert torch.allclose(shares.sum(dim=0)[1:-1], torch.full((2,), 50.0), atol=1e-3)
    assert (shares.argmax(dim=1) == torch.arange(4).repeat_interleave(50)).all()
    mixed = ((shares > 0) & (shares < 1)).any(dim=1).sum()
    assert int(mixed) == pytest.approx(3 * 50 * overlap, abs=3)


def test_streams_repeat_with_their_seed(digits):
    stream = split_stream(digits)
    a, b, c = (next(stream.batches(1, 8, seed=seed)).x for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_what_a_stream_cannot_be_is_said(digits):
    with pytest.raises(InputError, match=r"^per_task: expected a divisor of 10, got 3"):
        split_stream(digits, 3)
    with pytest.raises(InputError, match=r"^order: expected classes 0 to 9, each once"):
        split_stream(digits, order=[0, 1, 1, 2, 3, 4, 5, 6, 7, 8])
    with pytest.raises(InputError, match=r"^tasks: expected a whole number of at least 1, got 0"):
        permuted_stream(digits, 0)
    stream = split_stream(digits)
    with pytest.raises(InputError, match=r"^overlap: expected a number from 0 to 1, got 1\.5"):
        stream.batches(1, overlap=1.5)
    with pytest.raises(InputError, match=r"^updates: expected a whole number of at least 1, got 0"):
        stream.batches(0)
    with pytest.raises(InputError, match=r"^batch_size: expected a whole number of at least 1, got 0"):
        stream.batches(1, 0)


def task(**given):
    images, labels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4)
    parts = {"images": images, "labels": labels, "test_images": images, "test_labels": labels}
    return ImageSet("some", **(parts | given))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (
            {name: torch.zeros(4, 1, 9, 8, dtype=torch.uint8) for name in ("images", "test_images")},
            r"expected images \(1, 8, 8\), got \(1, 9, 8\) in some",
        ),
        (
            {"test_images": torch.zeros(0, 1, 8, 8, dtype=torch.uint8), "test_labels": torch.zeros(0)},
            "expected images to test by, at least one, got none in some",
        ),
        ({"labels": torch.arange(4) + 1}, "expected labels 0 to 3, got 4 in some"),
        ({"test_labels": torch.arange(4) * 2}, "expected labels 0 to 3, got 6 in some"),
    ],
)
def test_what_a_task_cannot_be_is_said(given, complaint):
    assert TaskStream("one", (task(),), 4).shape == (1, 8, 8)
    with pytest.raises(InputError, match=f"^tasks: {complaint}"):
        TaskStream("one", (task(), task(**given)), 4)
    with pytest.raises(InputError, match=r"^tasks: expected at least one, got none"):
        TaskStream("one", (), 4)


def test_images_without_channels_are_of_one(digits):
    flat = torch.zeros(4, 8, 8, dtype=torch.uint8)
    assert split_stream(task(images=flat, test_images=flat)).shape == (1, 8, 8)


def test_classes_without_images_to_learn_or_to_test_by_are_refused(digits):
    keep = digits.labels != 3
    lame = ImageSet("lame", digits.images[keep], digits.labels[keep], digits.test_images, digits.test_labels)
    with pytest.raises(
        InputError, match=r"^images: expected at least one to learn from, got none in 'lame-3'"
    ):
        split_stream(lame, 1)


NO_COUNT = [0, -1, 1.5, 2.0, np.float32(2), float("nan"), float("inf"), "three", [], None, True, 2**70]
NO_SEED = [-1, 1.5, float("nan"), "x", [], None, True, 2**70]


def four():
    return split_stream(task())


@pytest.mark.parametrize(
    ("name", "values", "make"),
    [
        ("updates", NO_COUNT, lambda updates: four().batches(updates)),
        ("batch_size", NO_COUNT, lambda size: four().batches(1, size)),
        (
            "overlap",
            [-0.1, 1.1, float("nan"), "x", [], True],
            lambda overlap: four().batches(1, overlap=overlap),
        ),
        ("seed", NO_SEED, lambda seed: four().batches(1, seed=seed)),
        ("classes", [*NO_COUNT, 10**6], lambda classes: TaskStream("one", (task(),), classes)),
        ("per_task", NO_COUNT, lambda per_task: split_stream(task(), per_task)),
        ("tasks", [*NO_COUNT, 10**6], lambda tasks: permuted_stream(task(), tasks)),
        ("seed", NO_SEED, lambda seed: permuted_stream(task(), seed=seed)),
        ("new_classes", ["no", None, 1], lambda given: permuted_stream(task(), 2, new_classes=given)),
        ("tasks", [None, "ab", 3, [1, 2]], lambda tasks: TaskStream("one", tasks, 4)),
        (
            "order",
            [3, "abcd", [0, 1, 2, "a"], [0.0, 1.0, 2.0, 3.0], [False, True, 2, 3], np.array(3), {}],
            lambda order: split_stream(task(), order=order),
        ),
    ],
)
def test_figures_of_streams_that_make_no_sense_are_named(name, values, make):
    for value in values:
        with pytest.raises(InputError, match=rf"^{name}: expected") as caught:
            make(value)
        assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_those_of_python():
    order = np.array([3, 1, 0, 2])
    stream, expected = (
        split_stream(task(), np.int64(2), order=order),
        split_stream(task(), 2, order=order.tolist()),
    )
    assert stream.name == expected.name
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(stream.tasks, expected.tasks, strict=True))
    found = stream.batches(np.int64(2), np.int32(3), overlap=np.float32(0.5), seed=np.int64(3))
    for a, b in zip(found, expected.batches(2, 3, overlap=0.5, seed=3), strict=True):
        assert torch.equal(a.x, b.x)
    permuted = permuted_stream(task(), np.int64(2), seed=np.uint8(3)).tasks[1].images
    assert torch.equal(permuted, permuted_stream(task(), 2, seed=3).tasks[1].images)
