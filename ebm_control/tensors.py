"""Numbers from users in any layout, byte order or precision, and torch with any user settings or modes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ebm_control.checks import InputError, require

P = ParamSpec("P")
R = TypeVar("R")


def as_array(argument: str, value: Any) -> NDArray[np.float64]:
    """`value` as a float64 array of the same shape, in native byte order.

    Args:
        argument: name of the argument for the message.
        value: an array of any float, integer or boolean type (also a read-only view or another byte order), a tensor on
            any device, a number, or lists of them.

    Raises:
        InputError: it contains anything but real numbers.

    """
    if isinstance(value, Tensor):
        given = value.detach().cpu()
        # NumPy has neither bfloat16 nor torch's lazy complex conjugates.
        value = given.double().numpy() if given.is_floating_point() else given.resolve_conj().numpy()
    try:
        array = np.asarray(value)
        # Of object arrays accept only numbers: NumPy would convert None to NaN and text to numbers.
        if array.dtype.kind == "O" and all(isinstance(item, Real | np.bool_) for item in array.flat):
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        words = " ".join(str(error).split())
        raise InputError(f"{argument}: expected an array of numbers, got {words}") from error
    if array.dtype.kind not in "fiub":  # the words for a dtype take NumPy longer than the rest
        require(False, argument, given=f"an array of {array.dtype}", expected="an array of real numbers")
    return np.asarray(array, dtype=np.float64)


def as_tensor(argument: str, value: Any, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """`value`, in any form that `as_array` accepts, as a detached tensor of a float type on a device.

    Raises:
        InputError: it contains anything but real numbers.

    """
    if type(value) is Tensor and value.dtype == dtype and value.is_cpu and str(device) == "cpu":
        return value.detach() if value.requires_grad else settled(value)
    if not isinstance(value, Tensor):
        # A copy, because torch refuses negative strides and warns of read-only arrays.
        value = torch.from_numpy(np.array(as_array(argument, value), order="C"))
    if value.is_complex():
        require(False, argument, given=f"a tensor of {value.dtype}", expected="real numbers")
    return settled(value.detach().to(device=device, dtype=dtype))


def settled(value: Tensor) -> Tensor:
    """The tensor itself, or a copy if it was created in inference mode, which blocks gradients."""
    return value.clone() if value.is_inference() else value


def numpy_reads(*tensors: Tensor) -> bool:
    """Whether NumPy can work on the memory of float tensors: on the CPU, and of a type that it has."""
    return all(tensor.is_cpu and tensor.dtype in (torch.float32, torch.float64) for tensor in tensors)


def modules_of(module: nn.Module) -> Iterator[nn.Module]:
    """All modules, each once and in the order of `nn.Module.modules`, in a fraction of its time: plans wait for it."""
    found: set[int] = set()
    waiting: list[nn.Module | None] = [module]
    while waiting:
        part = waiting.pop()
        if part is not None and id(part) not in found:
            found.add(id(part))
            yield part
            if part._modules:
                waiting += reversed(part._modules.values())


def parameters_of(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The parameters of modules, each once."""
    found = {id(p): p for module in modules for p in module._parameters.values() if p is not None}
    return list(found.values())


def float_like(module: nn.Module, otherwise: Tensor | None = None) -> Tensor:
    """A tensor with the dtype and device that a module computes in: its first float parameter or buffer.

    Args:
        module: a module, for example an energy.
        otherwise: for a module without either: a tensor whose dtype (if a float) and device are used. None for float32
            on the CPU.

    """
    for name in ("_parameters", "_buffers"):
        for part in modules_of(module):
            for tensor in part.__dict__[name].values():
                if tensor is not None and tensor.is_floating_point():
                    return tensor
    if otherwise is not None and otherwise.is_floating_point():
        return otherwise
    device = "cpu" if otherwise is None else otherwise.device
    return torch.empty(0, dtype=torch.float32, device=device)


def cast_like(held: Tensor, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Samples and context in the dtype of a tensor that the energy holds; gradients pass through."""
    condition = context if context is None or context.dtype == held.dtype else context.to(held.dtype)
    return (x if x.dtype == held.dtype else x.to(held.dtype)), condition


def generator_on(device: torch.device, given: torch.Generator | None) -> torch.Generator:
    """The given generator; for None a new one, seeded from the system.

    Raises:
        InputError: the generator is on another kind of device.

    """
    if given is None:
        generator = torch.Generator(device)
        generator.seed()
        return generator
    sound = isinstance(given, torch.Generator)
    require(sound, "generator", given=type(given).__name__, expected="a torch.Generator, or None")
    if given.device.type != device.type:
        require(False, "generator", given=f"on {given.device}", expected=f"on {device}")
    return given


def outside_inference_mode(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function run as if its caller had not entered `torch.inference_mode`.

    In that mode no gradient can be computed, and tensors created there can never take part in one later. Such tensors
    among the arguments are copied. Whether gradients are recorded stays as the caller set it.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.is_inference_mode_enabled():
            recording = torch.is_grad_enabled()
            with torch.inference_mode(False), torch.set_grad_enabled(recording):
                return run(*args, **kwargs)
        given = [settled(a) if isinstance(a, Tensor) else a for a in args]
        named = {k: settled(a) if isinstance(a, Tensor) else a for k, a in kwargs.items()}
        return function(*given, **named)  # type: ignore[arg-type]

    return run


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Within the block new tensors are float32 by default and can take part in gradients, as in torch's initial state.

    This holds whatever `torch.set_default_dtype` was set to, and in `torch.inference_mode` too. Networks, energies and
    their buffers are created in it (it decorates their constructors). A model thus has one precision, equal seeds give
    equal weights, and an energy created in inference mode can be sampled and trained.
    """
    before, recording = torch.get_default_dtype(), torch.is_grad_enabled()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(recording):
            yield
    finally:
        torch.set_default_dtype(before)
