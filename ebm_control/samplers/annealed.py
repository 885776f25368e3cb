"""Langevin dynamics through falling noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_control.checks import require
from ebm_control.energies.base import Energy
from ebm_control.samplers.chain import Bound, Chain
from ebm_control.samplers.engines import Engine
from ebm_control.samplers.langevin import Langevin


@dataclass(frozen=True)
class Annealed:
    """Annealed Langevin dynamics for an energy of noised samples (Song & Ermon 2019).

    The energy's context ends with the logarithm of a noise level σ; at each level it is that of data to which noise of
    deviation `σ * scale` was added. Chains are `Langevin` ones, level after level, each from where the last one ended,
    with steps `η = rate σ²`: at the highest level modes are joined and chains mix, at the lowest they are told apart.

    Args:
        levels: noise levels, falling.
        steps: at each level.
        rate: η in units of σ²; below 1, as the energy of data with noise σ is curved by up to 1/σ².
        temperature: 1 samples the energy, 0 seeks its least along the way.
        scale: as in `Langevin`, and of the noise that the energy was trained with.
        clamp: as in `Langevin`.
        denoise: end with the mean of the data given the last noised sample, `x - σ² S² ∇E` (Tweedie's formula).
        engine: as in `Langevin`.

    """

    levels: tuple[float, ...]
    steps: int = 5
    rate: float = 0.25
    temperature: float = 1.0
    scale: Tensor | tuple[float, ...] | None = None
    clamp: tuple[Bound, Bound] | None = None
    denoise: bool = True
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        falling = all(high > low > 0 for high, low in zip(self.levels, self.levels[1:], strict=False))
        require(
            len(self.levels) > 0 and self.levels[-1] > 0 and falling,
            "levels",
            given=self.levels,
            expected="positive figures, falling",
        )
        require(self.steps >= 1, "steps", given=self.steps, expected="at least 1")
        require(self.rate > 0, "rate", given=self.rate, expected="a positive number")
        require(self.temperature >= 0, "temperature", given=self.temperature, expected="0 or more")

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
        if generator is None:
            generator = torch.Generator(x.device)
            generator.seed()
        stages = [(level, self._at(level)) for level in self.levels]
        if self.denoise:
            last = self.levels[-1]
            stages.append((last, self._langevin(1, last**2, noise=0.0)))
        x = self._noised(x, fixed, generator)
        chains = []
        for level, sampler in stages:
            known = [] if context is None else [context]
            given = torch.cat([*known, x.new_full((len(x), 1), math.log(level))], dim=-1)
            chain = sampler(energy, x, fixed=fixed, context=given, generator=generator, trace=trace)
            chains.append(chain)
            x = chain.x
        traces = [chain.trace for chain in chains if chain.trace is not None]
        info = {name: torch.cat([chain.info[name] for chain in chains]) for name in chains[0].info}
        return Chain(x, chains[-1].energy, torch.cat(traces) if traces else None, info)

    def _at(self, level: float) -> Langevin:
        return self._langevin(self.steps, self.rate * level**2)

    def _langevin(self, steps: int, step_size: float, noise: float | None = None) -> Langevin:
        return Langevin(
            steps,
            step_size,
            noise=noise,
            temperature=self.temperature,
            scale=self.scale,
            clamp=self.clamp,
            engine=self.engine,
        )

    def _noised(self, x: Tensor, fixed: Tensor | None, generator: torch.Generator) -> Tensor:
        noise = self.levels[0] * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        if self.scale is not None:
            noise = noise * torch.as_tensor(self.scale, device=x.device, dtype=x.dtype)
        return x + (noise if fixed is None else noise.masked_fill(fixed.to(x.device), 0.0))


def noise_levels(low: float, high: float, count: int = 10) -> tuple[float, ...]:
    """`count` levels from `high` down to `low`, each the same part of the one before.

    Raises:
        InputError: not `0 < low < high`, or fewer than 2 levels.

    """
    require(0 < low < high, "low", given=(low, high), expected="0 < low < high")
    require(count >= 2, "count", given=count, expected="at least 2")
    return tuple(high * (low / high) ** (i / (count - 1)) for i in range(count))
