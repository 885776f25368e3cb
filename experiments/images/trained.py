"""Energies that are trained once and stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ebm_control.data import ImageSet
from ebm_control.models import ImageModel, ImageTrainSettings, fit_images


@dataclass(frozen=True)
class Trained:
    """A trained energy.

    Attributes:
        model: the model with averaged weights.
        rollbacks: number of rollbacks during training.
        seconds: training time; None for a resumed run, whose total time is unknown.

    """

    model: ImageModel
    rollbacks: int
    seconds: float | None


def trained(data: ImageSet, settings: ImageTrainSettings, run: Path) -> Trained:
    """Train on the device of the set, or load or resume from the run folder.

    Raises:
        DivergenceError: training diverged.

    """
    model = fit_images(data, settings, folder=run, resume=True, progress=False, device=data.images.device)
    outcome = model.training
    whole = outcome.updates == settings.updates
    return Trained(model, outcome.rollbacks, outcome.seconds if whole else None)


def together(found: list[Trained]) -> float | None:
    """Total seconds of several trainings; None if one is unknown."""
    seconds = [one.seconds for one in found if one.seconds is not None]
    return sum(seconds) if len(seconds) == len(found) else None
