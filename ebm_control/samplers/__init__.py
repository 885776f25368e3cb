"""Samplers: one loop, many kernels. They work on any tensors, not only on trajectories or images."""

from ebm_control.samplers.annealed import Annealed
from ebm_control.samplers.chain import Chain, KernelSampler, Sampler
from ebm_control.samplers.diagnostics import effective_sample_size, split_rhat
from ebm_control.samplers.flow import ProbabilityFlow
from ebm_control.samplers.kernel import Kernel
from ebm_control.samplers.langevin import Langevin
from ebm_control.samplers.levels import noise_levels
from ebm_control.samplers.metropolis import HMC, MALA
from ebm_control.samplers.population import CEM, MPPI
from ebm_control.samplers.recipes import cold_langevin, image_sampler, negative_sampler, trajectory_sampler
from ebm_control.samplers.schedules import Cosine, Geometric, Linear, Schedule
from ebm_control.samplers.second_order import GaussNewton

__all__ = [
    "CEM",
    "HMC",
    "MALA",
    "MPPI",
    "Annealed",
    "Chain",
    "Cosine",
    "GaussNewton",
    "Geometric",
    "Kernel",
    "KernelSampler",
    "Langevin",
    "Linear",
    "ProbabilityFlow",
    "Sampler",
    "Schedule",
    "cold_langevin",
    "effective_sample_size",
    "image_sampler",
    "negative_sampler",
    "noise_levels",
    "split_rhat",
    "trajectory_sampler",
]
