"""Baselines of image energies, on the same tasks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebm_control import images as tasks
from ebm_control.data import ImageSet
from ebm_control.images.autoencoders import reconstruction_score, samples_of
from ebm_control.images.classify import parameters_of
from ebm_control.images.grid import save_grid
from experiments.images.density import NOISE, Row, drawn_row, filled, mended, unusual
from experiments.images.settings import Size, seeded


def variational_rows(data: ImageSet, seed: int, size: Size, folder: Path) -> list[Row]:
    """Rows of samples of a variational autoencoder."""
    began = time.perf_counter()
    model = tasks.fit_autoencoder(
        data, _settings(size, seed), variational=True, device=data.images.device, progress=False
    )
    about = {"train_seconds": time.perf_counter() - began, "parameters": parameters_of(model)}
    began = time.perf_counter()
    drawn = samples_of(model, size.samples, seeded(data, seed))
    took = time.perf_counter() - began
    if seed == 0:
        save_grid(folder / "figures" / f"{data.name}-vae-samples.png", drawn[:100], 20)
    return [about | drawn_row(data, "codes", drawn, took, size, folder)]


def denoising_rows(data: ImageSet, seed: int, size: Size, folder: Path) -> list[Row]:
    """Rows of denoising autoencoders, one network each for inpainting, corrupted pixels and Gaussian noise."""
    rows: list[Row] = []

    def holes(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        known = tasks.random_pixels(len(images), data.shape, 0.25, generator)
        half = torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device) < 0.5
        return images, torch.where(half, tasks.bottom_half(data.shape).to(images.device), known)

    def pixels(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return tasks.salt_and_pepper(images, generator), torch.ones_like(images, dtype=torch.bool)

    def noise(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        spoilt = images + NOISE * torch.randn(images.shape, generator=generator, device=images.device)
        return spoilt, torch.ones_like(images, dtype=torch.bool)

    def fitted(spoil: Any) -> tasks.Autoencoder:
        return tasks.fit_autoencoder(
            data, _settings(size, seed), spoil=spoil, device=data.images.device, progress=False
        )

    began = time.perf_counter()
    filler, pixel, gaussian = fitted(holes), fitted(pixels), fitted(noise)
    about = {"train_seconds": (time.perf_counter() - began) / 3, "parameters": parameters_of(filler)}

    def fill(images: Tensor, known: Tensor) -> Tensor:
        return torch.where(known, images, filler(images, known))[:, None]

    rows += filled(data, fill, seed, size, folder / f"{data.name}-autoencoder")
    rows += mended(data, pixel, gaussian, seed, size)
    return [about | row for row in rows]


def plain_rows(data: ImageSet, other: Tensor | None, seed: int, size: Size) -> list[Row]:
    """Rows of outlier detection by a plain autoencoder's error and by a classifier's confidence."""
    began = time.perf_counter()
    model = tasks.fit_autoencoder(data, _settings(size, seed), device=data.images.device, progress=False)
    seconds = time.perf_counter() - began
    classifier = tasks.fit_classifier(
        data, width=size.width, updates=size.classifier, seed=seed, device=data.images.device, progress=False
    )

    def doubt(images: Tensor) -> Tensor:
        return torch.cat([-classifier(part).softmax(dim=1).amax(dim=1) for part in images.split(512)])

    scores = {"reconstruction error": reconstruction_score(model), "doubt of a classifier": doubt}
    return [{"train_seconds": seconds} | row for row in unusual(data, other, scores, seed, size)]


def simple_rows(data: ImageSet, seed: int, size: Size, folder: Path) -> list[Row]:
    """Rows of inpainting without learning: by the mean image and by the nearest training image."""
    train = data.part("train")
    mean = train.mean(dim=0)
    rows: list[Row] = []

    def by_mean(images: Tensor, known: Tensor) -> Tensor:
        return torch.where(known, images, mean)[:, None]

    def by_nearest(images: Tensor, known: Tensor) -> Tensor:
        distinct = train
        index = tasks.nearest(images, distinct, known)
        # A training image would be found itself, so the filled training images are then excluded.
        same = (distinct[index] == images).flatten(1).all(dim=1)
        if same.any():
            distinct = train[size.filled :]
            index = tasks.nearest(images, distinct, known)
        return torch.where(known, images, distinct[index])[:, None]

    for name, fill in (("mean image", by_mean), ("nearest training image", by_nearest)):
        found = filled(data, fill, seed, size, folder / f"{data.name}-{name.split()[0]}")
        rows += [{"method": name} | row for row in found]
    return rows


def _settings(size: Size, seed: int) -> tasks.AutoencoderSettings:
    return tasks.AutoencoderSettings(width=size.width, updates=size.autoencoder, seed=seed)
