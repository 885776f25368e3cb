"""Energy-based models for control: one sampler trains, predicts and plans."""

from ebm_control.control import planner_for
from ebm_control.data import RolloutBuffer, collect, collect_mujoco, from_minari, load_images, to_minari
from ebm_control.energies import Energy, GoalCost, RewardCost, mixture
from ebm_control.models import (
    ImageModel,
    ImageModelSettings,
    ImageTrainSettings,
    ModelSettings,
    TrainSettings,
    TrajectoryModel,
    fit_images,
    fit_model,
    prediction_error,
)
from ebm_control.planning import MPCAgent, Planner, run_episodes
from ebm_control.prediction import predict
from ebm_control.samplers import CEM, HMC, MALA, MPPI, Langevin
from ebm_control.training import SampleBuffer, Trainer

__all__ = [
    "CEM",
    "HMC",
    "MALA",
    "MPPI",
    "Energy",
    "GoalCost",
    "ImageModel",
    "ImageModelSettings",
    "ImageTrainSettings",
    "Langevin",
    "MPCAgent",
    "ModelSettings",
    "Planner",
    "RewardCost",
    "RolloutBuffer",
    "SampleBuffer",
    "TrainSettings",
    "Trainer",
    "TrajectoryModel",
    "collect",
    "collect_mujoco",
    "fit_images",
    "fit_model",
    "from_minari",
    "load_images",
    "mixture",
    "planner_for",
    "predict",
    "prediction_error",
    "run_episodes",
    "to_minari",
]
