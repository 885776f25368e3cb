"""State and outcome of a call of `Trainer.fit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ebm_control.data.batch import Batch
from ebm_control.samplers.chain import Chain
from ebm_control.training.objectives.contrastive import LossTerms


@dataclass(frozen=True)
class Training:
    """Outcome of a fit; all zeros for a loaded model.

    Attributes:
        updates: updates done in this call.
        seconds: duration of this call.
        rollbacks: roll-backs by the guard over the whole run.
        metrics: the metrics logged last.

    """

    updates: int = 0
    seconds: float = 0.0
    rollbacks: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Fitting:
    """State of a call of `Trainer.fit`: its start, its last update and metrics, and the state to roll back to."""

    first: int
    started: float
    snapshot: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    batch: Batch | None = None
    last: tuple[LossTerms, Chain | None, Tensor] | None = None
    whole: bool = True


def metrics_of(batch: Batch, terms: LossTerms, chain: Chain | None, norm: Tensor) -> dict[str, Tensor]:
    """Logged metrics of an update, as tensors on the device."""
    data, samples = terms.tilt.tensor_split([len(batch.x)])
    found: dict[str, Tensor] = {"loss": terms.total.detach()}
    if len(samples):
        found |= {"gap": samples.mean() - data.mean(), "energy_samples": terms.negative.mean()}
    info = {} if chain is None else chain.info
    return found | {
        "gradient_norm": norm,
        "max_tilt": terms.tilt.abs().max(),
        "energy_data": terms.positive.mean(),
        **{f"sampler_{name}": value[-1] for name, value in info.items() if len(value)},
    }
