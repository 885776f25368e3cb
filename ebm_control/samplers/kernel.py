"""The parts of a sampler: a kernel (one step as pure functions of tensors) and the target that it samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from ebm_control.checks import require
from ebm_control.energies.banded import Solver, solver_of
from ebm_control.energies.base import Energy
from ebm_control.energies.curvature import Quadratic, require_quadratic

State = dict[str, Tensor]  # "x" (B, *shape), "energy" (B,) and whatever else the kernel carries
Parts = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]  # of a target
Row = Tensor | tuple[float, ...]  # a kernel's parameters for one step
Scale = Tensor | float  # the preconditioner: broadcasts to x, or 1.0 where the eager engine leaves it out
Info = dict[str, Tensor]  # one value per chain (B,); the loop averages floats over chains and sums the rest


@dataclass(frozen=True)
class Target:
    """The target of a kernel: energies and gradients under the mask of fixed coordinates."""

    energy: Energy
    context: Tensor | None
    movable: Tensor | None = None  # boolean, broadcastable to x; True coordinates move; None: all do
    low: Tensor | None = None  # bounds on coordinates that are not fixed, broadcastable to x; both or neither
    high: Tensor | None = None
    origin: Tensor | None = None  # of chains that start at noised samples: their start without the noise
    # Whether gradients keep their graph, to the energy's parameters and to the start of a chain.
    differentiable: bool = False
    # Whether a kernel may branch on values: in the eager engine on the CPU, where reading one is cheap. Compiled steps
    # and captured graphs have to take both ways at once.
    branching: bool = False
    # `Energy.restricted` of this target, where it is known.
    restricted: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    backend: ClassVar[ModuleType] = torch  # of the samples; NumPy in `ArrayTarget`

    @property
    def tensors(self) -> Parts:
        """All tensors except those of the energy."""
        return self.context, self.movable, self.low, self.high, self.origin

    def value(self, x: Tensor) -> Tensor:
        """Energies `(B,)`; `x` may hold r consecutive samples for each entry of the context."""
        context = self.context
        if context is not None and context.shape[0] != x.shape[0]:
            context = context.repeat_interleave(x.shape[0] // context.shape[0], dim=0)
        return self.energy(x, context)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies `(B,)` and gradients in the shape of `x`, 0 at fixed coordinates."""
        if self.branching:
            if self.restricted is not None:
                energy, gradient = self.restricted(x)
            else:
                energy, gradient = self.energy.value_and_gradient(x, self.context)
            return energy, gradient if self.movable is None else self.mask(gradient)
        if torch.compiler.is_compiling():  # the compiler traces functional gradients

            def total(x: Tensor) -> tuple[Tensor, Tensor]:
                energy = self.energy(x, self.context)
                return energy.sum(), energy

            gradient, (_, energy) = torch.func.grad_and_value(total, has_aux=True)(x)
            return energy.detach(), self.mask(gradient.detach())
        if not self.differentiable:
            energy, gradient = self.energy.value_and_gradient(x, self.context)
            return energy, self.mask(gradient)
        with torch.enable_grad():
            if not x.requires_grad:
                x = x.detach().requires_grad_()
            energy = self.energy(x, self.context)
            (gradient,) = torch.autograd.grad(energy, x, torch.ones_like(energy), create_graph=True)
        return energy, self.mask(gradient)

    def quadratic(self, x: Tensor) -> Quadratic:
        """Energy, gradient (0 at fixed coordinates) and curvature of each sample; not differentiable.

        Raises:
            InputError: a differentiable step was asked for, or the energy returned something of another type or shape.

        """
        require(
            not self.differentiable,
            "sampler",
            given="a second-order one",
            expected="a first-order one for a differentiable step",
        )
        model = require_quadratic(self.energy.quadratic(x, self.context), x)
        return replace(model, gradient=self.mask(model.gradient))

    def solver(self, model: Quadratic) -> Solver:
        """Solver for the curvature of a model."""
        return solver_of(model.bands)

    def unblocked(self, x: Tensor, gradient: Tensor) -> Tensor | None:
        """Coordinates that a step along `-gradient` may move: neither fixed nor pushed out of a bound; None for all."""
        if self.low is None or self.high is None:
            return self.movable
        inside = ~(((x <= self.low) & (gradient > 0)) | ((x >= self.high) & (gradient < 0)))
        return inside if self.movable is None else inside & self.movable

    def at(self, level: Tensor | float) -> Target:
        """The same target with the last coordinate of every context set to `level`, a scalar."""
        context = self.context
        assert context is not None
        rows = context.shape[0]
        same = level.to(context) if isinstance(level, Tensor) else context.new_full((), level)
        levels = same.expand(rows, 1)
        changed = torch.cat([context[:, :-1], levels], dim=1)
        return replace(self, context=changed, restricted=None)

    @property
    def loose(self) -> Tensor | None:
        """Coordinates that can take more than one value: neither fixed nor between equal bounds; None for all."""
        if self.low is None or self.high is None:
            return self.movable
        return self.low < self.high if self.movable is None else self.movable & (self.low < self.high)

    def mask(self, move: Tensor) -> Tensor:
        """`move` with 0 at fixed coordinates."""
        if self.branching and self.movable is not None:
            return torch.where(self.movable, move, 0.0)
        return masked(move, self.movable)

    def clamped(self, x: Tensor) -> Tensor:
        """`x` within the bounds."""
        if self.low is None or self.high is None:
            return x
        return torch.minimum(torch.maximum(x, self.low), self.high)

    def hold(self, proposal: Tensor, x: Tensor) -> Tensor:
        """`proposal` within the bounds; the fixed coordinates are those of `x`, bit for bit."""
        return self.pin(self.clamped(proposal), x)

    def pin(self, proposal: Tensor, x: Tensor) -> Tensor:
        """`proposal` with the fixed coordinates of `x`, bit for bit; bounds are not applied."""
        return proposal if self.movable is None else torch.where(self.movable, proposal, x)


class Kernel(Protocol):
    """One step of a sampler as pure functions of tensors, so that any engine can run it.

    A kernel is hashable and holds no tensors: parameters that vary over steps are passed as `row`. A kernel with
    `numbers = True` takes rows of numbers and the scale 1.0 too, which the eager engine on the CPU then passes. One
    with a method `draws(x, generator, steps)` iterates over the noise of many steps. One with
    `capturable = False` reads values back from the device, so that it cannot become a CUDA graph. One with
    `arrays = True` takes an `ArrayTarget` too, with NumPy arrays in place of tensors.
    """

    def __hash__(self) -> int:
        """Hash of the settings: kernels with equal settings are the same kernel and compiled once."""
        ...

    def init(self, target: Target, x: Tensor) -> State:
        """State of chains that start at `x`: their energies and whatever else the kernel carries."""
        ...

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """All the noise of one step."""
        ...

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        """One step with parameters `row`; `scale` is the preconditioner and broadcasts to `x`."""
        ...

    def finish(self, target: Target, state: State) -> State:
        """State after the last step; its `energy` is the energy of its `x`."""
        ...


def entries(row: Row) -> tuple[Any, ...]:
    """The parameters in a row, each a scalar tensor or a number."""
    return row if isinstance(row, tuple) else row.unbind(0)


def times(scale: Scale, value: Tensor) -> Tensor:
    """`scale * value`; `value` itself for the number 1."""
    return value if isinstance(scale, float) and scale == 1.0 else scale * value


def root(value: Tensor | float) -> Any:
    """Square root of a scalar tensor or of a number."""
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


_BLOCK = 2**16  # numbers drawn at once


def normal_noise(x: Tensor, generator: torch.Generator, steps: int | None) -> Iterator[tuple[Tensor, ...]]:
    """Standard normal noise of the shape of `x` for each of many steps, or endlessly.

    Drawn in blocks of several steps where that gives the numbers that each step by itself would draw: on the CPU, torch
    makes them 16 at a time.
    """
    size, left = x.numel(), steps
    whole = x.is_cpu and size > 0 and size % 16 == 0 and x.dtype in (torch.float32, torch.float64)
    while left is None or left > 0:
        count = min(left, max(1, _BLOCK // size)) if whole and left is not None else 1
        block = torch.randn((count, *x.shape), generator=generator, device=x.device, dtype=x.dtype)
        for noise in block.unbind(0):
            yield (noise,)
        left = None if left is None else left - count


def all_finite(energy: Tensor, norm: Tensor) -> bool:
    """Whether energies and gradients are finite, given the gradients' norms; may be False if they are only huge."""
    if energy.dtype != norm.dtype:
        energy = energy.to(norm.dtype)
    return math.isfinite(torch.dot(energy, norm).item())


def finite(state: State) -> Tensor:
    """`(B,)` True where a chain's energy and gradient are finite."""
    # A sum is finite if its terms are; this launches a third of the GPU kernels of `isfinite` and `all`.
    return (state["gradient"].flatten(1).sum(dim=1) + state["energy"]).abs() < torch.inf


def masked(move: Tensor, movable: Tensor | None) -> Tensor:
    """`move` where `movable` is True, else 0; None for everywhere."""
    return move if movable is None else torch.where(movable, move, torch.zeros_like(move))


def choose(accept: Tensor, new: State, old: State) -> State:
    """Per chain the new state if `accept` `(B,)` is True, else the old one."""
    return {name: torch.where(per_chain(accept, value), value, old[name]) for name, value in new.items()}


def per_chain(flag: Tensor, like: Tensor) -> Tensor:
    """Values `(B,)` in a shape that broadcasts to `like` `(B, *shape)`."""
    return flag.reshape(-1, *[1] * (like.ndim - 1))


def norms(gradient: Tensor) -> Tensor:
    """Euclidean norm of each chain's gradient, `(B,)`."""
    return torch.linalg.vector_norm(gradient if gradient.ndim == 2 else gradient.flatten(1), dim=1)
