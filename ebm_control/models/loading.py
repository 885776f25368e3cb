"""Loading of energy models from their checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from ebm_control.energies.base import Energy
from ebm_control.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, one_line


class _EnergyModel(Protocol):
    @property
    def energy(self) -> Energy: ...


M = TypeVar("M", bound=_EnergyModel)


def load_energy_model(
    path: Path | str, kind: str, rebuild: Callable[[Checkpoint], M], device: torch.device | str
) -> M:
    """Load a model with its averaged weights from a checkpoint, on a device, for evaluation only.

    Args:
        path: a checkpoint, or a folder of checkpoints, of which the newest is loaded.
        kind: the expected kind of model, in words, for the error message.
        rebuild: builds an untrained model from the checkpoint.
        device: device of the model's energy.

    Raises:
        CheckpointError: the checkpoint is corrupt, or `rebuild` cannot build a model from it.

    """
    checkpoint = load_checkpoint(path)
    try:
        model = rebuild(checkpoint)
        model.energy.load_state_dict(dict(checkpoint.weights))
    except Exception as error:  # settings from an unknown source may raise anything
        raise CheckpointError(f"{path}: not a checkpoint of {kind} ({one_line(error)})") from error
    model.energy.to(device).eval().requires_grad_(False)
    return model


def with_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the tuples that JSON turned into lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
