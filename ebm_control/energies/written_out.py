"""When a gradient that is written out may be used, and when automatic differentiation has to take its place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ebm_control.energies.pullbacks import hooked_everywhere, kept, untouched
from ebm_control.tensors import settled

# Methods that say what an energy is. Whoever changes one of them changes the gradient too.
_DEFINING = {"forward", "split", "windows", "_rows", "_tilt", "_context", "_outputs", "_inputs"}
_MODELS = {"value_and_gradient", "curvature", "quadratic"}
Method = Callable[[Any, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def owns(cls: type, name: str) -> bool:
    """Whether the method `name` belongs to this very energy: no subclass of its class changed what the energy is."""
    for parent in cls.__mro__:
        if name in vars(parent):
            return True
        if _DEFINING & set(vars(parent)):
            return False
    return False


def owns_arrays(cls: type) -> bool:
    """Whether `on_arrays` belongs to this very energy; its second-order model may not be another one either."""
    for parent in cls.__mro__:
        if "on_arrays" in vars(parent):
            return True
        if (_DEFINING | _MODELS) & set(vars(parent)):
            return False
    return False


def unchanged(energy: nn.Module) -> bool:
    """Whether an energy and its second-order model are now those of its class: no hooks, no methods of its own."""
    return plainly_called(energy) and (_DEFINING | _MODELS).isdisjoint(energy.__dict__)


def plainly_called(module: nn.Module) -> bool:
    """Whether a call of a module is now its class's `forward` and nothing else: no hooks, no autocasting."""
    return untouched(module) and not hooked_everywhere() and not torch._C._is_any_autocast_enabled()


def guarded(written: Method, automatic: Method) -> Method:
    """`value_and_gradient` by `written` if a call of the energy is its class's `forward`, else by `automatic`.

    Within it no graph is recorded, whatever mode the caller is in. Gradients have the dtype of the samples. Within
    `pullbacks.unchanging` an energy is checked once.
    """

    @functools.wraps(written)
    def value_and_gradient(self: Any, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        energy, gradient = chosen(self, x, context)
        return energy, gradient if gradient.dtype == x.dtype else gradient.to(x.dtype)

    chosen = unrecorded(written, automatic)
    return value_and_gradient


def unrecorded(written: Callable[..., Any], automatic: Callable[..., Any]) -> Callable[..., Any]:
    """Any such method by `written` or `automatic`, as in `guarded`, without a graph and in any mode of the caller."""

    @functools.wraps(written)
    def method(self: Any, x: Tensor, context: Tensor | None = None) -> Any:
        if id(self) in kept.checked:
            return written(self, x, context)
        if torch.is_inference_mode_enabled() or x.is_inference():
            with torch.inference_mode(False):
                return method(self, settled(x), None if context is None else settled(context))
        if not plainly_called(self):
            return automatic(self, x, context)
        if torch.is_grad_enabled():
            with torch.no_grad():
                return written(self, x, context)
        if kept.passes is not None:
            kept.checked[id(self)] = self
        return written(self, x, context)

    return method
