"""Deterministic integrators of falling noise levels: samples of an energy of noised data by few gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ebm_control.checks import require, require_number, require_shape
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

    - "euler": first order, the DDIM sampler of Song, Meng & Ermon 2021. With `eta=1` it is ancestral sampling, the
      same chain as that of `Annealed`.
    - "heun": second order, two gradients for each level but the last (Karras et al. 2022).
    - "multistep": second order, one gradient for each level: D is extrapolated from the level before (Lu et al. 2022,
      DPM-Solver++(2M)).

    Args:
        levels: noise levels, falling; see `noise_levels`.
        method: "euler", "heun" or "multistep".
        eta: share of the noise of ancestral sampling that is drawn at each level, from 0 to 1.
        scale: scale of the training noise per coordinate, S, broadcast to `x`.
        clamp: low and high bound on the means D, for coordinates that are not fixed, and so on the samples.
        engine: "eager", "compile", "graph" or "auto", see `Langevin`.

    Metrics in `Chain.info` are those of `Langevin`. A chain whose energy or gradient is not finite counts as rejected;
    it goes on with its last mean.

    """

    levels: tuple[float, ...]
    method: Literal["euler", "heun", "multistep"] = "multistep"
    eta: float = 0.0
    scale: Tensor | tuple[float, ...] | None = None
    clamp: tuple[Bound, Bound] | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", falling(self.levels))
        known = isinstance(self.method, str) and self.method in METHODS
        require(known, "method", given=self.method, expected="'euler', 'heun' or 'multistep'")
        require_number("eta", self.eta, 0, 1)

    def kernel(self) -> Kernel:
        """One gradient, and a move to the next noise level."""
        return FlowKernel(self.method, noisy=self.eta > 0)

    def rows(self) -> Tensor:
        """`(steps, 6)`, one column per field of `FlowColumns`."""
        rows: list[tuple[float, ...]] = []
        before = math.inf
        for level, following in zip(self.levels, (*self.levels[1:], 0.0), strict=True):
            noise = self.eta * following * (1 - (following / level) ** 2) ** 0.5
            down = (following**2 - noise**2) ** 0.5  # the flow leads below the next level, and noise up to it
            share, log_level = down / level, math.log(level)
            if self.method == "heun" and down > 0:
                # The slope (x - D) / σ at the level's end replaces half of that at its beginning:
                # kept + (down - level) / 2 * ((kept - kept mean) / level + (x - D) / down).
                half = (level - down) / 2
                rows.append((level, log_level, share, 0.0, 0.0, 0.0))
                rows.append((down, math.log(down), -half / down, half / level, 1 - half / level, noise))
            else:
                ahead = 0.0
                if self.method == "multistep" and down > 0 and math.isfinite(before):
                    ahead = 0.5 * math.log(level / down) / math.log(before / level)
                rows.append((level, log_level, share, -(1 - share) * ahead, 0.0, noise))
            before = level
        return torch.tensor(rows, dtype=torch.float64)

    def _initial_level(self) -> float:
        """The lowest, at which the last energy is evaluated; every step sets its own level."""
        return self.levels[-1]


class FlowColumns(NamedTuple):
    """Parameters of a step, which leads to `D + share (x - D) + mean (D' - D) + kept (x' - D) + noise S ξ`.

    D is the mean of the data given x. D' and x' are those of the step before.
    """

    level: Tensor
    log_level: Tensor
    share: Tensor
    mean: Tensor
    kept: Tensor
    noise: Tensor


@dataclass(frozen=True)
class FlowKernel:
    """One step of `ProbabilityFlow`: the gradient at a level, and a linear combination with the step before."""

    method: str
    noisy: bool

    def init(self, target: Target, x: Tensor) -> State:
        """The start, as its own mean; its energy is evaluated by the first step."""
        state = {"x": x, "mean": x, "energy": x.new_zeros(len(x))}
        return state | {"kept": x} if self.method == "heun" else state

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Standard normal noise of the shape of `x`, if there is any."""
        if not self.noisy:
            return ()
        return (torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype),)

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        """One move of every chain; differences are 0 at fixed coordinates, which keeps them to the bit."""
        level, log_level, share, mean, kept, sigma = FlowColumns(*row.unbind(0))
        x, last = state["x"], state["mean"]
        energy, gradient = target.at(log_level).value_and_gradient(x)
        require_shape("energy(x)", energy, (x.shape[0],))
        sound = finite({"energy": energy, "gradient": gradient})
        found = target.hold(x - (level * scale).square() * gradient, x)
        found = torch.where(sound.reshape(-1, *[1] * (x.ndim - 1)), found, last)
        new = {"mean": found, "energy": energy}
        moved = found + share * (x - found)
        if self.method != "euler":
            moved = moved + mean * (last - found)
        if self.method == "heun":
            moved = moved + kept * (state["kept"] - found)
            new["kept"] = x
        if self.noisy:
            moved = moved + sigma * scale * target.mask(noise[0])
        new["x"] = moved
        steepness = norms(gradient)
        steepness = torch.where(sound, steepness, torch.zeros_like(steepness))
        info = {"gradient_norm": steepness, "rejected": ~sound, "energy": energy}
        return new, info

    def finish(self, target: Target, state: State) -> State:
        """The state with the energy of its `x` at the lowest level."""
        return state | {"energy": target.value(state["x"])}
