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

    The energy's context ends with the logarithm of a noise level σ; at each level it is that of data to which noise of
    deviation `σ * scale` was added. A level is some Langevin steps `η = rate σ²` at equilibrium (correctors), then one
    that takes samples of this level to the next, σ', with `η = σ² - σ'²` and noise of variance `η σ'²/σ²` (the
    predictor, ancestral sampling): all steps of one chain, whose figures change from step to step. At the highest
    level modes are joined, at the lowest they are told apart. The last step, with `σ' = 0`, leads to the mean of the
    data given the noised sample (Tweedie's formula).

    Args:
        levels: noise levels, falling.
        steps: correctors at each level.
        rate: their η in units of σ²; below 1, as the energy of data with noise σ is curved by up to 1/σ².
        temperature: 1 samples the energy, 0 seeks its least along the way.
        scale: as in `Langevin`, and of the noise that the energy was trained with.
        clamp: as in `Langevin`.
        engine: as in `Langevin`.

    """

    levels: tuple[float, ...]
    steps: int = 0
    rate: float = 0.3
    temperature: float = 1.0
    scale: Tensor | tuple[float, ...] | None = None
    clamp: tuple[Bound, Bound] | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        levels, expected = self.levels, "positive figures, falling"
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
        """A Langevin step, after which the noise level changes."""
        return LangevinKernel(adapt="none", underdamped=False)

    def rows(self) -> Tensor:
        """`(steps, 6)`, a column for each of `LangevinColumns`; the last holds the level after each step."""
        step_sizes, noises, log_levels = [], [], []
        heat = self.temperature**0.5
        for level, following in zip(self.levels, (*self.levels[1:], 0.0), strict=True):
            corrector, predictor = self.rate * level**2, level**2 - following**2
            step_sizes += [*[corrector] * self.steps, predictor]
            noises += [heat * (2 * corrector) ** 0.5] * self.steps
            noises.append(heat * predictor**0.5 * following / level)
            # The last step's energy is that at the least level.
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
        """Run one chain for every sample; see `Sampler`. `x` is where the noise of the first level is added."""
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
    """`count` levels from `high` down to `low`, each the same part of the one before.

    Raises:
        InputError: not `0 < low < high`, or fewer than 2 levels.

    """
    require_number("high", high, 0, above=True)
    require_number("low", low, 0, high, above=True, below=True)
    require_number("count", count, 2, whole=True)
    return tuple(high * (low / high) ** (i / (count - 1)) for i in range(count))
