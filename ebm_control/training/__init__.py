"""Training: one loop, its objectives, sample buffer, guard and checkpoints; the recipes for trajectories and images."""

from ebm_control.training.base_fit import fit_base
from ebm_control.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from ebm_control.training.classification import Classified
from ebm_control.training.fit import TrainSettings, batches_for, fit_model, trainer_for
from ebm_control.training.fitting import Training
from ebm_control.training.guard import DivergenceError, Guard
from ebm_control.training.image_fit import ImageTrainSettings, fit_images, image_trainer_for
from ebm_control.training.image_model import ImageModel, ImageModelSettings
from ebm_control.training.logger import Logger
from ebm_control.training.losses import (
    ContrastiveDivergence,
    ContrastiveLoss,
    InfoNCE,
    LogSumExp,
    LossTerms,
    Softplus,
)
from ebm_control.training.model import ModelSettings, TrajectoryModel
from ebm_control.training.negatives import RandomNegatives, Together
from ebm_control.training.reward_fit import fit_ends, fit_reward
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
    "DivergenceError",
    "Fresh",
    "Guard",
    "ImageModel",
    "ImageModelSettings",
    "ImageTrainSettings",
    "InfoNCE",
    "LogSumExp",
    "Logger",
    "LossTerms",
    "ModelSettings",
    "RandomNegatives",
    "SampleBuffer",
    "Softplus",
    "Together",
    "TrainSettings",
    "Trainer",
    "Training",
    "TrajectoryModel",
    "batches_for",
    "displaced",
    "fit_base",
    "fit_ends",
    "fit_images",
    "fit_model",
    "fit_reward",
    "gaussian",
    "image_trainer_for",
    "latest_checkpoint",
    "load_checkpoint",
    "save_checkpoint",
    "scattered",
    "trainer_for",
    "uniform",
]
