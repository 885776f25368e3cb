"""Image sets: scikit-learn's digits, and MNIST and Fashion-MNIST from a folder of idx files."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import InputError, require, require_flag, require_number, require_seed
from ebm_control.data.batch import Batch
from ebm_control.extras import import_extra

FOLDER = "EBM_CONTROL_DATA"  # environment variable that names the folder of idx files
NAMES = ("digits", "mnist", "fashion-mnist")
_OPENML = {"mnist": "mnist_784", "fashion-mnist": "Fashion-MNIST"}
_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
# SHA-256 of the published files, unpacked, in the order of `_FILES`.
_CHECKSUMS = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "fashion-mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
LABELS = 65_535  # the largest label: a greater one is hardly a class, and every class needs an output


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and their labels, with the published split into training and test images.

    Arguments may be tensors or arrays. Images are bytes, floats in [0, 1] (rounded to 255 grey levels), booleans (black
    and white), or integers of another dtype from 0 to 255 with some above 127. `(N, H, W)` stands for one channel.
    Labels are integers of any dtype, `(N,)` or `(N, 1)`. They are stored as:

    Attributes:
        name: name of the set.
        images: `(N, C, H, W)` uint8, for training; at least one.
        labels: `(N,)` int64, from 0 to 65,535.
        test_images: `(M, C, H, W)` uint8.
        test_labels: `(M,)` int64.

    Raises:
        InputError: images of another shape (for example channels last) or of ambiguous scale, labels that are not
            integers from 0, a different number of labels than of images, or test images of another shape.

    """

    name: str
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def __post_init__(self) -> None:
        for prefix in ("", "test_"):
            images = as_images(f"{prefix}images", getattr(self, f"{prefix}images"))
            labels = as_labels(f"{prefix}labels", getattr(self, f"{prefix}labels"), len(images))
            object.__setattr__(self, f"{prefix}images", images)
            object.__setattr__(self, f"{prefix}labels", labels)
        given = f"none in {self.name!r}"
        require(len(self.images) >= 1, "images", given=given, expected="at least one to learn from")
        shape = tuple(self.test_images.shape[1:])
        require(
            shape == self.shape,
            "test_images",
            given=f"{shape} in {self.name!r}",
            expected=f"the shape of images, {self.shape}",
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image: channels, height and width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """Number of classes: the greatest label plus 1, whether or not each class has images."""
        return int(torch.cat([self.labels, self.test_labels]).max()) + 1

    def digest(self) -> str:
        """SHA-256 of the training images and labels in their order; the same on every device."""
        hashed = hashlib.sha256()
        for part in (self.images, self.labels):
            values = np.ascontiguousarray(part.cpu().numpy())
            hashed.update(f"{values.dtype} {values.shape} ".encode())
            hashed.update(values.data)
        return hashed.hexdigest()

    def part(self, which: str, count: int | None = None) -> Tensor:
        """The first `count` images of "train" or "test", in [0, 1]."""
        require(which in ("train", "test"), "which", given=which, expected="'train' or 'test'")
        chosen = self.images if which == "train" else self.test_images
        return chosen[:count].float() / 255

    def to(self, device: torch.device | str) -> ImageSet:
        """The same images, labels and split on another device."""
        parts = (self.images, self.labels, self.test_images, self.test_labels)
        return ImageSet(self.name, *(part.to(device) for part in parts))

    def fewer(self, count: int) -> ImageSet:
        """The same set with at most `count` training images."""
        return ImageSet(
            self.name, self.images[:count], self.labels[:count], self.test_images, self.test_labels
        )


def as_images(argument: str, value: object) -> Tensor:
    """Images in any form that `ImageSet` accepts, as `(N, C, H, W)` uint8.

    Raises:
        InputError: see `ImageSet`.

    """
    found = _as_tensor(argument, value)
    shape = tuple(found.shape)
    fits = found.ndim in (3, 4) and all(size >= 1 for size in shape[1:])
    require(fits, argument, given=f"shape {shape}", expected="(N, C, H, W), or (N, H, W) for one channel")
    if found.ndim == 3:
        found = found[:, None]
    channels_last = found.shape[-1] in (1, 3, 4) and min(found.shape[1:3]) > 4
    require(
        not channels_last,
        argument,
        given=f"shape {shape}, channels last as it seems (see movedim)",
        expected="(N, C, H, W)",
    )
    if found.dtype == torch.uint8:
        return found
    if found.dtype == torch.bool:
        return found.to(torch.uint8) * 255
    low, high = (float(found.min()), float(found.max())) if found.numel() else (0.0, 0.0)
    if found.is_floating_point() and low >= 0 and high <= 1:
        return (found.float() * 255).round().to(torch.uint8)
    whole = found.is_floating_point() and bool((found == found.round()).all())
    certain = (whole or not found.is_floating_point()) and low >= 0 and (127 < high <= 255 or high == 0)
    require(
        certain,
        argument,
        given=f"{str(found.dtype).removeprefix('torch.')} from {low:g} to {high:g}",
        expected="bytes (uint8), floats in [0, 1], or whole numbers from 0 to 255 with some above 127",
    )
    return found.to(torch.uint8)


def as_labels(argument: str, value: object, count: int) -> Tensor:
    """Labels of `count` images in any form that `ImageSet` accepts, as `(N,)` int64.

    Raises:
        InputError: see `ImageSet`.

    """
    found = _as_tensor(argument, value)
    shape = tuple(found.shape)
    if found.ndim == 2 and shape[1] == 1:
        found = found[:, 0]
    fits = found.ndim == 1 and len(found) == count
    require(fits, argument, given=f"shape {shape}", expected=f"one for each image, shape ({count},)")
    if found.is_floating_point():
        odd = found[found != found.round()]
        require(len(odd) == 0, argument, given=float(odd[0]) if len(odd) else None, expected="whole numbers")
    if count:
        low, high = found.min().item(), found.max().item()
        wrong = low if low < 0 else high
        require(0 <= low <= high <= LABELS, argument, given=wrong, expected=f"classes from 0 to {LABELS}")
    return found.long()


def _as_tensor(argument: str, value: object) -> Tensor:
    """A tensor of real numbers; arrays may have any strides and byte order."""
    if not isinstance(value, Tensor):
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise InputError(f"{argument}: expected an array of numbers, got {error}") from error
        given = f"an array of {array.dtype}"
        require(array.dtype.kind in "biuf", argument, given=given, expected="real numbers")
        kind = np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
        value = torch.from_numpy(np.array(array, dtype=kind))
    require(not value.is_complex(), argument, given=value.dtype, expected="real numbers")
    # Torch supports hardly any operation on these.
    unsigned = value.dtype in (torch.uint16, torch.uint32, torch.uint64)
    return value.long() if unsigned else value.detach()


def load_images(name: str, folder: Path | str | None = None, *, download: bool = False) -> ImageSet:
    """A set of images by its name.

    Args:
        name: "digits" (1,797 of 8×8, from scikit-learn; a fifth is for testing), "mnist" or "fashion-mnist" (70,000 of
            28×28).
        folder: folder with `mnist/` or `fashion-mnist/` and their four idx files, gzipped or not; None for the
            environment variable EBM_CONTROL_DATA.
        download: fetch the set from openml.org if there is no folder.

    Raises:
        InputError: unknown name, missing folder or file, or a file that is not the published one.

    """
    require(name in NAMES, "name", given=name, expected=f"one of {NAMES}")
    if name == "digits":
        return _digits()
    place = folder or os.environ.get(FOLDER) or None
    if place is None and download:
        return _from_openml(name)
    require(
        place is not None,
        "folder",
        given=None,
        expected=f"a folder with {name}/{_FILES[0]}-ubyte.gz and three more, as argument or as {FOLDER}; or "
        "download=True, where openml.org can be reached",
    )
    assert place is not None
    parts = [
        _idx(Path(place) / name, file, checksum)
        for file, checksum in zip(_FILES, _CHECKSUMS[name], strict=True)
    ]
    images, labels, test_images, test_labels = (torch.from_numpy(part) for part in parts)
    return ImageSet(name, images, labels, test_images, test_labels)


def _digits() -> ImageSet:
    found = import_extra("sklearn.datasets", "images", "the digits").load_digits()
    images = torch.from_numpy(np.round(found.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(found.target).long()
    # The last part was written by other people than the first.
    held = len(images) // 5
    return ImageSet("digits", images[:-held], labels[:-held], images[-held:], labels[-held:])


def _from_openml(name: str) -> ImageSet:
    datasets = import_extra("sklearn.datasets", "images", "download")
    try:
        found = datasets.fetch_openml(_OPENML[name], version=1, as_frame=False, parser="liac-arff")
    except OSError as error:
        raise InputError(
            f"download: openml.org could not be reached ({error}); give a folder of idx files"
        ) from error
    images = torch.from_numpy(found.data.astype(np.uint8)).reshape(-1, 1, 28, 28)
    labels = torch.from_numpy(found.target.astype(np.int64))
    return ImageSet(name, images[:60_000], labels[:60_000], images[60_000:], labels[60_000:])


def _idx(folder: Path, file: str, checksum: str) -> NDArray[np.uint8]:
    """Read one idx file: two zero bytes, type 8 (unsigned bytes), number of axes, their lengths, and the values."""
    packed, plain = folder / f"{file}-ubyte.gz", folder / f"{file}-ubyte"
    require(
        packed.exists() or plain.exists(),
        "folder",
        given=f"{folder} without {packed.name}",
        expected=f"the four idx files of {folder.name}",
    )
    path = packed if packed.exists() else plain
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"folder: expected a readable file, got {path} ({error.strerror})") from error
    if path == packed:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"folder: expected a whole gzip file, got {path} ({error})") from error
    found = hashlib.sha256(content).hexdigest()
    require(
        found == checksum,
        "folder",
        given=f"{path} that holds SHA-256 {found}",
        expected=f"the published content, {checksum}",
    )
    axes = content[3]
    lengths = tuple(int(n) for n in np.frombuffer(content[4 : 4 + 4 * axes], ">u4"))
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(lengths).copy()


class ImageBatches:
    """Endless batches of images in [0, 1], drawn with replacement; an iterator of `Batch`.

    Args:
        images: `(N, C, H, W)` uint8, or another form that `ImageSet` accepts.
        batch_size: images per batch.
        labels: `(N,)` for a class-conditional energy: the context is then one-hot.
        classes: number of columns of that context.
        unlabelled: fraction of images whose context is all 0, which trains the energy of all classes.
        dequantize: add noise within one grey level, so that densities are finite (Uria et al. 2013).
        noise: std of Gaussian noise on every image, which makes contrastive training robust (Du & Mordatch 2019);
            images are clipped to [0, 1] afterwards.
        seed: seed of all random draws.
        device: device that stores all images and on which batches are drawn.

    Raises:
        InputError: a setting is out of range, or `ImageSet` refuses the images or labels.

    """

    def __init__(
        self,
        images: Tensor,
        batch_size: int,
        *,
        labels: Tensor | None = None,
        classes: int = 0,
        unlabelled: float = 0.0,
        dequantize: bool = True,
        noise: float = 0.0,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        images = as_images("images", images)
        require(len(images) >= 1, "images", given="none", expected="at least one")
        require_number("batch_size", batch_size, 1, whole=True)
        require_number("classes", classes, 0, LABELS + 1, whole=True)
        require_number("unlabelled", unlabelled, 0, 1)
        require_number("noise", noise, 0)
        require_flag("dequantize", dequantize)
        require_seed("seed", seed)
        if labels is not None:
            labels = as_labels("labels", labels, len(images))
            highest = int(labels.max())
            require(highest < classes, "labels", given=highest, expected=f"labels below classes = {classes}")
        self.images, self.classes = images.to(device), int(classes)
        self.labels = None if labels is None else labels.to(device)
        self.batch_size, self.unlabelled, self.dequantize, self.noise = (
            int(batch_size),
            unlabelled,
            dequantize,
            noise,
        )
        self._generator = torch.Generator(device).manual_seed(int(seed))

    def __iter__(self) -> ImageBatches:
        return self

    def __next__(self) -> Batch:
        generator, device = self._generator, self.images.device
        index = torch.randint(len(self.images), (self.batch_size,), generator=generator, device=device)
        x = self.images[index].float() / 255
        if self.dequantize:
            # Far enough below 1 that rounding at 255 cannot change the grey level.
            x = (
                255 * x + 0.9999 * torch.rand(x.shape, generator=generator, device=device, dtype=x.dtype)
            ) / 256
        if self.noise:
            x = (
                x + self.noise * torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype)
            ).clamp(0, 1)
        if self.labels is None:
            return Batch(x)
        context = torch.nn.functional.one_hot(self.labels[index], self.classes).float()
        keep = (
            torch.rand((self.batch_size, 1), generator=generator, device=device, dtype=x.dtype)
            >= self.unlabelled
        )
        return Batch(x, context * keep)

    def state_dict(self) -> dict[str, Tensor]:
        """State of the random draw; with it a resumed run continues with the same batches."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the batches that returned `state` would have continued."""
        self._generator.set_state(state["generator"])
