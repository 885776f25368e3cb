"""Models: trained energies with their units, and functions to fit, save and load them and to predict with them."""

from ebm_control.models.base_fit import fit_base
from ebm_control.models.image import ImageModel, ImageModelSettings
from ebm_control.models.image_fit import ImageTrainSettings, fit_images, image_trainer_for
from ebm_control.models.prediction_error import PredictionError, prediction_error
from ebm_control.models.reward import EndNetwork, LearnedReturn, RewardNetwork
from ebm_control.models.reward_fit import fit_ends, fit_reward
from ebm_control.models.trajectory import ModelSettings, TrajectoryModel
from ebm_control.models.trajectory_fit import TrainSettings, batches_for, fit_model, trainer_for

__all__ = [
    "EndNetwork",
    "ImageModel",
    "ImageModelSettings",
    "ImageTrainSettings",
    "LearnedReturn",
    "ModelSettings",
    "PredictionError",
    "RewardNetwork",
    "TrainSettings",
    "TrajectoryModel",
    "batches_for",
    "fit_base",
    "fit_ends",
    "fit_images",
    "fit_model",
    "fit_reward",
    "image_trainer_for",
    "prediction_error",
    "trainer_for",
]
