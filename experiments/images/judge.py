"""The classifier whose features judge all methods of a set."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ebm_control.data import ImageSet
from ebm_control.energies import SmallCNN
from ebm_control.images import Classifier, fit_classifier
from experiments.images.settings import Size

SEED = 1000


def judge_of(data: ImageSet, size: Size, folder: Path) -> Classifier:
    """The classifier of a set, trained on first use and stored in `folder`; the same for all methods and seeds."""
    place = data.images.device
    path = folder / f"judge-{data.name}-{size.width}-{size.classifier}.pt"
    if not path.exists():
        made = fit_classifier(
            data, width=size.width, updates=size.classifier, seed=SEED, device=place, progress=False
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        torch.save(made.network.state_dict(), draft)
        draft.replace(path)
        return made
    network = SmallCNN(data.shape, data.classes, size.width)
    network.load_state_dict(torch.load(path, map_location=place, weights_only=True))
    network.to(place).eval().requires_grad_(False)
    return Classifier(network)
