"""Sets of images: scikit-learn's digits, and MNIST and Fashion-MNIST from a folder of idx files."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import InputError, require
from ebm_control.data.batch import Batch

FOLDER = "EBM_CONTROL_DATA"  # environment variable that names the folder of idx files
NAMES = ("digits", "mnist", "fashion-mnist")
_OPENML = {"mnist": "mnist_784", "fashion-mnist": "Fashion-MNIST"}
_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
# SHA-256 of the published gzip files, in the order of `_FILES`.
_CHECKSUMS = {
    "mnist": (
        "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
        "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
        "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
        "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
    ),
    "fashion-mnist": (
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    ),
}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and their labels, split as published.

    Attributes:
        name: of the set.
        images: `(N, C, H, W)` uint8, for training.
        labels: `(N,)` int64.
        test_images: `(M, C, H, W)` uint8.
        test_labels: `(M,)` int64.

    """

    name: str
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """Number of classes, labelled from 0."""
        return int(torch.cat([self.labels, self.test_labels]).max()) + 1

    def part(self, which: str, count: int | None = None) -> Tensor:
        """The first `count` images of "train" or "test", in [0, 1]."""
        require(which in ("train", "test"), "which", given=which, expected="'train' or 'test'")
        chosen = self.images if which == "train" else self.test_images
        return chosen[:count].float() / 255

    def to(self, device: torch.device | str) -> ImageSet:
        """The same on another device."""
        parts = (self.images, self.labels, self.test_images, self.test_labels)
        return ImageSet(self.name, *(part.to(device) for part in parts))

    def fewer(self, count: int) -> ImageSet:
        """The same with at most `count` images for training."""
        return ImageSet(
            self.name, self.images[:count], self.labels[:count], self.test_images, self.test_labels
        )


def load_images(name: str, folder: Path | str | None = None, *, download: bool = False) -> ImageSet:
    """A set of images by its name.

    Args:
        name: "digits" (1,797 of 8×8, with scikit-learn; a fifth is for testing), "mnist" or "fashion-mnist" (70,000 of
            28×28).
        folder: that holds `mnist/` or `fashion-mnist/` with the four idx files, gzipped or not; None for what the
            environment variable EBM_CONTROL_DATA names.
        download: fetch from openml.org where there is no folder.

    Raises:
        InputError: no such set, no folder or file, or a file that is not the published one.

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
    return ImageSet(name, images[:, None], labels.long(), test_images[:, None], test_labels.long())


def _digits() -> ImageSet:
    from sklearn.datasets import load_digits  # half a second that only this set costs

    found = load_digits()
    images = torch.from_numpy(np.round(found.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(found.target).long()
    # The writers of its last part are none of the first's.
    held = len(images) // 5
    return ImageSet("digits", images[:-held], labels[:-held], images[-held:], labels[-held:])


def _from_openml(name: str) -> ImageSet:
    from sklearn.datasets import fetch_openml

    try:
        found = fetch_openml(_OPENML[name], version=1, as_frame=False, parser="liac-arff")
    except OSError as error:
        raise InputError(
            f"download: openml.org could not be reached ({error}); give a folder of idx files"
        ) from error
    images = torch.from_numpy(found.data.astype(np.uint8)).reshape(-1, 1, 28, 28)
    labels = torch.from_numpy(found.target.astype(np.int64))
    return ImageSet(name, images[:60_000], labels[:60_000], images[60_000:], labels[60_000:])


def _idx(folder: Path, file: str, checksum: str) -> NDArray[np.uint8]:
    """One idx file: two zero bytes, type 8 (unsigned bytes), axes, their lengths, and the values."""
    packed, plain = folder / f"{file}-ubyte.gz", folder / f"{file}-ubyte"
    require(
        packed.exists() or plain.exists(),
        "folder",
        given=f"{folder} without {packed.name}",
        expected=f"the four idx files of {folder.name}",
    )
    if packed.exists():
        content = packed.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        require(
            found == checksum,
            "folder",
            given=f"{packed} with SHA-256 {found}",
            expected=f"the published file, {checksum}",
        )
        content = gzip.decompress(content)
    else:
        content = plain.read_bytes()
    axes = content[3] if len(content) > 4 else 0
    sound = content[:3] == b"\0\0\x08" and len(content) >= 4 + 4 * axes
    lengths = tuple(int(n) for n in np.frombuffer(content[4 : 4 + 4 * axes], ">u4")) if sound else ()
    sound = sound and len(content) == 4 + 4 * axes + int(np.prod(lengths))
    require(
        sound, "folder", given=f"{folder / file}-ubyte, {len(content)} bytes", expected="an idx file of bytes"
    )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(lengths).copy()


class ImageBatches:
    """Endless batches of images in [0, 1], drawn with replacement; an iterator of `Batch`.

    Args:
        images: `(N, C, H, W)` uint8.
        batch: images a batch.
        labels: `(N,)` for a class-conditional energy: the context is then 1 at the class and 0 elsewhere.
        classes: columns of that context.
        unlabelled: share of the images whose context is all 0: the energy of all classes is trained on them.
        dequantize: add noise within a grey level, so that densities are finite (Uria et al. 2013).
        noise: deviation of Gaussian noise on every image, without which contrastive training is brittle (Du &
            Mordatch 2019); images are put back into [0, 1].
        seed: of all that is drawn.
        device: where the images live, all of them moved there once, and where batches are drawn.

    """

    def __init__(
        self,
        images: Tensor,
        batch: int,
        *,
        labels: Tensor | None = None,
        classes: int = 0,
        unlabelled: float = 0.0,
        dequantize: bool = True,
        noise: float = 0.0,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        require(
            images.ndim == 4 and images.dtype == torch.uint8 and len(images) > 0,
            "images",
            given=f"shape {tuple(images.shape)}, {images.dtype}",
            expected="bytes of shape (N, C, H, W)",
        )
        require(batch >= 1, "batch", given=batch, expected="at least 1")
        require(0 <= unlabelled <= 1, "unlabelled", given=unlabelled, expected="between 0 and 1")
        require(noise >= 0, "noise", given=noise, expected="0 or more")
        require(
            labels is None or (len(labels) == len(images) and bool((labels < classes).all())),
            "labels",
            given=None if labels is None else f"{len(labels)}, up to {max(labels.tolist(), default=None)}",
            expected=f"{len(images)}, below classes = {classes}",
        )
        self.images, self.classes = images.to(device), classes
        self.labels = None if labels is None else labels.to(device)
        self.batch, self.unlabelled, self.dequantize, self.noise = batch, unlabelled, dequantize, noise
        self._generator = torch.Generator(device).manual_seed(seed)

    def __iter__(self) -> ImageBatches:
        return self

    def __next__(self) -> Batch:
        generator, device = self._generator, self.images.device
        index = torch.randint(len(self.images), (self.batch,), generator=generator, device=device)
        x = self.images[index].float() / 255
        if self.dequantize:
            # Below 1 by more than a float at 255 can lose: the grey level stays the same.
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
            torch.rand((self.batch, 1), generator=generator, device=device, dtype=x.dtype) >= self.unlabelled
        )
        return Batch(x, context * keep)

    def state_dict(self) -> dict[str, Tensor]:
        """State of the draw."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the batches that gave `state` would have."""
        self._generator.set_state(state["generator"])
