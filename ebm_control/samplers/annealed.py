"""Langevin dynamics through falling noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_control.checks import require_number
from ebm_control.samplers.chain import Bound
from ebm_control.samplers.engines import Engine
from ebm_control.samplers.kernel import Kernel
from ebm_control.samplers.langevin import LangevinColumns, LangevinKernel, column
from ebm_control.samplers.levels import LevelSampler, falling


@dataclass(frozen=True)
class Annealed(LevelSampler):
    """Annealed Langevin dynamics for an energy of noised samples (Song & Ermon 2019; Song et al. 2021).

    The energy's context ends with the logarithm of a noise level σ. At that level it is the energy of data with added
    noise of std `σ * scale`. Each level has `steps` Langevin steps with `η = rate σ²` (correctors, at equilibrium) and
    one step to the next level σ' with `η = σ² - σ'²` and noise of variance `η σ'²/σ²` (the predictor, ancestral
    sampling). All are steps of one chain with its own parameters per step. Modes are joined at the highest level and
    separate at the lowest. The last step, with `σ' = 0`, leads to the mean of the data given the noised sample
    (Tweedie's formula).

    Args:
        levels: noise levels, falling.
        steps: number of correctors at each level.
        rate: η of the correctors in units of σ²; below 1, because the energy's curvature at level σ is up to 1/σ².
        temperature: 1 samples the energy; 0 descends to a local minimum along the way.
        scale: preconditioner per coordinate, see `Langevin`; also the scale of the training noise.
        clamp: low and high bound on coordinates that are not fixed, see `Langevin`.
        engine: "eager", "compile", "graph" or "auto", see `Langevin`.

    """

    levels: tuple[float, ...]
    steps: int = 0
    rate: float = 0.3
    temperature: float = 1.0
    scale: Tensor | tuple[float, ...] | None = None
    clamp: tuple[Bound, Bound] | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", falling(self.levels))
        require_number("steps", self.steps, 0, whole=True)
        require_number("rate", self.rate, 0, above=True)
        require_number("temperature", self.temperature, 0)

    def kernel(self) -> Kernel:
        """A Langevin step that ends with a change of the noise level."""
        return LangevinKernel(adapt="none", underdamped=False)

    def step_parameters(self) -> Tensor:
        """`(steps, 6)`, one column per field of `LangevinColumns`; the last is the level after each step."""
        step_sizes, noises, log_levels = [], [], []
        heat = self.temperature**0.5
        for level, following in zip(self.levels, (*self.levels[1:], 0.0), strict=True):
            corrector, predictor = self.rate * level**2, level**2 - following**2
            step_sizes += [*[corrector] * self.steps, predictor]
            noises += [heat * (2 * corrector) ** 0.5] * self.steps
            noises.append(heat * predictor**0.5 * following / level)
            # The last step's energy is evaluated at the lowest level.
            log_levels += [*[math.log(level)] * self.steps, math.log(following or level)]
        zeros = torch.zeros(len(step_sizes), dtype=torch.float64)
        return LangevinColumns(
            step_size=column(step_sizes),
            noise=column(noises),
            time_step=zeros,
            momentum=zeros,
            rms_bias=torch.ones_like(zeros),
            log_level=column(log_levels),
        ).stacked()
