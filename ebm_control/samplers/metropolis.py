"""Metropolis-adjusted samplers: exact at any step size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ebm_control.checks import require_number
from ebm_control.samplers.chain import KernelSampler
from ebm_control.samplers.engines import Engine
from ebm_control.samplers.kernel import (
    Info,
    Kernel,
    Row,
    Scale,
    State,
    Target,
    choose,
    entries,
    finite,
    norms,
    root,
)


@dataclass(frozen=True)
class HMC(KernelSampler):
    """Hamiltonian Monte Carlo with unit mass (Neal 2011) for `exp(-E / temperature)`.

    Args:
        steps: number of proposals.
        step_size: time step ε of the leapfrog integrator.
        leapfrog: leapfrog steps (gradients) per proposal.
        temperature: T.
        scale: preconditioner per coordinate, broadcast to `x`: the dynamics run in `x / scale`.
        engine: "eager", "compile", "graph" or "auto", see `Langevin`.

    Metrics in `Chain.info`, one value per step: `acceptance` (fraction of chains that moved), `gradient_norm`,
    `rejected` (number of chains with a non-finite proposal) and `energy` (mean over chains).

    """

    steps: int = 100
    step_size: float = 0.1
    leapfrog: int = 10
    temperature: float = 1.0
    scale: Tensor | tuple[float, ...] | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        require_number("steps", self.steps, 0, whole=True)
        require_number("step_size", self.step_size, 0, above=True)
        require_number("leapfrog", self.leapfrog, 1, whole=True)
        require_number("temperature", self.temperature, 0, above=True)

    def kernel(self) -> Kernel:
        """One proposal and its acceptance test."""
        return HMCKernel(self.leapfrog)

    def step_parameters(self) -> Tensor:
        """Parameters of each proposal: time step, temperature."""
        return torch.tensor([[self.step_size, self.temperature]], dtype=torch.float64).expand(self.steps, 2)


@dataclass(frozen=True)
class MALA(KernelSampler):
    """Metropolis-adjusted Langevin (Roberts & Tweedie 1996) for `exp(-E / temperature)`.

    It is `HMC` with one leapfrog step of time `sqrt(2 η)` and uses the same kernel.

    Args:
        steps: number of proposals.
        step_size: η of the Langevin proposal `x - η ∇E + sqrt(2 η T) ξ`.
        temperature: T.
        scale: preconditioner per coordinate, broadcast to `x`.
        engine: "eager", "compile", "graph" or "auto", see `Langevin`.

    `Chain.info` holds the metrics of `HMC`.

    """

    steps: int = 100
    step_size: float = 0.1
    temperature: float = 1.0
    scale: Tensor | tuple[float, ...] | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        require_number("steps", self.steps, 0, whole=True)
        require_number("step_size", self.step_size, 0, above=True)
        require_number("temperature", self.temperature, 0, above=True)

    def kernel(self) -> Kernel:
        """One proposal of a single leapfrog step and its acceptance test."""
        return HMCKernel(1)

    def step_parameters(self) -> Tensor:
        """Parameters of each proposal: time step `sqrt(2 η)`, temperature."""
        return torch.tensor([[math.sqrt(2 * self.step_size), self.temperature]], dtype=torch.float64).expand(
            self.steps, 2
        )


@dataclass(frozen=True)
class HMCKernel:
    """One proposal of `leapfrog` steps and its acceptance test."""

    numbers: ClassVar[bool] = True
    leapfrog: int

    def init(self, target: Target, x: Tensor) -> State:
        """Energy and gradient at the start; non-finite gradients become 0, so that noise can move the chain away."""
        energy, gradient = target.value_and_gradient(x)
        return {"x": x, "energy": energy, "gradient": torch.nan_to_num(gradient, 0.0, 0.0, 0.0)}

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Normal noise for the momenta, uniform for the acceptance test."""
        normal = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return normal, torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype)

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Row, scale: Scale
    ) -> tuple[State, Info]:
        """Propose by leapfrog, accept with probability `min(1, exp(-ΔH / T))`."""
        time, temperature = entries(row)
        start = root(temperature) * target.mask(noise[0])
        momentum, x = start, state["x"]
        energy, gradient = state["energy"], state["gradient"]
        length = time * scale
        half = 0.5 * length
        for _ in range(self.leapfrog):
            momentum = momentum - half * gradient
            x = target.hold(x + length * momentum, x)
            energy, gradient = target.value_and_gradient(x)
            momentum = momentum - half * gradient
        new = {"x": x, "energy": energy, "gradient": gradient}
        kinetic = 0.5 * (start.square() - momentum.square()).flatten(1).sum(dim=1)
        log_ratio = (state["energy"] - energy + kinetic) / temperature
        sound = finite(new)
        # A chain that starts at a non-finite energy accepts any finite one.
        accept = sound & ((noise[1].log() < log_ratio) | ~torch.isfinite(state["energy"]))
        info = {
            "acceptance": accept.to(x.dtype),
            "gradient_norm": norms(state["gradient"]),
            "rejected": ~sound,
            "energy": state["energy"],
        }
        return choose(accept, new, state), info

    def finish(self, target: Target, state: State) -> State:
        """The state unchanged: each step evaluates the energy of its end."""
        return state
