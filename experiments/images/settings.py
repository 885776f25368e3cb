"""Settings: networks, lengths of trainings, and the number of images of each evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ebm_control.data import ImageSet, load_images
from ebm_control.models import ImageModelSettings, ImageTrainSettings

# All take about the same time on one core.
UPDATES = {"dsm": 6000, "cd": 1200, "cd-kl": 1000}
BATCH = {"dsm": 64, "cd": 64, "cd-kl": 64}


@dataclass(frozen=True)
class Size:
    """Sizes of networks, trainings and evaluations.

    Attributes:
        width: width of every network.
        energy: share of `UPDATES` of an energy.
        classes: updates of a conditional energy for classification.
        autoencoder: updates of each autoencoder; they take about as long as those of an energy on one core.
        classifier: updates of each classifier.
        adversarial: updates of the classifier with adversarial training.
        shapes: updates of each energy of an attribute of shapes.
        strokes: updates of each energy of an attribute of digits.
        samples: number of samples.
        filled: inpainted images, from the training and the test set each.
        fills: samples per inpainted image.
        outliers: images per set of outliers.
        attacked: number of attacked images.
        radii: radii of the L∞ balls.
        radii_l2: radii of the L2 balls.
        steps: steps of each attack.
        drawn: generated shapes for training energies of attributes.
        composed: images for each number of attributes.
        levels: noise levels that compositions are sampled through.

    """

    width: int = 32
    energy: float = 1.0
    classes: int = 5000
    autoencoder: int = 12_000
    classifier: int = 2500
    adversarial: int = 2500
    shapes: int = 2000
    strokes: int = 4000
    samples: int = 2000
    filled: int = 50
    fills: int = 16
    outliers: int = 2000
    attacked: int = 300
    radii: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
    radii_l2: tuple[float, ...] = (1.0, 2.0, 3.0)
    steps: int = 20
    drawn: int = 20_000
    composed: int = 100
    levels: int = 40


FULL = Size()
QUICK = Size(
    width=16,
    energy=0.12,
    classes=600,
    autoencoder=600,
    classifier=400,
    adversarial=300,
    shapes=300,
    strokes=300,
    samples=300,
    filled=50,
    fills=4,
    outliers=300,
    attacked=100,
    radii=(0.0, 0.1, 0.2),
    radii_l2=(1.0,),
    steps=10,
    drawn=5000,
    composed=60,
)


def settings_for(loss: str, size: Size, seed: int) -> ImageTrainSettings:
    """Settings of an energy; they differ only in the objective and the number of updates."""
    updates = max(50, round(size.energy * UPDATES[loss]))
    return ImageTrainSettings(
        ImageModelSettings(width=size.width),
        loss=loss,
        updates=updates,
        batch_size=BATCH[loss],
        checkpoint_every=updates,
        seed=seed,
    )


def classifier_settings(size: Size, seed: int) -> ImageTrainSettings:
    """Settings of a conditional energy for classification."""
    return ImageTrainSettings(
        ImageModelSettings(width=size.width, conditional=True),
        updates=size.classes,
        classify=1.0,
        checkpoint_every=size.classes,
        seed=seed,
    )


def attribute_settings(size: Size, updates: int, seed: int) -> ImageTrainSettings:
    """Settings of an energy of images conditioned on one attribute."""
    return ImageTrainSettings(
        ImageModelSettings(width=size.width, conditional=True),
        updates=updates,
        batch_size=BATCH["dsm"],
        checkpoint_every=updates,
        seed=seed,
    )


def loaded(name: str, folder: Path | None, device: str = "cpu") -> ImageSet:
    """A set of images with shuffled test images, so that the first ones are from all classes."""
    data = load_images(name, folder)
    order = torch.randperm(len(data.test_images), generator=torch.Generator().manual_seed(0))
    mixed = replace(data, test_images=data.test_images[order], test_labels=data.test_labels[order])
    return mixed.to(device)


def seeded(data: ImageSet, seed: int) -> torch.Generator:
    """Random generator on the device of the set."""
    return torch.Generator(data.images.device).manual_seed(seed)
