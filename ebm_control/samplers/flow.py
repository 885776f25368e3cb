"""Deterministic integrators of falling noise levels: samples of an energy of noised data by few gradients."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ebm_control.checks import require, require_flag, require_number, require_shape
from ebm_control.samplers.chain import Bound
from ebm_control.samplers.engines import Engine
from ebm_control.samplers.kernel import Info, Kernel, State, Target, finite, norms
from ebm_control.samplers.levels import LevelSampler, falling

METHODS = ("euler", "heun", "multistep")


@dataclass(frozen=True)
class ProbabilityFlow(LevelSampler):
    """The probability-flow differential equation of an energy of noised samples (Song et al. 2021), by few gradients.

    The energy's context ends with the logarithm of a noise level σ. At that level it is the energy of data with added
    noise of std `σ S`, for the scale `S`. The mean of the data given the noised sample x is `D = x - σ² S² ∇E(x, σ)`
    (Tweedie's formula). Along `dx/dσ = (x - D) / σ` samples follow the law of the data with falling noise. All
    randomness is in the start, unless `eta` is above 0. The last step leads to D at the lowest level.

    One step of the chain is one gradient. The methods are

    - "euler": first order, the DDIM sampler of Song, Meng & Ermon 2021. With `eta=1` it is ancestral sampling.
    - "heun": second order, two gradients for each level but the last (Karras et al. 2022).
    - "multistep": second order, one gradient for each level. D is extrapolated from the level before (Lu et al. 2022);
      before the first level it is the start, as at infinite noise. Once D is known at the next level, the step there
      is corrected by interpolation, without another gradient (Zhao et al. 2023, UniPC), unless `eta` adds noise.

    Both are linear in `1 / √(1 + σ² / std²)`, in which D is linear if the data are a Gaussian of that std.

    Args:
        levels: noise levels, falling; see `noise_levels`.
        method: "euler", "heun" or "multistep".
        eta: share of the noise of ancestral sampling that is drawn at each level, from 0 to 1.
        std: about the std of the data around the start of the chains, in units of S. The start is best the mean of
            the data. Noise of std `√(σ² + std²) S` for the first level σ is added to it.
        scale: scale of the training noise per coordinate, S, broadcast to `x`.
        clamp: low and high bound on the means D, for coordinates that are not fixed, and so on the samples.
        last_energy: whether `Chain.energy` is that of the samples. If not, it is that of the chains before their last
            step, which saves an evaluation.
        engine: "eager", "compile", "graph" or "auto", see `Langevin`.

    Metrics in `Chain.info` are those of `Langevin`. A chain whose energy or gradient is not finite counts as rejected;
    it goes on with its last mean.

    """

    levels: tuple[float, ...]
    method: Literal["euler", "heun", "multistep"] = "multistep"
    eta: float = 0.0
    std: float = 1.0
    scale: Tensor | tuple[float, ...] | None = None
    clamp: tuple[Bound, Bound] | None = None
    last_energy: bool = True
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", falling(self.levels))
        known = isinstance(self.method, str) and self.method in METHODS
        require(known, "method", given=self.method, expected="'euler', 'heun' or 'multistep'")
        require_number("eta", self.eta, 0, 1)
        require_number("std", self.std, 0, above=True)
        require_flag("last_energy", self.last_energy)

    def kernel(self) -> Kernel:
        """One gradient, and a move to the next noise level."""
        return FlowKernel(self.method, noisy=self.eta > 0, last_energy=self.last_energy)

    def step_parameters(self) -> Tensor:
        """`(steps, 8)`, one column per field of `FlowColumns`."""
        rows: list[FlowRow] = []
        before = math.inf
        for level, following in itertools.pairwise((*self.levels, 0.0)):
            noise = self.eta * following * (1 - (following / level) ** 2) ** 0.5
            down = (following**2 - noise**2) ** 0.5  # the flow leads below the next level, and noise up to it
            row = FlowRow(level, math.log(level), share=down / level, noise=noise)
            if self.method == "heun" and down > 0:
                # The slope (x - D) / σ at the level's end replaces half of that at its beginning:
                # kept + (down - level) / 2 * ((kept - its mean) / level + (x - D) / down).
                half = (level - down) / 2
                rows.append(row._replace(noise=0.0))
                weights = {"here": -half / down, "kept": 1 - half / level, "last": half / level}
                row = FlowRow(down, math.log(down), **weights, share=1.0, noise=noise)
            elif self.method == "multistep":
                if math.isfinite(before) and self.eta == 0:
                    end, ratio = self._slope(before, level, before, level), level / before
                    row = row._replace(here=0.0, kept=ratio, last=1 - ratio - end)
                row = row._replace(trend=self._slope(level, down, before, level))
            rows.append(row)
            before = level
        return torch.tensor(rows, dtype=torch.float64)

    def _slope(self, level: float, down: float, first: float, second: float) -> float:
        """Weight of `D(second) - D(first)` in a step from `level` to `down`; 0 in the step to no noise.

        The step is `x <- x down / level + down ∫ D(σ) d(1/σ)`, with D linear in c(σ), whose integral over 1/σ is
        `1 / (σ c(σ))`.
        """
        if down == 0:
            return 0.0
        here, there, one, other = (
            1 / math.hypot(1.0, sigma / self.std) for sigma in (level, down, first, second)
        )
        share = down / level
        return (1 / there - share / here - here * (1 - share)) / (other - one)

    def _context_level(self) -> float:
        """The lowest, at which the last energy is evaluated; every step sets its own level."""
        return self.levels[-1]

    def _start_noise(self) -> float:
        return math.hypot(self.levels[0], self.std)


class FlowRow(NamedTuple):
    """Parameters of a step. D is the mean of the data given x; x' and D' are the corrected x and D of the step before.

    First x is corrected: `c = D + here (x - D) + kept (x' - D) + last (D' - D)`. Then the step leads to
    `D + share (c - D) + trend (D - D') + noise S ξ`.
    """

    level: float
    log_level: float
    here: float = 1.0
    kept: float = 0.0
    last: float = 0.0
    share: float = 0.0
    trend: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True)
class FlowKernel:
    """One step of `ProbabilityFlow`: the gradient at a level, and a linear combination with the step before."""

    method: str
    noisy: bool
    last_energy: bool = True

    def init(self, target: Target, x: Tensor) -> State:
        """The noised start, and the start as the mean before; the first step evaluates the energy."""
        mean = x if target.origin is None else target.origin
        # Copies: a compiled step would be compiled once more for arguments that are one tensor.
        return {"x": x, "mean": mean.clone(), "energy": x.new_zeros(len(x)), "kept": x.clone()}

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Standard normal noise of the shape of `x`, if there is any."""
        if not self.noisy:
            return ()
        return (torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype),)

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        """One move of every chain; differences are 0 at fixed coordinates, which keeps them to the bit."""
        level, log_level, here, kept, last, share, trend, sigma = row.unbind(0)
        x, before = state["x"], state["mean"]
        energy, gradient = target.at(log_level).value_and_gradient(x)
        require_shape("energy(x)", energy, (x.shape[0],))
        sound = finite({"energy": energy, "gradient": gradient})
        mean = target.hold(x - (level * scale).square() * gradient, x)
        mean = torch.where(sound.reshape(-1, *[1] * (x.ndim - 1)), mean, before)
        away = x - mean
        if self.method != "euler":
            away = here * away + kept * (state["kept"] - mean) + last * (before - mean)
        moved = mean + share * away
        if self.method == "multistep":
            moved = moved + trend * (mean - before)
        if self.noisy:
            moved = moved + sigma * scale * target.mask(noise[0])
        steepness = norms(gradient)
        steepness = torch.where(sound, steepness, torch.zeros_like(steepness))
        info = {"gradient_norm": steepness, "rejected": ~sound, "energy": energy}
        return {"x": moved, "mean": mean, "energy": energy, "kept": mean + away}, info

    def finish(self, target: Target, state: State) -> State:
        """The state with the energy of its `x` at the lowest level, if it is asked for."""
        return state | {"energy": target.value(state["x"])} if self.last_energy else state
