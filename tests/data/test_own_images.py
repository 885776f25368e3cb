"""Sets of images of one's own: the formats they come in, and what cannot be told for certain is refused."""

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import ImageSet
from ebm_control.models.image import NETWORKS, ImageModelSettings
from ebm_control.models.image_fit import ImageTrainSettings, fit_images

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (12, 3, 6, 5), np.uint8)
BYTES[0, 0, 0, 0] = 255
LABELS = RNG.permutation(12) % 4


def own(images=BYTES, labels=LABELS, **given):
    if "test_images" not in given:
        given["test_images"] = images[:5]
    if "test_labels" not in given:
        given["test_labels"] = labels[: len(given["test_images"])]
    return ImageSet("own", images, labels, **given)


def holds(data, images=BYTES, labels=LABELS):
    assert data.images.dtype == data.test_images.dtype == torch.uint8
    assert data.labels.dtype == data.test_labels.dtype == torch.int64
    np.testing.assert_array_equal(data.images.numpy(), images)
    np.testing.assert_array_equal(data.test_images.numpy(), images[:5])
    np.testing.assert_array_equal(data.labels.numpy(), labels)
    return True


@pytest.mark.parametrize(
    "given",
    [
        BYTES,
        torch.from_numpy(BYTES),
        BYTES[::-1][::-1],
        np.asfortranarray(BYTES),
        BYTES.astype(np.int64),
        BYTES.astype(np.int16),
        BYTES.astype(np.uint16),
        BYTES.astype(">u2"),
        BYTES.astype(np.uint64),
        BYTES.astype(np.float32),
        BYTES.astype(np.float64),
        BYTES.astype(np.longdouble),
        BYTES / 255,
        (BYTES / 255).astype(np.float32),
        (BYTES / 255).astype(np.float16),
        (BYTES / 255).astype(">f8"),
        torch.from_numpy(BYTES / 255).requires_grad_(),
        torch.from_numpy(BYTES).to(torch.bfloat16),
        torch.from_numpy(BYTES.astype(np.uint16)),
    ],
    ids=lambda x: f"{type(x).__name__}-{x.dtype}",
)
def test_images_of_every_dtype_whose_scale_is_certain(given):
    assert holds(own(given))


def test_nested_lists_are_taken_as_arrays():
    assert holds(own(BYTES, LABELS.tolist(), test_images=BYTES[:5].tolist(), test_labels=LABELS[:5].tolist()))


def test_read_only_arrays_are_copied_without_a_warning(recwarn):
    images = BYTES.copy()
    images.flags.writeable = False
    assert holds(own(images))
    assert not recwarn


def test_images_without_a_channel_axis_have_one_channel():
    assert holds(own(BYTES[:, 0]), BYTES[:, :1])
    assert own(BYTES[:, 0]).shape == (1, 6, 5)


def test_black_and_white_images_are_0_and_255():
    assert holds(own(BYTES > 127), np.where(BYTES > 127, 255, 0))
    assert holds(own((BYTES > 127).astype(float)), np.where(BYTES > 127, 255, 0))
    assert not own(BYTES.astype(int) * 0).images.any()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (BYTES.transpose(0, 2, 3, 1), r"\(N, C, H, W\), got shape \(12, 6, 5, 3\), channels last"),
        (BYTES[:, 0, :, :, None], r"channels last"),
        (BYTES.reshape(12, -1), r"or \(N, H, W\) for one channel, got shape \(12, 90\)"),
        (BYTES[..., None], r"got shape \(12, 3, 6, 5, 1\)"),
        (BYTES[:, :, :0], r"got shape \(12, 3, 0, 5\)"),
        (BYTES / 127.5 - 1, r"bytes \(uint8\), floats in \[0, 1\], .*got float64 from -1 to 1"),
        (BYTES / 254, r"got float64 from 0 to 1\.0"),
        (BYTES + 0.5, r"got float64 from 0\.5 to 255\.5"),
        (BYTES.astype(int) * 257, r"got int64 from 0 to 65535"),
        (BYTES.astype(int) - 128, r"got int64 from -128 to 127"),
        (BYTES // 16 * 1.0, r"some above 127, got float64 from 0 to 15"),
        ((BYTES > 127).astype(int), r"some above 127, got int64 from 0 to 1"),
        (np.where(BYTES == 255, np.nan, BYTES / 255), r"got float64 from nan to nan"),
        (np.where(BYTES == 255, np.inf, BYTES / 255), r"got float64 from 0 to inf"),
        (BYTES.astype(complex), r"expected real numbers, got an array of complex128"),
        (torch.from_numpy(BYTES).to(torch.complex64), r"expected real numbers, got torch\.complex64"),
        (BYTES.astype(str), r"expected real numbers"),
        (None, r"expected real numbers"),
        ([[1, 2], [3]], r"expected an array of numbers"),
    ],
)
def test_images_whose_meaning_is_not_certain_are_refused_in_one_line(given, complaint):
    for name in ("images", "test_images"):
        values = {"images": BYTES, "test_images": BYTES, "test_labels": LABELS} | {name: given}
        with pytest.raises(InputError, match=rf"^{name}: .*{complaint}") as caught:
            own(**values)
        assert "\n" not in str(caught.value)


def test_sets_without_images_and_tests_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"^images: expected at least one to learn from, got none in 'own'"):
        own(BYTES[:0], LABELS[:0])
    with pytest.raises(InputError, match=r"^test_images: .*shape of images, \(3, 6, 5\), got \(3, 5, 6\)"):
        own(test_images=BYTES[:5].transpose(0, 1, 3, 2))
    with pytest.raises(InputError, match=r"^images: expected at least one"):
        own().fewer(0)
    assert own(test_images=BYTES[:0], test_labels=LABELS[:0]).classes == 4


@pytest.mark.parametrize(
    "given",
    [
        LABELS.astype(np.int32),
        LABELS.astype(np.uint8),
        LABELS.astype(np.uint16),
        LABELS.astype(np.float64),
        LABELS[:, None],
        torch.from_numpy(LABELS).float()[:, None],
        torch.from_numpy(LABELS).to(torch.int8),
        LABELS[::-1][::-1],
        LABELS.tolist(),
    ],
)
def test_labels_of_every_dtype_are_whole_numbers(given):
    assert holds(own(labels=given))


def test_labels_may_start_above_0_and_have_gaps():
    assert own(labels=LABELS + 1).classes == 5
    gaps = np.array([0, 1, 2, 7])[LABELS]
    assert own(labels=gaps).classes == 8
    assert holds(own(labels=LABELS > 1), labels=LABELS > 1)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (LABELS - 1, r"classes from 0 to 65535, got -1"),
        (LABELS + 70_000, r"classes from 0 to 65535, got 70003"),
        (LABELS + 0.5, r"whole numbers, got \d\.5"),
        (np.where(LABELS == 3, np.nan, LABELS), r"whole numbers, got nan"),
        (np.where(LABELS == 3, np.inf, LABELS), r"got inf"),
        (LABELS[:-1], r"one for each image, shape \(12,\), got shape \(11,\)"),
        (np.eye(4)[LABELS], r"one for each image, shape \(12,\), got shape \(12, 4\)"),
        (LABELS[None], r"got shape \(1, 12\)"),
        (LABELS.astype(str), r"expected real numbers"),
        (None, r"expected real numbers"),
    ],
)
def test_labels_that_are_none_are_refused_in_one_line(given, complaint):
    for name in ("labels", "test_labels"):
        values = {"labels": LABELS, "test_images": BYTES, "test_labels": LABELS} | {name: given}
        with pytest.raises(InputError, match=rf"^{name}: .*{complaint}") as caught:
            own(**values)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("loss", ["dsm", "cd"])
@pytest.mark.parametrize("shape", [(3, 5, 16), (1, 7, 9), (2, 1, 1), (1, 1, 17), (1, 16, 31)])
def test_every_network_learns_images_of_every_size(network, loss, shape):
    images = RNG.integers(0, 256, (6, *shape), np.uint8)
    settings = ImageTrainSettings(
        ImageModelSettings(network, width=4, conditional=True), loss=loss, updates=1, batch_size=4,
        langevin_steps=1, chains=4,
    )  # fmt: skip
    model = fit_images(ImageSet("own", images, [0, 1] * 3, images, [0, 1] * 3), settings, progress=False)
    assert model.shape == shape
    x, told = torch.from_numpy(images) / 255, torch.eye(2)[[0, 1] * 3]
    if model.settings.noise:
        told = torch.cat([told, torch.full((6, 1), -2.0)], dim=1)
    assert torch.isfinite(model.energy(x, told)).all()
