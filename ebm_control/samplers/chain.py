"""The sampler interface, its result, and the function that runs every chain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import (
    Shown,
    is_sequence,
    require,
    require_finite,
    require_mask,
    require_number,
    require_tensor,
)
from ebm_control.energies.base import Energy
from ebm_control.samplers.engines import Engine, execute, loop
from ebm_control.samplers.kernel import Kernel, Target
from ebm_control.tensors import (
    as_tensor,
    generator_on,
    modules_of,
    outside_inference_mode,
    parameters_of,
    settled,
)

Bound = float | tuple[float, ...] | Tensor


@dataclass(frozen=True)
class Chain:
    """The result of a sampler, detached.

    Attributes:
        x: `(B, *shape)` last state.
        energy: `(B,)` energy of `x`.
        trace: `(n, B, *shape)` every `trace`-th state, or None.
        info: metrics per step, `(steps,)` each, on the device.

    """

    x: Tensor
    energy: Tensor
    trace: Tensor | None
    info: dict[str, Tensor]


class Sampler(Protocol):
    """Samples a batch from an energy; independent of trajectories or images."""

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
        """Run one chain for every sample of the batch.

        Args:
            energy: energy to sample from, as `exp(-energy / temperature)`.
            x: `(B, *shape)` start of the chains.
            fixed: boolean, broadcast to `x`: True coordinates stay bit-identical.
            context: `(B, ...)` context of every evaluation of the energy.
            generator: source of all noise, on the device of `x`; None draws a fresh seed from the system.
                The global generator is never used.
            trace: store every `trace`-th state; 0 stores none.

        Raises:
            InputError: a shape, dtype or device does not fit, or `x` is not finite.

        """
        ...


@outside_inference_mode
def run_chain(
    kernel: Kernel,
    energy: Energy,
    x: Tensor,
    parameters: Tensor,
    *,
    scale: Tensor | tuple[float, ...] | None = None,
    clamp: tuple[Bound, Bound] | None = None,
    fixed: Tensor | None = None,
    context: Tensor | None = None,
    origin: Tensor | None = None,
    generator: torch.Generator | None = None,
    trace: int = 0,
    engine: Engine = "auto",
) -> Chain:
    """Apply `kernel` once for each row of `parameters`; see `Sampler` for the other arguments.

    Args:
        kernel: one step of the sampler.
        energy: energy to sample from.
        x: `(B, *shape)` start of the chains.
        parameters: `(steps, k)` the kernel's parameters for each step.
        scale: preconditioner, broadcast to `x`; None for 1.
        clamp: low and high bound on coordinates that are not fixed, numbers or broadcast to `x`; None for none.
            Where they are equal the coordinate stays at that value.
        fixed: boolean mask of fixed coordinates, see `Sampler`.
        context: context of the energy, see `Sampler`.
        origin: `(B, *shape)` start of the chains before noise was added to it, for kernels that use it.
        generator: source of all noise, see `Sampler`.
        trace: interval of stored states, see `Sampler`.
        engine: how the steps are executed; see `ebm_control.samplers.engines`.

    """
    require_tensor("x", x)
    generator = generator_on(x.device, generator)
    require_start(x, fixed, context, trace)
    with evaluation_mode(energy), torch.no_grad():
        parameters = parameters.to(device=x.device, dtype=x.dtype)
        factor = preconditioner(scale, x)
        target = _target(energy, x, context, fixed, clamp, origin=origin)
        state, kept, info = execute(
            engine, kernel, target, x.detach().clone(), parameters, factor, generator, trace
        )
    return Chain(state["x"], state["energy"], kept, info)


def preconditioner(scale: Tensor | tuple[float, ...] | None, x: Tensor) -> Tensor | None:
    """The preconditioner, broadcast against `x`; None for None."""
    if scale is None:
        return None
    factor = broadcast("scale", scale, x)
    few = factor.ndim == 1 and factor.is_cpu  # of which Python takes less time than a plan's wait for torch
    sound = (
        all(0 < value < torch.inf for value in factor.tolist())
        if few
        else bool(((factor > 0) & (factor < torch.inf)).all())
    )
    require(sound, "scale", given=Shown(scale), expected="positive numbers")
    return factor


def _target(
    energy: Energy,
    x: Tensor,
    context: Tensor | None,
    fixed: Tensor | None,
    clamp: tuple[Bound, Bound] | None,
    *,
    origin: Tensor | None = None,
    differentiable: bool = False,
) -> Target:
    movable = None if fixed is None else ~fixed.to(x.device)
    low = high = None
    if clamp is not None:
        pair = is_sequence(clamp) and len(clamp) == 2
        require(pair, "clamp", given=Shown(clamp), expected="a pair (low, high)")
        low, high = (broadcast("clamp", bound, x) for bound in clamp)
        require(_ordered(low, high), "clamp", given=Shown(clamp), expected="(low, high) with low <= high")
    return Target(energy, context, movable, low, high, origin, differentiable)


def _ordered(low: Tensor, high: Tensor) -> bool:
    """Whether no low bound is above the high one, and neither excludes all numbers.

    Equal bounds fix a coordinate, for example an action whose range has width 0.
    """
    if low.ndim == 1 and low.shape == high.shape:  # short plans wait for each operation of torch
        pairs = zip(low.tolist(), high.tolist(), strict=True)
        return all(least <= most and least < torch.inf and most > -torch.inf for least, most in pairs)
    return bool(((low <= high) & (low < torch.inf) & (high > -torch.inf)).all())


class KernelSampler(ABC):
    """Base class of this package's samplers: settings that define a kernel and its parameters per step."""

    scale: Tensor | tuple[float, ...] | None
    clamp: tuple[Bound, Bound] | None = None
    engine: Engine

    @abstractmethod
    def kernel(self) -> Kernel:
        """One step of every chain under these settings, as pure functions of tensors."""

    @abstractmethod
    def step_parameters(self) -> Tensor:
        """`(steps, k)` the kernel's parameters for each step."""

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
        """Run one chain for every sample of the batch; see `Sampler`."""
        return run_chain(
            self.kernel(),
            energy,
            x,
            self.step_parameters(),
            scale=self.scale,
            clamp=self.clamp,
            fixed=fixed,
            context=context,
            generator=generator,
            trace=trace,
            engine=self.engine,
        )

    @outside_inference_mode
    def differentiable_step(
        self,
        energy: Energy,
        x: Tensor,
        *,
        fixed: Tensor | None = None,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        steps: int = 1,
    ) -> Tensor:
        """`x` after the last steps of a chain, differentiable with respect to the energy's parameters and to `x`.

        For objectives that depend on how samples move when the energy changes, and for anything that differentiates
        through a chain. The steps start without a chain's momentum or running squares.

        Args:
            energy: energy, in training or evaluation mode.
            x: `(B, *shape)` states of the chains; gradients reach it if it requires them.
            fixed: boolean mask of fixed coordinates, see `Sampler`.
            context: context of the energy, see `Sampler`.
            generator: source of all noise, see `Sampler`.
            steps: number of steps; they use the sampler's parameters of the last `steps` steps.

        Raises:
            InputError: an input is not valid for a chain, or the sampler has fewer steps.

        """
        require_tensor("x", x)
        generator = generator_on(x.device, generator)
        require_start(x, fixed, context, 0)
        parameters = self.step_parameters().to(device=x.device, dtype=x.dtype)
        require_number("steps", steps, 1, len(parameters), whole=True)
        kernel = self.kernel()
        with evaluation_mode(energy, frozen=False), torch.enable_grad():
            target = _target(energy, x, context, fixed, self.clamp, differentiable=True)
            noise = (kernel.draw(x, generator) for _ in range(steps))
            factor = preconditioner(self.scale, x)
            factor = x.new_ones(()) if factor is None else factor
            state, _, _ = loop(kernel, target, x, parameters[-steps:].unbind(0), factor, noise, 0)
        return state["x"]


@contextmanager
def evaluation_mode(energy: Energy, *, frozen: bool = True) -> Iterator[None]:
    """No dropout, no power iterations of spectral normalisation and, if `frozen`, no gradient graph for parameters.

    The modes of all modules and the flags of all parameters are restored at the end.

    Raises:
        InputError: parameters were created in inference mode, which blocks gradients.

    """
    modules = list(modules_of(energy))
    parameters = parameters_of(modules)
    for parameter in parameters:
        if parameter.is_inference():
            made = "parameters made within torch.inference_mode"
            require(False, "energy", given=made, expected="an energy made or loaded outside of it")
    training = [module for module in modules if module.training]
    learned = [p for p in parameters if frozen and p.requires_grad]
    for module in training:
        object.__setattr__(
            module, "training", False
        )  # torch's own takes as long as a step of a small network
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            object.__setattr__(module, "training", True)
        for parameter in learned:
            parameter.requires_grad_(True)


def require_start(x: Tensor, fixed: Tensor | None, context: Tensor | None, trace: int) -> None:
    """Raise `InputError` unless a chain can start from these arguments; see `Sampler`."""
    require_tensor("x", x)
    if x.ndim < 2 or not x.is_floating_point():
        given = f"shape {tuple(x.shape)}, {x.dtype}"
        require(False, "x", given=given, expected="a batch of floats (B, *shape)")
    if fixed is not None:
        require_mask("fixed", fixed)
        _check_broadcast("fixed", fixed, x)
    if context is not None:
        require_tensor("context", context)
        require(
            context.ndim >= 1 and context.shape[0] == x.shape[0],
            "context",
            given=f"shape {tuple(context.shape)}",
            expected=f"{x.shape[0]} rows, one for each chain",
        )
        require(context.device == x.device, "context", given=context.device, expected=f"on {x.device}")
    require_number("trace", trace, 0, whole=True)
    require_finite("x", x)


def broadcast(argument: str, value: Tensor | ArrayLike, x: Tensor) -> Tensor:
    """`value` as a tensor of the dtype and device of `x` that broadcasts to it; gradients pass through.

    Raises:
        InputError: not real numbers, or a shape that does not broadcast.

    """
    if not isinstance(value, Tensor):
        value = as_tensor(argument, value, x.dtype, x.device)
    if value.is_complex():
        require(False, argument, given=f"a tensor of {value.dtype}", expected="real numbers")
    _check_broadcast(argument, value, x)
    if value.dtype != x.dtype or value.device != x.device:
        value = value.to(device=x.device, dtype=x.dtype)
    return settled(value)


def _check_broadcast(argument: str, value: Tensor, x: Tensor) -> None:
    own, wanted = value.shape, x.shape
    fits = len(own) <= len(wanted) and all(a in (1, b) for a, b in zip(own[::-1], wanted[::-1], strict=False))
    if not fits:
        given = f"shape {tuple(own)}"
        require(False, argument, given=given, expected=f"a shape that broadcasts to {tuple(wanted)}")
