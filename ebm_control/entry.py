"""The main entry points: `fit` trains a model of any kind, `load` loads one of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

import torch

from ebm_control.baselines import Baseline, BaselineSettings, fit_baseline
from ebm_control.checks import InputError
from ebm_control.data import ImageSet, RolloutBuffer
from ebm_control.models import (
    ImageModel,
    ImageTrainSettings,
    TrainSettings,
    TrajectoryModel,
    fit_images,
    fit_model,
)
from ebm_control.training.checkpoint import CheckpointError, load_checkpoint


@overload
def fit(data: RolloutBuffer, settings: TrainSettings | None = None, **options: Any) -> TrajectoryModel: ...
@overload
def fit(data: RolloutBuffer, settings: BaselineSettings, **options: Any) -> Baseline: ...
@overload
def fit(data: ImageSet, settings: ImageTrainSettings | None = None, **options: Any) -> ImageModel: ...
def fit(
    data: RolloutBuffer | ImageSet,
    settings: TrainSettings | BaselineSettings | ImageTrainSettings | None = None,
    **options: Any,
) -> TrajectoryModel | Baseline | ImageModel:
    """Train a model; data and settings determine its kind.

    | data | settings | model | see |
    |---|---|---|---|
    | `RolloutBuffer` | `TrainSettings` or None | `TrajectoryModel` | `fit_model` |
    | `RolloutBuffer` | `BaselineSettings` | `Baseline` | `fit_baseline` |
    | `ImageSet` | `ImageTrainSettings` or None | `ImageModel` | `fit_images` |

    Args:
        data: rollouts or images.
        settings: training settings; None for the defaults of an energy.
        options: options of the function in the last column: `folder=`, `resume=`, `progress=`, `guard=`, `device=`, ...

    Returns:
        The model; its `training` describes the training (updates, seconds, metrics).

    Raises:
        InputError: data and settings do not match, or the function in the last column refuses them.
        DivergenceError, CheckpointError: see the function in the last column.

    """
    if isinstance(data, RolloutBuffer):
        if isinstance(settings, BaselineSettings):
            unknown = [name for name in options if name not in ("progress", "device")]
            if unknown:
                raise InputError(
                    f"{unknown[0]}: expected none for a baseline, which is fitted in one go; keep it by model.save"
                )
            return fit_baseline(data, settings, **options)
        if settings is None or isinstance(settings, TrainSettings):
            return fit_model(data, settings, **options)
        expected = "TrainSettings or BaselineSettings for rollouts"
    elif isinstance(data, ImageSet):
        if settings is None or isinstance(settings, ImageTrainSettings):
            return fit_images(data, settings, **options)
        expected = "ImageTrainSettings for images"
    else:
        raise InputError(f"data: expected a RolloutBuffer or an ImageSet, got {type(data).__name__}")
    raise InputError(f"settings: expected {expected}, got {type(settings).__name__}")


def load(path: Path | str, device: torch.device | str = "cpu") -> TrajectoryModel | Baseline | ImageModel:
    """Load a saved model: a trajectory model, an image model or a baseline.

    Args:
        path: a path given to `model.save`, a checkpoint or a file in one, or a run folder, whose newest checkpoint is
            loaded.
        device: device of the model.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or it holds another kind of model.

    """
    settings = load_checkpoint(path).settings
    if "image_model" in settings:
        return ImageModel.load(path, device)
    if isinstance(settings.get("model"), dict) and "normalizer" in settings:
        return (
            Baseline.load(path, device)
            if "held_out_error" in settings
            else TrajectoryModel.load(path, device)
        )
    raise CheckpointError(
        f"{path}: expected a model of trajectories or images or a baseline, got none of them"
    )
