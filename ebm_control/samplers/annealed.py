"""Langevin dynamics through falling noise levels."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ebm_control.checks import is_sequence, require, require_number, require_shape, shown
from ebm_control.energies.base import Energy
from ebm_control.samplers.chain import Bound, Chain, KernelSampler, broadcast, require_start
from ebm_control.samplers.engines import Engine
from ebm_control.samplers.kernel import Kernel
from ebm_control.samplers.langevin import LangevinColumns, LangevinKernel, column
from ebm_control.tensors import generator_on


@dataclass(frozen=True)
class Annealed(KernelSampler):
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
        levels, expected = self.levels, "positive numbers, falling"
        if isinstance(levels, np.ndarray | Tensor):
            levels = levels.tolist()
        require(is_sequence(levels), "levels", given=shown(levels), expected=expected)
        for level in levels:
            require_number("levels", level, 0, above=True)
        falling = all(high > low for high, low in itertools.pairwise(levels))
        require(len(levels) > 0 and falling, "levels", given=shown(levels), expected=expected)
        object.__setattr__(self, "levels", tuple(float(level) for level in levels))
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

    def __call__(
        self,
        energy: Energy,
        x: Tensor,
        *,
        fixed: Tensor | None = None,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        trace: int = 0,
    ) -> Chain:
        """Run one chain for every sample; see `Sampler`. The noise of the first level is added to `x`."""
        require_start(x, fixed, context, trace)
        if context is not None:
            require_shape("context", context, (len(x), None))
        generator = generator_on(x.device, generator)
        first = x.new_full((len(x), 1), math.log(self.levels[0]))
        given = first if context is None else torch.cat([context, first], dim=-1)
        noised = self._noised(x, fixed, generator)
        return super().__call__(energy, noised, fixed=fixed, context=given, generator=generator, trace=trace)

    def _noised(self, x: Tensor, fixed: Tensor | None, generator: torch.Generator) -> Tensor:
        noise = self.levels[0] * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        if self.scale is not None:
            noise = noise * broadcast("scale", self.scale, x)
        return x + (noise if fixed is None else noise.masked_fill(fixed.to(x.device), 0.0))


def noise_levels(low: float, high: float, count: int = 20) -> tuple[float, ...]:
    """`count` levels from `high` down to `low` in geometric progression.

    Raises:
        InputError: not `0 < low < high`, or fewer than 2 levels.

    """
    require_number("high", high, 0, above=True)
    require_number("low", low, 0, high, above=True, below=True)
    require_number("count", count, 2, whole=True)
    return tuple(high * (low / high) ** (i / (count - 1)) for i in range(count))
