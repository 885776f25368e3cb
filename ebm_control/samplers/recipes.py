"""Samplers with settings that suit an energy: for training, for sampling and for planning."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm_control.checks import require_number
from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.image import ImageEnergy
from ebm_control.energies.trajectory import TransitionEnergy
from ebm_control.energies.window import WindowEnergy
from ebm_control.samplers.annealed import Annealed
from ebm_control.samplers.flow import ProbabilityFlow
from ebm_control.samplers.langevin import Langevin
from ebm_control.samplers.levels import noise_levels
from ebm_control.samplers.schedules import Linear

FALL = 2.5  # greatest factor between two levels of a flow
STEPS = 30  # of a chain over a trajectory
IMAGE_STEPS = 60  # noise levels or Langevin steps for an image


def trajectory_sampler(
    energy: TransitionEnergy | WindowEnergy, steps: int | None = None, *, temperature: float = 1.0
) -> Langevin | Annealed | ProbabilityFlow:
    """Sampler of futures: Langevin dynamics preconditioned by the energy's own scale, with the settings of training.

    Around a regression base the energy is near a standard normal in units of the base's std, which exact
    Langevin dynamics samples. Without such a base training shaped the tilt by low-noise, clipped dynamics in units of
    a displacement, so its samples come from the same dynamics, with noise `sqrt(temperature)` times that of training.
    An energy of noised data is sampled through falling noise levels, one per step. Single transitions at temperature 1
    follow the probability flow from a third of the greatest level, see `flow_levels`.

    Args:
        energy: energy to sample from.
        steps: steps of each chain; None for 30, or for the levels of `flow_levels`.
        temperature: 1 samples the model, 0 searches for the most likely future.

    """
    if steps is not None:
        require_number("steps", steps, 0, whole=True)
    require_number("temperature", temperature, 0)
    scale = energy.coordinate_scale()
    flows = isinstance(energy, TransitionEnergy) and isinstance(energy.base, RegressionBase)
    if energy.noise is not None and flows and temperature == 1:
        return ProbabilityFlow(flow_levels(*energy.noise, steps), scale=scale)
    steps = STEPS if steps is None else steps
    if energy.noise is not None:
        return Annealed(noise_levels(*energy.noise, max(2, steps)), temperature=temperature, scale=scale)
    if isinstance(energy.base, RegressionBase):
        return Langevin(steps, Linear(0.2, 0.05), temperature=temperature, scale=scale)
    scale = torch.cat([energy.displacement_scale, energy.displacement_scale.new_ones(energy.layout.act_dim)])
    return Langevin(steps, 0.5, noise=0.02 * temperature**0.5, scale=scale, gradient_clip=1.0)


def flow_levels(low: float, high: float, count: int | None = None) -> tuple[float, ...]:
    """Levels of the probability flow of transitions, in stds of the base, for an energy of noise from `low` to `high`.

    They begin at a third of `high` and end at a tenth of the base's std, from where one step leads to the mean. With
    `count` None they fall by a factor of at most 2.5.
    """
    first = high / 3
    last = min(max(low, 0.1), first / 2)
    if count is None:
        count = 1 + math.ceil(math.log(first / last) / math.log(FALL))
    return noise_levels(last, first, max(2, count))


def negative_sampler(
    energy: TransitionEnergy | WindowEnergy, steps: int, bounds: tuple[Tensor, Tensor] | None = None
) -> Langevin:
    """Langevin sampler of training negatives, preconditioned by the energy's own scale.

    For a joint energy it is exact at temperature 1, and states stay within `bounds` (low, high), `(obs_dim,)`
    each: the density has to be learned there, because it is flat beyond the data otherwise.

    Around a regression base the energy is near a standard normal in that scale, and exact Langevin dynamics mixes in
    tens of steps. Without one only the tilt shapes the density, with the low-noise dynamics of Du & Mordatch 2019.
    """
    if isinstance(energy.base, RegressionBase):
        return Langevin(steps, Linear(0.3, 0.06), scale=energy.coordinate_scale())
    act_dim = energy.layout.act_dim
    scale = (*energy.displacement_scale.tolist(), *[1.0] * act_dim)
    if bounds is not None:
        unbounded = [float("inf")] * act_dim
        low, high = (bound.tolist() for bound in bounds)
        clamp = ((*low, *[-value for value in unbounded]), (*high, *unbounded))
        return Langevin(steps, Linear(0.3, 0.06), scale=scale, clamp=clamp)
    return Langevin(steps, 0.5, noise=0.02, scale=scale, gradient_clip=1.0)


def image_sampler(
    energy: ImageEnergy, steps: int = IMAGE_STEPS, *, corrections: int = 0, low: float | None = None
) -> Annealed | Langevin:
    """Sampler of images: through falling noise levels if the energy has them, else with the settings of training.

    Args:
        energy: energy to sample from.
        steps: number of noise levels, or of Langevin steps.
        corrections: Langevin steps at each noise level; compositions and conditions need them.
        low: lowest noise level; None for the energy's own.

    """
    require_number("corrections", corrections, 0, whole=True)
    if energy.noise is None:
        return cold_langevin(steps)
    require_number("steps", steps, 2, whole=True)
    least, greatest = energy.noise
    low = least if low is None else low
    return Annealed(noise_levels(low, greatest, steps), steps=corrections, rate=0.2)


def cold_langevin(steps: int) -> Langevin:
    """Langevin for images after Du & Mordatch 2019: large clipped steps, little noise, pixels in [0, 1]."""
    return Langevin(steps, 10.0, noise=0.005, gradient_clip=0.01, clamp=(0.0, 1.0))
