"""How a call of `Trainer.fit` goes, and how it went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ebm_control.data.batch import Batch
from ebm_control.samplers.chain import Chain
from ebm_control.training.losses import LossTerms


@dataclass(frozen=True)
class Training:
    """Outcome of `Trainer.fit`.

    Attributes:
        updates: updates done in this call.
        seconds: they took.
        rollbacks: times the guard stepped in, over the whole run.
        figures: the last that were logged.

    """

    updates: int
    seconds: float
    rollbacks: int
    figures: Mapping[str, float]


@dataclass
class Fitting:
    """A call of `Trainer.fit`: where it began, its last update and figures, and the state to roll back to."""

    first: int
    started: float
    snapshot: dict[str, Any]
    figures: dict[str, float] = field(default_factory=dict)
    batch: Batch | None = None
    last: tuple[LossTerms, Chain | None, Tensor] | None = None
    whole: bool = True
