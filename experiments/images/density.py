"""Energies of a set of images by objective: generation, inpainting, restoration and outlier detection."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebm_control import images as tasks
from ebm_control.data import ImageSet
from ebm_control.images.classify import parameters_of
from ebm_control.images.grid import save_grid
from ebm_control.models import ImageModel
from ebm_control.training import DivergenceError, load_checkpoint
from experiments.images.judge import judge_of
from experiments.images.settings import Size, seeded, settings_for
from experiments.images.trained import trained

Row = dict[str, Any]
OTHER = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}
NOISE = 0.3


def energy_rows(
    data: ImageSet, other: Tensor | None, loss: str, seed: int, size: Size, folder: Path
) -> list[Row]:
    """Rows of one energy; if training diverges, a single row that says so."""
    settings = settings_for(loss, size, seed)
    run = folder / f"{data.name}-{loss}-{seed}"
    try:
        found = trained(data, settings, run)
    except DivergenceError as error:
        return [{"task": "train", "diverged": str(error)}]
    model = found.model
    about = {
        "train_seconds": found.seconds,
        "updates": settings.updates,
        "parameters": parameters_of(model.energy),
    }
    generator = seeded(data, seed)
    rows = [{"task": "train", "rollbacks": found.rollbacks, **about}]
    kept = load_checkpoint(run / "checkpoints").state["buffer"]["samples"].to(data.images.device)
    rows += generated(data, model, None if settings.model.noise else kept, loss, seed, size, folder)
    rows += filled(data, filler_of(model, size, generator), seed, size, folder / f"{data.name}-{loss}")
    rows += mended(data, *menders_of(model, generator), seed, size)
    rows += unusual(data, other, scores_of(model, data), seed, size)
    return [about | row for row in rows]


def generated(
    data: ImageSet, model: ImageModel, kept: Tensor | None, loss: str, seed: int, size: Size, folder: Path
) -> list[Row]:
    """Rows of samples from noise, and from the sample buffer if the energy has one."""
    generator = seeded(data, seed)
    rows = []
    starts = {"from noise": None, "from the sample buffer": kept}
    for name, start in starts.items():
        if start is None and name != "from noise":
            continue
        if start is not None:
            chosen = torch.randperm(len(start), generator=generator, device=start.device)[: size.samples]
            start = start[chosen]
        began = time.perf_counter()
        chain = tasks.generate(
            model.energy,
            size.samples if start is None else len(start),
            start=start,
            generator=generator,
            trace=6,
        )
        took = time.perf_counter() - began
        rows.append(drawn_row(data, name, chain.x, took, size, folder))
        if seed == 0:
            assert chain.trace is not None
            place = folder / "figures" / f"{data.name}-{loss}-{name.replace(' ', '-')}"
            save_grid(place.with_name(place.name + ".png"), chain.x[:100], 20)
            several = chain.trace[:, :8].transpose(0, 1).flatten(0, 1)
            save_grid(place.with_name(place.name + "-steps.png"), several, len(chain.trace))
            train, shown = data.part("train"), chain.x[:20]
            near = train[tasks.nearest(shown, train)]
            save_grid(place.with_name(place.name + "-nearest.png"), torch.cat([shown, near]), 20)
    return rows


def drawn_row(data: ImageSet, start: str, samples: Tensor, took: float, size: Size, folder: Path) -> Row:
    """The row of distances between samples and test images, with those of as many training images."""
    judge = judge_of(data, size, folder)
    truth, train = data.part("test", size.samples), data.part("train", size.samples)
    precision, recall = tasks.precision_recall(judge, samples, truth)
    return {
        "task": "generate",
        "start": start,
        "frechet": tasks.feature_frechet(judge, samples, truth),
        "frechet_floor": tasks.feature_frechet(judge, train, truth),
        "precision": precision,
        "recall": recall,
        "judge_accuracy": judge.accuracy(data.part("test"), data.test_labels),
        "sample_seconds": took,
    }


Filler = Callable[[Tensor, Tensor], Tensor]  # images and mask of known pixels to fills `(N, K, C, H, W)`


def filler_of(model: ImageModel, size: Size, generator: torch.Generator) -> Filler:
    """Inpainting by the energy."""
    return lambda images, known: tasks.inpaint(
        model.energy, images, known, fills=size.fills, generator=generator
    )


def filled(data: ImageSet, filler: Filler, seed: int, size: Size, name: Path) -> list[Row]:
    """Rows of inpainting errors on training and on test images."""
    generator = seeded(data, seed + 1)
    rows = []
    judge = judge_of(data, size, name.parent)
    for missing in ("bottom half", "random"):
        for part in ("test", "train"):
            truth = data.part(part, size.filled)
            known = (
                tasks.bottom_half(data.shape).to(truth.device).expand_as(truth)
                if missing == "bottom half"
                else tasks.random_pixels(len(truth), data.shape, 0.25, generator)
            )
            found = filler(truth, known)
            if part == "test" and seed == 0:
                given = torch.where(known, truth, torch.full_like(truth, 0.5))
                shown = torch.cat([given[:, None], found[:, :4], truth[:, None]], dim=1)[:8]
                path = name.parent / "figures" / f"{name.name}-{missing.replace(' ', '-')}.png"
                save_grid(path, shown.transpose(0, 1).flatten(0, 1), len(shown))
            kept = (found == truth[:, None]) | ~known[:, None].expand_as(found)
            several = found.shape[1] > 1
            apart = (found[:, 0] - found[:, 1]).square()[~known].mean() if several else torch.tensor(0.0)
            rows.append(
                {
                    "task": "inpaint",
                    "missing": missing,
                    "part": part,
                    "mse": _missing_error(found[:, 0], truth, known),
                    "mse_of_mean": _missing_error(found.mean(dim=1), truth, known),
                    "feature_distance": float(tasks.feature_distance(judge, found[:, 0], truth).mean()),
                    "fills_apart": float(apart),
                    "known_unchanged": float(kept.all()),
                }
            )
    return rows


def _missing_error(images: Tensor, truth: Tensor, known: Tensor) -> float:
    return float((images - truth).square()[~known].mean())


Mender = Callable[[Tensor], Tensor]


def menders_of(model: ImageModel, generator: torch.Generator) -> tuple[Mender, Mender]:
    """Restoration of corrupted pixels, and of images with Gaussian noise."""
    return (
        lambda images: tasks.restore(model.energy, images, generator=generator),
        lambda images: tasks.denoise(model.energy, images, NOISE),
    )


def mended(data: ImageSet, pixels: Mender, noise: Mender, seed: int, size: Size) -> list[Row]:
    """Rows of restoration errors on training and on test images."""
    generator = seeded(data, seed + 2)
    rows = []
    for part in ("test", "train"):
        truth = data.part(part, size.filled)
        for kind, spoilt, mend in (
            ("pixels", tasks.salt_and_pepper(truth, generator), pixels),
            (
                "noise",
                truth + NOISE * torch.randn(truth.shape, generator=generator, device=truth.device),
                noise,
            ),
        ):
            rows.append(
                {
                    "task": "restore",
                    "spoilt": kind,
                    "part": part,
                    "mse": float((mend(spoilt) - truth).square().mean()),
                    "mse_given": float((spoilt - truth).square().mean()),
                }
            )
    return rows


def scores_of(model: ImageModel, data: ImageSet) -> dict[str, Any]:
    """Outlier scores by name; the profile was fixed in advance, and energies without noise levels have none."""
    found: dict[str, Any] = {"energy": tasks.energy_score(model.energy)}
    found["gradient norm"] = tasks.gradient_norm_score(model.energy)
    if model.energy.noise is not None:
        found["profile"] = tasks.EnergyProfile.fit(model.energy, data.part("train", 5000))
    return found


def unusual(data: ImageSet, other: Tensor | None, scores: dict[str, Any], seed: int, size: Size) -> list[Row]:
    """Areas under the ROC curve, one row per score."""
    generator = seeded(data, seed + 3)
    inliers = data.part("test", size.outliers)
    sets = tasks.outlier_sets(inliers, generator, None if other is None else other[: size.outliers])
    rows = []
    for name, score in scores.items():
        usual = score(inliers)
        found = {kind: tasks.auroc(usual, score(images)) for kind, images in sets.items()}
        row = {"task": "outliers", "score": name, "mean": sum(found.values()) / len(found)}
        rows.append(row | {"least": min(found.values())} | found)
    return rows
