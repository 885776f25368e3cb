"""Objectives: contrastive, contrastive with its KL term, score matching, classification; chosen by name."""

from ebm_control.training.objectives.by_name import LOSSES, Loss, objective
from ebm_control.training.objectives.classification import Classified
from ebm_control.training.objectives.contrastive import (
    ContrastiveDivergence,
    ContrastiveLoss,
    InfoNCE,
    LogSumExp,
    LossTerms,
    Objective,
    Softplus,
    Source,
)
from ebm_control.training.objectives.kl import ImprovedContrastiveDivergence
from ebm_control.training.objectives.score_matching import DenoisingScoreMatching

__all__ = [
    "LOSSES",
    "Classified",
    "ContrastiveDivergence",
    "ContrastiveLoss",
    "DenoisingScoreMatching",
    "ImprovedContrastiveDivergence",
    "InfoNCE",
    "LogSumExp",
    "Loss",
    "LossTerms",
    "Objective",
    "Softplus",
    "Source",
    "objective",
]
