"""Models of energies from their checkpoints."""

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
    """Model of a checkpoint with its averaged weights, on a device, for evaluation alone.

    Args:
        path: of a checkpoint, or of a folder of them, of which it is the newest.
        kind: what the checkpoint should be of, in words, for the message.
        rebuild: makes an untrained model from the checkpoint.
        device: where its energy is put.

    Raises:
        CheckpointError: the checkpoint is not sound, or not of a model that `rebuild` makes.

    """
    checkpoint = load_checkpoint(path)
    try:
        model = rebuild(checkpoint)
        model.energy.load_state_dict(dict(checkpoint.weights))
    except Exception as error:  # settings made up by someone else can fail in any way
        raise CheckpointError(f"{path}: not a checkpoint of {kind} ({one_line(error)})") from error
    model.energy.to(device).eval().requires_grad_(False)
    return model


def with_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were before JSON made lists of their tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
