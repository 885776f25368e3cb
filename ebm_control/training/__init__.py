"""Training: one loop, its objectives, sample buffer, guard, checkpoints and run folders."""

from ebm_control.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_model,
)
from ebm_control.training.fitting import Training
from ebm_control.training.guard import DivergenceError, Guard
from ebm_control.training.logger import Logger
from ebm_control.training.negatives import RandomNegatives
from ebm_control.training.objectives import (
    Classified,
    ContrastiveDivergence,
    ContrastiveLoss,
    DenoisingScoreMatching,
    ImprovedContrastiveDivergence,
    InfoNCE,
    LogSumExp,
    LossTerms,
    Objective,
    Softplus,
)
from ebm_control.training.sample_buffer import (
    Fresh,
    SampleBuffer,
    displaced,
    gaussian,
    scattered,
    uniform,
)
from ebm_control.training.trainer import Trainer

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Classified",
    "ContrastiveDivergence",
    "ContrastiveLoss",
    "DenoisingScoreMatching",
    "DivergenceError",
    "Fresh",
    "Guard",
    "ImprovedContrastiveDivergence",
    "InfoNCE",
    "LogSumExp",
    "Logger",
    "LossTerms",
    "Objective",
    "RandomNegatives",
    "SampleBuffer",
    "Softplus",
    "Trainer",
    "Training",
    "displaced",
    "gaussian",
    "latest_checkpoint",
    "load_checkpoint",
    "save_checkpoint",
    "save_model",
    "scattered",
    "uniform",
]
