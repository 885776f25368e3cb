"""Falling noise levels, and what samplers that go through them have in common."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from ebm_control.checks import is_sequence, require, require_number, require_shape, shown
from ebm_control.energies.base import Energy
from ebm_control.samplers.chain import Chain, KernelSampler, preconditioner, require_start, run_chain
from ebm_control.tensors import generator_on


class LevelSampler(KernelSampler):
    """Base class of samplers for an energy of noised samples, whose context ends with the logarithm of a level.

    Attributes:
        levels: noise levels, falling.

    """

    levels: tuple[float, ...]

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
        """Run one chain for every sample; see `Sampler`. Noise as of the first level is added to `x`."""
        require_start(x, fixed, context, trace)
        if context is not None:
            require_shape("context", context, (len(x), None))
        generator = generator_on(x.device, generator)
        level = x.new_full((len(x), 1), math.log(self._context_level()))
        given = level if context is None else torch.cat([context, level], dim=-1)
        noised = self._noised(x, fixed, generator)
        return run_chain(
            self.kernel(),
            energy,
            noised,
            self.step_parameters(),
            scale=self.scale,
            clamp=self.clamp,
            fixed=fixed,
            context=given,
            origin=x.detach(),
            generator=generator,
            trace=trace,
            engine=self.engine,
        )

    def _context_level(self) -> float:
        """Level of the context before the first step."""
        return self.levels[0]

    def _start_noise(self) -> float:
        """Std of the noise that is added to the start, in units of the scale."""
        return self.levels[0]

    def _noised(self, x: Tensor, fixed: Tensor | None, generator: torch.Generator) -> Tensor:
        noise = self._start_noise() * torch.randn(
            x.shape, generator=generator, device=x.device, dtype=x.dtype
        )
        factor = preconditioner(self.scale, x)
        noise = noise if factor is None else noise * factor
        return x + (noise if fixed is None else noise.masked_fill(fixed.to(x.device), 0.0))


def falling(levels: object) -> tuple[float, ...]:
    """Noise levels of any form as a tuple.

    Raises:
        InputError: they are not positive, or do not fall.

    """
    expected = "positive numbers, falling"
    if isinstance(levels, np.ndarray | Tensor):
        levels = levels.tolist()
    require(is_sequence(levels), "levels", given=shown(levels), expected=expected)
    assert isinstance(levels, list | tuple)
    for level in levels:
        require_number("levels", level, 0, above=True)
    ordered = all(high > low for high, low in itertools.pairwise(levels))
    require(len(levels) > 0 and ordered, "levels", given=shown(levels), expected=expected)
    return tuple(float(level) for level in levels)


def noise_levels(low: float, high: float, count: int = 20, *, rho: float | None = None) -> tuple[float, ...]:
    """`count` levels from `high` down to `low`.

    Args:
        low: lowest level.
        high: highest level.
        count: number of levels, at least 2.
        rho: the levels to the power `1/rho` are evenly spaced (Karras et al. 2022, with `rho=7`): the smaller, the more
            of them are high. None for a geometric progression, the limit of large `rho`.

    Raises:
        InputError: not `0 < low < high`, fewer than 2 levels, or `rho` is not positive.

    """
    require_number("high", high, 0, above=True)
    require_number("low", low, 0, high, above=True, below=True)
    require_number("count", count, 2, whole=True)
    shares = [i / (count - 1) for i in range(count)]
    if rho is None:
        return tuple(high * (low / high) ** share for share in shares)
    require_number("rho", rho, 0, above=True)
    first, last = high ** (1 / rho), low ** (1 / rho)
    return tuple((first + share * (last - first)) ** rho for share in shares)
