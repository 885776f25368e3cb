"""Langevin dynamics, from the exact discretisation to the low-noise practice of image EBMs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ebm_control.checks import require, require_number
from ebm_control.samplers.chain import Bound, KernelSampler
from ebm_control.samplers.engines import Engine
from ebm_control.samplers.kernel import (
    Info,
    Kernel,
    Row,
    Scale,
    State,
    Target,
    all_finite,
    choose,
    entries,
    finite,
    normal_noise,
    norms,
    root,
    times,
)
from ebm_control.samplers.schedules import Schedule, require_values, values

_RMS_DECAY = 0.9  # decay of the running mean square; chains of tens of steps need a short memory


@dataclass(frozen=True)
class Langevin(KernelSampler):
    """Langevin dynamics `x <- clamp(x - clip(η clip(∇E(x))) + σ ξ)`, `ξ ~ N(0, 1)`.

    Without clips, with `noise=None` and small steps, its samples follow `exp(-E / temperature)`. For a Gaussian of
    precision λ the variance of a coordinate is exactly `T / (λ (1 - η λ / 2))`. Du & Mordatch 2019
    write η as λ/2 and the noise variance as λ: `Langevin(step_size=λ / 2)`. In practice they use less noise:
    `Langevin(steps=60, step_size=10.0, noise=0.005, gradient_clip=0.01, clamp=(0, 1))`.

    Args:
        steps: number of steps.
        step_size: η, a number or a schedule.
        noise: σ, a number or a schedule; None for `sqrt(2 η T)`, overdamped Langevin at temperature T.
        temperature: T, a number or a schedule; used if `noise` is None.
        scale: preconditioner S per coordinate, broadcast to `x`. The dynamics run in `x / S`: steps become
            `-η S² ∇E + σ S ξ`, exact for constant S, and both clips are in units of `x / S`.
        adapt: "rms" divides the gradient by its running root mean square: fast inference, but not exact sampling.
        friction: γ > 0 for underdamped dynamics with unit mass and time step `sqrt(2 η)` (OBABO splitting with
            one gradient per step); infinite friction is the overdamped limit. None: overdamped.
        gradient_clip: bound on each coordinate of the gradient.
        delta_clip: bound on each coordinate of the drift of one step.
        clamp: low and high bound on coordinates that are not fixed, numbers or one per coordinate (broadcast to `x`).
            Where they are equal the coordinate stays at that value.
        engine: "eager", "compile" (CPU or CUDA), "graph" (CUDA) or "auto".

    Metrics in `Chain.info`, one value per step: `gradient_norm`, `rejected` (number of chains whose move was refused
    because its energy or gradient was not finite) and `energy` (mean over chains).

    """

    steps: int = 60
    step_size: float | Schedule = 0.1
    noise: float | Schedule | None = None
    temperature: float | Schedule = 1.0
    scale: Tensor | tuple[float, ...] | None = None
    adapt: Literal["none", "rms"] = "none"
    friction: float | None = None
    gradient_clip: float | None = None
    delta_clip: float | None = None
    clamp: tuple[Bound, Bound] | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        require_number("steps", self.steps, 0, whole=True)
        require(self.adapt in ("none", "rms"), "adapt", given=self.adapt, expected="'none' or 'rms'")
        require_values("step_size", self.step_size, self.steps, 0, above=True)
        require_values("temperature", self.temperature, self.steps, 0)
        if self.noise is not None:
            require_values("noise", self.noise, self.steps, 0)
        if self.friction is not None:  # momentum is in units of one step
            for value in values(self.step_size, self.steps):
                require_number("step_size", value, 0, above=True)
        for name in ("friction", "gradient_clip", "delta_clip"):
            if (value := getattr(self, name)) is not None:
                require_number(name, value, 0, above=True)

    def kernel(self) -> Kernel:
        """One Langevin step of every chain, with the clips and the momentum of these settings."""
        return LangevinKernel(
            adapt=self.adapt,
            underdamped=self.friction is not None,
            gradient_clip=self.gradient_clip,
            delta_clip=self.delta_clip,
        )

    def step_parameters(self) -> Tensor:
        """`(steps, 5)`, one column per field of `LangevinColumns` except the noise level."""
        step_sizes, temperatures = values(self.step_size, self.steps), values(self.temperature, self.steps)
        if self.noise is None:
            pairs = zip(step_sizes, temperatures, strict=True)
            noises = [math.sqrt(2 * step_size * temperature) for step_size, temperature in pairs]
        else:
            noises = values(self.noise, self.steps)
        time_steps = [math.sqrt(2 * step_size) for step_size in step_sizes]
        friction = self.friction
        return LangevinColumns(
            step_size=column(step_sizes),
            noise=column(noises),
            time_step=column(time_steps),
            momentum=column([0.0 if friction is None else math.exp(-friction * h) for h in time_steps]),
            rms_bias=column([1 - _RMS_DECAY ** (i + 1) for i in range(self.steps)]),
        ).stacked()


class LangevinColumns(NamedTuple):
    """Parameters of Langevin steps: `(steps,)` each for a chain, scalars or numbers for one step.

    Attributes:
        step_size: η.
        noise: σ.
        time_step: h of underdamped dynamics.
        momentum: fraction of the momentum that remains after a refresh, for underdamped dynamics.
        rms_bias: bias correction of the running mean square, which starts at 0.
        log_level: logarithm of the noise level after the step, for energies conditioned on it.

    """

    step_size: Any
    noise: Any
    time_step: Any
    momentum: Any
    rms_bias: Any
    log_level: Any = None

    def stacked(self) -> Tensor:
        """A matrix with one column per field that is not None, `(steps, 5 or 6)`."""
        return torch.stack([part for part in self if part is not None], dim=1)


def column(numbers: Sequence[float]) -> Tensor:
    """A parameter of each step in double precision, `(steps,)`."""
    return torch.tensor(numbers, dtype=torch.float64)


@dataclass(frozen=True)
class LangevinKernel:
    """One Langevin step; the fields are those of `Langevin`."""

    numbers: ClassVar[bool] = True
    adapt: str
    underdamped: bool
    gradient_clip: float | None = None
    delta_clip: float | None = None

    def init(self, target: Target, x: Tensor) -> State:
        """Energy and gradient at the start; momentum 0."""
        energy, gradient = target.value_and_gradient(x)
        # The noise can still move a chain away from a start with a non-finite gradient.
        gradient = torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
        state = {"x": x, "energy": energy, "gradient": gradient}
        if target.branching:
            state |= {"norm": norms(gradient), "refused": torch.zeros_like(energy, dtype=torch.bool)}
        if self.underdamped:
            state["momentum"] = torch.zeros_like(x)
        if self.adapt == "rms":
            state["square"] = torch.zeros_like(x)
        return state

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Standard normal noise of the shape of `x`."""
        return next(normal_noise(x, generator, 1))

    def draws(self, x: Tensor, generator: torch.Generator, steps: int) -> Iterator[tuple[Tensor, ...]]:
        """The noise of many steps, equal to that of as many calls of `draw`."""
        return normal_noise(x, generator, steps)

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Row, scale: Scale
    ) -> tuple[State, Info]:
        """One move of every chain; a move to a non-finite energy or gradient is refused."""
        step_size, sigma, h, kept, bias, *rest = entries(row)
        x, new, refused = state["x"], {}, state
        factor = scale
        if self.adapt == "rms":
            square = times(scale, state["gradient"]).square()
            new["square"] = _RMS_DECAY * state["square"] + (1 - _RMS_DECAY) * square
            factor = scale / ((new["square"] / bias).sqrt() + 1e-8)
        if self.underdamped:
            # O: partial refresh of the momentum, in units of one step; B, A, B: one leapfrog step.
            drift = self._drift(times(factor, state["gradient"]), step_size)
            kick = sigma * target.mask(noise[0])
            momentum = kept * state["momentum"] * h + root(1 - kept**2) * kick
            new["x"] = target.hold(x + times(scale, momentum - drift), x)
        else:
            moved = self._moved(target, state, noise[0], step_size, sigma, factor, scale)
            new["x"] = moved if target.movable is None and target.low is None else target.hold(moved, x)
        if rest:  # a noise level
            target = target.at(rest[0])
        new["energy"], new["gradient"] = target.value_and_gradient(new["x"])
        if self.underdamped:
            after = self._drift(times(factor, new["gradient"]), step_size)
            new["momentum"] = (momentum - drift - after) / h
            # Reversed as in Metropolis methods: the chain would run into the same wall again otherwise.
            refused = state | {"momentum": -momentum / h}
        return self._judged(target, state, new, refused)

    def _moved(
        self,
        target: Target,
        state: State,
        noise: Tensor,
        step_size: Any,
        sigma: Any,
        factor: Any,
        scale: Scale,
    ) -> Tensor:
        """`x` after drift and noise of overdamped dynamics, before bounds and the mask."""
        x, gradient = state["x"], state["gradient"]
        if target.branching and self.gradient_clip is None and self.delta_clip is None and factor is scale:
            if isinstance(scale, float):
                return torch.add(x, noise, alpha=sigma).add_(gradient, alpha=-step_size)
            move = torch.mul(noise, sigma).addcmul_(scale, gradient, value=-step_size)
            return torch.addcmul(x, scale, move)
        drift = self._drift(times(factor, gradient), step_size)
        return x + times(scale, sigma * target.mask(noise) - drift)

    @staticmethod
    def _judged(target: Target, state: State, new: State, refused: State) -> tuple[State, Info]:
        """The new states where they are finite, and the step's metrics."""
        if target.branching:
            norm = new["norm"] = norms(new["gradient"])
            new["refused"] = state["refused"]
            info = {"gradient_norm": state["norm"], "rejected": state["refused"], "energy": state["energy"]}
            if all_finite(new["energy"], norm):
                return new, info
            accept = finite(new)
            return choose(accept, new, refused), info | {"rejected": ~accept}
        accept = finite(new)
        info = {
            "gradient_norm": norms(state["gradient"]),
            "rejected": ~accept,
            "energy": state["energy"],
        }
        return choose(accept, new, refused), info

    def finish(self, target: Target, state: State) -> State:
        """The state unchanged: each step evaluates the energy of its end."""
        return state

    def _drift(self, gradient: Tensor, step_size: Any) -> Tensor:
        if self.gradient_clip is not None:
            gradient = gradient.clamp(-self.gradient_clip, self.gradient_clip)
        drift = step_size * gradient
        if self.delta_clip is not None:
            drift = drift.clamp(-self.delta_clip, self.delta_clip)
        return drift
