"""Sets of images: the published files and no others, and batches of what is in them."""

import gzip
import hashlib

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import ImageBatches, ImageSet, load_images
from ebm_control.data.images import _CHECKSUMS

FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (7, 6, 5), np.uint8), RNG.permutation(7).astype(np.uint8)
TEST_IMAGES, TEST_LABELS = RNG.integers(0, 256, (3, 6, 5), np.uint8), np.array([2, 0, 1], np.uint8)


def idx(values):
    return b"\0\0\x08" + bytes([values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four idx files as a set of that name has them, but small and not packed; published as far as we know."""
    place = tmp_path / "mnist"
    place.mkdir()
    contents = [idx(values) for values in (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)]
    for name, content in zip(FILES, contents, strict=True):
        (place / f"{name}-ubyte").write_bytes(content)
    monkeypatch.setitem(_CHECKSUMS, "mnist", tuple(hashlib.sha256(c).hexdigest() for c in contents))
    return tmp_path


@pytest.fixture(scope="module")
def digits():
    return load_images("digits")


def batches(count=6, batch_size=400, **given):
    """Of images that are each of one grey level, so that a pixel tells which one it is."""
    grey = torch.tensor([0, 1, 100, 127, 254, 255], dtype=torch.uint8)[:count]
    return grey, ImageBatches(grey[:, None, None, None].expand(-1, 1, 2, 3), batch_size, **given)


def test_idx_files_hold_the_images_and_labels_that_were_written(folder):
    found = load_images("mnist", folder)
    assert found.shape == (1, 6, 5)
    assert found.classes == 7
    for tensor, values in (
        (found.images[:, 0], IMAGES),
        (found.labels, LABELS),
        (found.test_images[:, 0], TEST_IMAGES),
        (found.test_labels, TEST_LABELS),
    ):
        np.testing.assert_array_equal(tensor.numpy(), values)
    assert found.labels.dtype == torch.int64


def test_the_folder_may_be_named_by_the_environment(folder, monkeypatch):
    monkeypatch.setenv("EBM_CONTROL_DATA", str(folder))
    assert torch.equal(load_images("mnist").images, load_images("mnist", folder).images)
    monkeypatch.setenv("EBM_CONTROL_DATA", "/nowhere")
    assert len(load_images("mnist", folder).images) == 7


def test_a_missing_folder_is_named_with_the_variable_that_could_tell_it(monkeypatch):
    monkeypatch.delenv("EBM_CONTROL_DATA", raising=False)
    with pytest.raises(InputError, match=r"^folder: .*fashion-mnist/train-images.*EBM_CONTROL_DATA"):
        load_images("fashion-mnist")


def test_a_folder_in_a_file_s_place_is_named(folder):
    file = folder / "mnist" / f"{FILES[1]}-ubyte"
    file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match=rf"^folder: expected a readable file, got .*{file.name}"):
        load_images("mnist", folder)


def test_a_missing_file_and_a_set_that_is_unknown_are_named(folder):
    (folder / "mnist" / f"{FILES[3]}-ubyte").unlink()
    with pytest.raises(
        InputError, match=r"four idx files of mnist, got .*without t10k-labels-idx1-ubyte\.gz"
    ):
        load_images("mnist", folder)
    with pytest.raises(InputError, match=r"^name: expected one of .*'digits'.*got cifar"):
        load_images("cifar", folder)


def test_packed_and_plain_files_are_alike_however_they_are_packed(folder):
    plain = load_images("mnist", folder)
    for level, name in enumerate(FILES):
        file = folder / "mnist" / f"{name}-ubyte"
        file.with_suffix(".gz").write_bytes(gzip.compress(file.read_bytes(), level))
        file.unlink()
    packed = load_images("mnist", folder)
    assert packed.digest() == plain.digest()
    assert torch.equal(packed.test_images, plain.test_images)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("file", range(4))
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:8],
        lambda content: content[:3],
        lambda content: b"",
        lambda content: b"\0\0\x0d" + content[3:],
        lambda content: content[:-1] + bytes([content[-1] ^ 128]),
        lambda content: content[:7] + bytes([content[7] - 1]) + content[8:],
    ],
    ids=["truncated", "longer", "header alone", "3 bytes", "empty", "floats", "another value", "one less"],
)
def test_a_file_that_does_not_hold_what_was_published_is_named_with_both_checksums(
    folder, damage, file, packed
):
    path = folder / "mnist" / f"{FILES[file]}-ubyte"
    content = damage(path.read_bytes())
    if packed:
        path.unlink()
        path = path.with_suffix(".gz")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(InputError, match=r"^folder: expected the published content, ") as caught:
        load_images("mnist", folder)
    for part in (path, hashlib.sha256(content).hexdigest(), _CHECKSUMS["mnist"][file]):
        assert str(part) in str(caught.value)


@pytest.mark.parametrize("place", [0, 3, 12, -1, -8, "half", "empty"])
def test_a_packed_file_that_is_damaged_is_named_in_one_line(folder, place):
    packed = folder / "mnist" / f"{FILES[0]}-ubyte.gz"
    content = bytearray(gzip.compress(idx(IMAGES), mtime=0))
    if isinstance(place, int):
        content[place] ^= 0xFF
    else:
        del content[0 if place == "empty" else len(content) // 2 :]
    packed.write_bytes(content)
    with pytest.raises(InputError, match=r"^folder: .*train-images-idx3-ubyte\.gz") as caught:
        load_images("mnist", folder)
    assert "\n" not in str(caught.value)


def test_no_way_to_openml_is_said_plainly(monkeypatch):
    def refused(*args, **given):
        raise OSError("no route")

    monkeypatch.delenv("EBM_CONTROL_DATA", raising=False)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", refused)
    with pytest.raises(InputError, match=r"^download: openml\.org could not be reached \(no route\)"):
        load_images("mnist", download=True)


def test_digits_are_those_of_scikit_learn_in_full_range(digits):
    from sklearn.datasets import load_digits

    found = load_digits()
    assert (len(digits.images), len(digits.test_images)) == (1438, 359)
    assert (digits.shape, digits.classes) == ((1, 8, 8), 10)
    together = torch.cat([digits.images, digits.test_images])[:, 0]
    assert (int(together.min()), int(together.max())) == (0, 255)
    np.testing.assert_allclose(together.numpy() * (16 / 255), found.images, atol=0.5 * 16 / 255)
    assert torch.cat([digits.labels, digits.test_labels]).tolist() == found.target.tolist()


def test_a_part_is_the_first_images_with_pixels_up_to_1(digits):
    assert torch.equal(digits.part("test", 3), digits.test_images[:3] / 255)
    assert torch.equal(digits.part("train"), digits.images / 255)
    with pytest.raises(InputError, match=r"^which: expected 'train' or 'test', got val"):
        digits.part("val")


def test_fewer_images_for_training_leave_the_test_as_it_is(digits):
    few = digits.fewer(50)
    assert torch.equal(few.images, digits.images[:50])
    assert torch.equal(few.labels, digits.labels[:50])
    assert torch.equal(few.test_images, digits.test_images)


def test_dequantised_pixels_fill_their_own_grey_level():
    grey, drawn = batches(labels=torch.arange(6), classes=6)
    x, context, _ = next(drawn)
    level = 256 * x
    assert torch.equal(level.floor(), grey[context.argmax(dim=1)].float()[:, None, None, None].expand_as(x))
    within = level - level.floor()
    assert within.mean() == pytest.approx(0.5, abs=0.03)
    assert within.std() == pytest.approx(12**-0.5, rel=0.05)
    _, plain = batches(dequantize=False)
    assert set((255 * next(plain).x).flatten().tolist()) == set(grey.float().tolist())


def test_all_images_are_drawn_and_each_as_often_as_any_other():
    _, drawn = batches(batch_size=6000, labels=torch.arange(6), classes=6)
    shares = next(drawn).context.mean(dim=0)
    assert (shares - 1 / 6).abs().max() < 4 * (5 / 36 / 6000) ** 0.5


def test_noise_has_its_deviation_and_pixels_stay_in_range():
    images = torch.full((1, 1, 8, 8), 128, dtype=torch.uint8)
    x = next(ImageBatches(images, 200, noise=0.05, dequantize=False)).x
    assert (x - 128 / 255).std() == pytest.approx(0.05, rel=0.05)
    far = next(ImageBatches(images, 200, noise=2.0)).x
    assert (float(far.min()), float(far.max())) == (0.0, 1.0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_images_is_without_its_label(share):
    _, drawn = batches(batch_size=4000, labels=torch.arange(6), classes=8, unlabelled=share)
    context = next(drawn).context
    assert context.shape == (4000, 8)
    told = context.sum(dim=1)
    assert set(told.tolist()) <= {0.0, 1.0}
    assert (told == 0).float().mean() == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)


def test_resumed_batches_go_on_as_the_others_would_have(tmp_path):
    given = {"labels": torch.arange(6), "classes": 6, "unlabelled": 0.5, "noise": 0.1, "batch_size": 16}
    _, running = batches(seed=1, **given)
    first = [next(running) for _ in range(3)]
    torch.save(running.state_dict(), tmp_path / "state.pt")
    _, resumed = batches(seed=2, **given)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    following = [(next(running), next(resumed)) for _ in range(5)]
    for a, b in following:
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.context, b.context)
    assert not torch.equal(first[0].x, following[0][0].x)


def test_bad_requests_are_named():
    with pytest.raises(InputError, match=r"^images: expected bytes .*got float32 from -1 to 1"):
        ImageBatches(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1), 4)
    with pytest.raises(InputError, match=r"^images: .*got shape \(3, 2\)"):
        ImageBatches(torch.zeros(3, 2, dtype=torch.uint8), 4)
    with pytest.raises(InputError, match=r"^images: expected at least one"):
        ImageBatches(torch.zeros(0, 1, 2, 2, dtype=torch.uint8), 4)
    with pytest.raises(InputError, match=r"^batch_size: expected a whole number of at least 1, got 0"):
        batches(batch_size=0)
    with pytest.raises(InputError, match=r"^unlabelled: expected a number from 0 to 1, got 1\.5"):
        batches(unlabelled=1.5)
    with pytest.raises(InputError, match=r"^noise: expected a number of at least 0, got -1"):
        batches(noise=-1)
    with pytest.raises(InputError, match=r"^labels: expected labels below classes = 5, got 5"):
        batches(labels=torch.arange(6), classes=5)
    with pytest.raises(
        InputError, match=r"^labels: expected one for each image, shape \(6,\), got shape \(4,\)"
    ):
        batches(labels=torch.arange(4), classes=9)


def test_a_set_tells_its_shape_in_colour():
    images, labels = torch.zeros(4, 3, 5, 7, dtype=torch.uint8), torch.tensor([0, 2, 1, 0])
    assert ImageSet("own", images, labels, images[:1], labels[:1]).shape == (3, 5, 7)


def test_fewer_images_are_of_as_many_classes():
    assert load_images("digits").fewer(5).classes == 10


def test_the_digest_is_of_the_images_and_labels_for_training():
    images = torch.arange(4 * 2 * 3, dtype=torch.uint8).reshape(4, 1, 2, 3)
    labels = torch.tensor([0, 1, 1, 0])

    def digest(x=images, y=labels, test=None):
        test = x if test is None else test
        return ImageSet("own", x, y, test, labels[: len(test)]).digest()

    changed = images.clone()
    changed[3, 0, 1, 2] += 1
    others = [
        digest(changed),
        digest(images.flip(0)),
        digest(images.reshape(4, 1, 3, 2)),
        digest(images[:3], labels[:3]),
        digest(y=torch.tensor([0, 1, 0, 0])),
    ]
    assert len({digest(), *others}) == 6
    assert digest(test=changed) == digest(images.transpose(2, 3).contiguous().transpose(2, 3)) == digest()


NO_SHARE = [-0.1, 1.1, float("nan"), "x", [], None, True]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "batch_size",
            [0, 1.5, 2.0, np.float32(2), float("inf"), float("nan"), "three", [], None, True, 2**70],
        ),
        ("classes", [-1, 1.5, float("inf"), "three", [], None, 10**6]),
        ("unlabelled", NO_SHARE),
        ("noise", [-1.0, float("nan"), float("inf"), "x", [], None, True]),
        ("seed", [-1, 1.5, "x", [], None, True, 2**70]),
        ("dequantize", ["no", None, 1]),
        ("images", [None, "values", 0.5]),
        ("labels", ["values", 0.5, [0, 1]]),
    ],
)
def test_figures_of_batches_that_make_no_sense_are_named(name, values):
    grey = torch.zeros(6, 1, 2, 3, dtype=torch.uint8)
    for value in values:
        with pytest.raises(InputError, match=rf"^{name}: expected") as caught:
            ImageBatches(**{"images": grey, "batch_size": 4, name: value})
        assert "\n" not in str(caught.value)


def test_batches_take_numbers_of_numpy():
    _, found = batches(batch_size=np.int64(5), labels=np.arange(6), classes=np.int64(6), seed=np.int64(3))
    _, expected = batches(batch_size=5, labels=torch.arange(6), classes=6, seed=3)
    first, second = next(found), next(expected)
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.context, second.context)
