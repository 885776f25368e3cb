"""Objectives by name, with the same names for trajectories and images."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from ebm_control.checks import require
from ebm_control.training.objectives.contrastive import (
    ContrastiveDivergence,
    InfoNCE,
    LogSumExp,
    Objective,
    Softplus,
)
from ebm_control.training.objectives.kl import ImprovedContrastiveDivergence
from ebm_control.training.objectives.score_matching import DenoisingScoreMatching

Loss = Literal["cd", "cd-kl", "infonce", "dsm", "softplus", "logsumexp"]
LOSSES: tuple[Loss, ...] = get_args(Loss)


def objective(
    loss: Loss,
    *,
    energy_l2: float = 0.1,
    noise: tuple[float, float] = (0.03, 10.0),
    scale: Tensor | float = 1.0,
    proposals: int = 0,
) -> Objective:
    """The objective with a given name.

    Args:
        loss: one of `LOSSES`; see `TrainSettings`.
        energy_l2: weight of the squared tilt (ignored by "dsm").
        noise: least and greatest noise level (for "dsm").
        scale: unit of the noise, a number or a tensor that broadcasts to a sample (for "dsm").
        proposals: draws from the base per datum (for "infonce").

    Raises:
        InputError: unknown name.

    """
    require(loss in LOSSES, "loss", given=loss, expected=f"one of {sorted(LOSSES)}")
    match loss:
        case "dsm":
            return DenoisingScoreMatching(*noise, scale=scale)
        case "infonce":
            return InfoNCE(energy_l2, proposals=proposals)
        case "cd-kl":
            return ImprovedContrastiveDivergence(energy_l2)
        case "softplus":
            return Softplus(energy_l2)
        case "logsumexp":
            return LogSumExp(energy_l2)
        case _:
            return ContrastiveDivergence(energy_l2)
