"""What a sampler is made of: a kernel, one step as pure functions of tensors, and the target it moves under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ebm_control.energies.base import Energy

State = dict[str, Tensor]  # always holds "x" (B, *shape) and "energy" (B,), with what else the kernel carries
Info = dict[str, Tensor]  # one figure a chain (B,); the loop averages floats over chains and counts the rest


@dataclass(frozen=True)
class Target:
    """What a kernel may ask: energies and gradients under the mask, with nothing else to know."""

    energy: Energy
    context: Tensor | None
    free: Tensor | None = None  # boolean, broadcastable to x; None: all coordinates are free
    low: Tensor | None = None  # bounds on free coordinates, broadcastable to x; both or neither
    high: Tensor | None = None
    # Gradients keep their graph, to the energy's parameters and to where a chain began.
    differentiable: bool = False

    @property
    def tensors(self) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """Every tensor but those of the energy."""
        return self.context, self.free, self.low, self.high

    def value(self, x: Tensor) -> Tensor:
        """Energies `(B,)`; `x` may hold r samples for each row of the context, row by row."""
        context = self.context
        if context is not None and context.shape[0] != x.shape[0]:
            context = context.repeat_interleave(x.shape[0] // context.shape[0], dim=0)
        return self.energy(x, context)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies `(B,)` and gradients of `x`'s shape, 0 at fixed coordinates."""
        if torch.compiler.is_compiling():  # the compiler traces functional gradients, eager is faster without

            def total(x: Tensor) -> tuple[Tensor, Tensor]:
                energy = self.energy(x, self.context)
                return energy.sum(), energy

            gradient, (_, energy) = torch.func.grad_and_value(total, has_aux=True)(x)
        else:
            with torch.enable_grad():
                if not (self.differentiable and x.requires_grad):
                    x = x.detach().requires_grad_()
                energy = self.energy(x, self.context)
                (gradient,) = torch.autograd.grad(
                    energy, x, torch.ones_like(energy), create_graph=self.differentiable
                )
        if self.differentiable:
            return energy, self.mask(gradient)
        return energy.detach(), self.mask(gradient.detach())

    def at(self, level: Tensor) -> Target:
        """The same target with the last coordinate of every context set to `level`, a scalar."""
        context = self.context
        assert context is not None
        levels = level.to(context).expand(context.shape[0], 1)
        changed = torch.cat([context[:, :-1], levels], dim=1)
        return Target(self.energy, changed, self.free, self.low, self.high, self.differentiable)

    def mask(self, move: Tensor) -> Tensor:
        """`move` with 0 at fixed coordinates."""
        return move if self.free is None else torch.where(self.free, move, torch.zeros_like(move))

    def hold(self, proposal: Tensor, x: Tensor) -> Tensor:
        """`proposal` within the bounds, with the fixed coordinates of `x` bit for bit."""
        if self.low is not None and self.high is not None:
            proposal = torch.minimum(torch.maximum(proposal, self.low), self.high)
        return proposal if self.free is None else torch.where(self.free, proposal, x)


class Kernel(Protocol):
    """One step of a sampler, as pure functions of tensors, so that any engine can run it.

    A kernel is hashable and holds no tensors: figures that vary over steps come in `row`.
    """

    def __hash__(self) -> int:
        """Kernels of equal settings are one kernel, compiled once."""
        ...

    def init(self, target: Target, x: Tensor) -> State:
        """State of chains that start at `x`, with their energies and what else the kernel carries."""
        ...

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """All the noise of one step."""
        ...

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        """One step: `row` holds this step's figures, `scale` the preconditioner, broadcastable to `x`."""
        ...

    def finish(self, target: Target, state: State) -> State:
        """State after the last step, with `energy` that of `x`."""
        ...


def finite(state: State) -> Tensor:
    """`(B,)` True where a chain's energy and gradient are finite."""
    # A sum is finite where its terms are: a third of the kernels of `isfinite` and `all`, in the hot loop.
    return (state["gradient"].flatten(1).sum(dim=1) + state["energy"]).abs() < torch.inf


def choose(accept: Tensor, new: State, old: State) -> State:
    """Chain by chain the new state where `accept` `(B,)` is True, else the old one."""
    return {name: torch.where(_expand(accept, value), value, old[name]) for name, value in new.items()}


def _expand(flag: Tensor, like: Tensor) -> Tensor:
    return flag.reshape(-1, *[1] * (like.ndim - 1))


def norms(gradient: Tensor) -> Tensor:
    """Euclidean norm of each chain's gradient, `(B,)`."""
    return torch.linalg.vector_norm(gradient.flatten(1), dim=1)
