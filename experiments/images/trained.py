"""Energies that are trained once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ebm_control.data import ImageSet
from ebm_control.models import ImageModel, ImageTrainSettings, fit_images


@dataclass(frozen=True)
class Trained:
    """An energy, and how its training went.

    Attributes:
        model: with averaged weights.
        rollbacks: of the guard.
        seconds: None of a run that was taken up again, which does not know what it took in all.

    """

    model: ImageModel
    rollbacks: int
    seconds: float | None


def trained(data: ImageSet, settings: ImageTrainSettings, run: Path) -> Trained:
    """Trained where the set is, or taken up from the run folder.

    Raises:
        DivergenceError: training ran away.

    """
    model = fit_images(data, settings, folder=run, resume=True, progress=False, device=data.images.device)
    outcome = model.training
    whole = outcome.updates == settings.updates
    return Trained(model, outcome.rollbacks, outcome.seconds if whole else None)


def together(found: list[Trained]) -> float | None:
    """Seconds of several trainings, if all are known."""
    seconds = [one.seconds for one in found if one.seconds is not None]
    return sum(seconds) if len(seconds) == len(found) else None
