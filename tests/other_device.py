"""A stand-in for a GPU: tensors that count as being on another device than the CPU, which computes them all the same.

What a GPU refuses is refused here too: operations on tensors of both devices, and `numpy()` without `cpu()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

M = TypeVar("M", bound=nn.Module)
DEVICE = torch.device("meta")  # the device that any build of torch has
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_INDEXED = (
    torch.ops.aten.index_put_.default,
    torch.ops.aten.index.Tensor,
)  # a GPU takes indices from the CPU too


class Elsewhere(Tensor):
    """A tensor on the other device; `held` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Elsewhere:
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.held.tolist()


class OtherDevice(TorchDispatchMode):
    """Within the block tensors can be made on the other device and be moved to and from it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class OtherGenerator(torch.Generator):
    """A generator for the other device."""

    device = DEVICE


def computed(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """An operation, computed by the CPU on the values; its result is on the device on which it would be."""
    leaves = [leaf for leaf in tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)]
    away = {id(leaf.held): leaf for leaf in leaves if isinstance(leaf, Elsewhere)}
    needed = tree_leaves((args[0], args[2:], dict(kwargs))) if func in _INDEXED else leaves
    here = any(isinstance(leaf, Tensor) and not isinstance(leaf, Elsewhere) and leaf.ndim for leaf in needed)
    if away and here and func not in _COPIES:
        raise RuntimeError(f"{func}: tensors on two devices")
    apart, given = bool(away), dict(kwargs)
    if func is torch.ops.aten.copy_.default:
        apart = isinstance(args[0], Elsewhere)
    if given.get("device") is not None:
        apart = torch.device(given["device"]) == DEVICE
        given["device"] = torch.device("cpu")
    with no_dispatch():
        found = func(*tree_map(_values, args), **tree_map(_values, given))
        return tree_map(lambda value: _placed(value, away), found) if apart else found


def _values(value: Any) -> Any:
    return value.held if isinstance(value, Elsewhere) else value


def _placed(value: Any, away: Mapping[int, Elsewhere]) -> Any:
    """The tensor of an argument that was changed in place, or a new one on the other device."""
    if not isinstance(value, Tensor):
        return value
    return away[id(value)] if id(value) in away else Elsewhere(value)


def moved(module: M) -> M:
    """The module with its weights and buffers on the other device."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = nn.Parameter(Elsewhere(weight.detach().clone()))
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = Elsewhere(buffer.clone())
    return module
