"""Energies: their algebra, networks, energies of trajectories and images, base measures and costs."""

from ebm_control.energies.base import Energy, Mixture, Scaled, Sum, mixture
from ebm_control.energies.base_measure import BaseMeasure, GaussianBase, RegressionBase
from ebm_control.energies.constraints import BoundCost, BoxObstacle, SpeedCost
from ebm_control.energies.costs import GoalCost, RewardCost, SmoothnessCost
from ebm_control.energies.curvature import Quadratic
from ebm_control.energies.image import ImageEnergy, ResidualNetwork, SmallCNN, UNet
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.network_energy import NetworkEnergy
from ebm_control.energies.networks import MLP, FourierMLP, TemporalConvolution, Transformer
from ebm_control.energies.noise import AtNoise, Given, Observed
from ebm_control.energies.on_states import OnStates
from ebm_control.energies.rescaled import Rescaled
from ebm_control.energies.trajectory import TransitionEnergy
from ebm_control.energies.window import WindowEnergy

__all__ = [
    "MLP",
    "AtNoise",
    "BaseMeasure",
    "BoundCost",
    "BoxObstacle",
    "Energy",
    "FourierMLP",
    "GaussianBase",
    "Given",
    "GoalCost",
    "ImageEnergy",
    "Mixture",
    "NetworkEnergy",
    "Observed",
    "OnStates",
    "Quadratic",
    "RegressionBase",
    "Rescaled",
    "ResidualNetwork",
    "RewardCost",
    "Scaled",
    "SmallCNN",
    "SmoothnessCost",
    "SpeedCost",
    "Sum",
    "TemporalConvolution",
    "TrajectoryLayout",
    "Transformer",
    "TransitionEnergy",
    "UNet",
    "WindowEnergy",
    "mixture",
]
