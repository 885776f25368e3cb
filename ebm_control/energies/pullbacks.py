"""Vector-Jacobian products of networks: written out for linear layers with SiLU between them, else by autograd.

The written-out pass needs no graph. On the CPU it writes hidden layers to buffers that are kept from call to call, one
set per thread and shape: fresh tensors of some size cost page faults. Nothing that is returned shares their memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ebm_control.tensors import settled

Pullback = Callable[[Tensor], Tensor]
Buffers = list[list[Tensor]]
Layer = tuple[Tensor, Tensor]  # weight (outputs, inputs) and bias (outputs,)
_KEPT_SHAPES, _KEPT_BYTES = 16, 2**26  # buffers that a thread keeps
addmm, addmv, mm = torch.addmm, torch.addmv, torch.mm
_silu: Callable[..., Tensor] = torch._C._nn.silu  # functional.silu cannot write to a given tensor
_silu_backward = torch.ops.aten.silu_backward.grad_input
_silu_backward = getattr(
    _silu_backward, "_op", _silu_backward
)  # without its Python layer, which takes longer


def untouched(module: nn.Module) -> bool:
    """Whether a call of a module is one of its class's `forward`: no hooks, no `forward` of its own."""
    own = module.__dict__
    return not (
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
    )


def hooked_everywhere() -> bool:
    """Whether hooks for all modules are set."""
    return bool(
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )


def pullback_by_autograd(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Pullback]:
    """`networks.with_pullback` of any differentiable function."""
    with torch.inference_mode(False), torch.enable_grad():
        given = settled(x).detach().requires_grad_()
        outputs = function(given)

    def zeros(cotangent: Tensor) -> Tensor:
        return given.new_zeros(*cotangent.shape[: cotangent.ndim - outputs.ndim], *given.shape)

    def pullback(cotangent: Tensor) -> Tensor:
        if not outputs.requires_grad:  # a constant
            return zeros(cotangent)
        several = cotangent.ndim > outputs.ndim
        (gradient,) = torch.autograd.grad(
            outputs,
            given,
            cotangent.to(outputs.dtype),
            retain_graph=True,
            is_grads_batched=several,
            allow_unused=True,
        )
        # Zeros that torch makes instead would lack the cotangents' axis.
        return zeros(cotangent) if gradient is None else gradient

    return outputs.detach(), pullback


def plain_layers(network: nn.Sequential) -> list[Layer] | None:
    """The linear layers of a network that has SiLU between them and nothing else; None for any other network."""
    if type(network).forward is not nn.Sequential.forward or not untouched(network):
        return None
    found: list[Layer] = []
    count = 0
    for count, layer in enumerate(network._modules.values(), 1):
        if layer is None or not untouched(layer):
            return None
        if count % 2 == 0:
            if type(layer).forward is not nn.SiLU.forward:
                return None
            continue
        if type(layer).forward is not nn.Linear.forward:
            return None
        bias = layer._parameters.get("bias")
        weight: Tensor | None = layer._parameters.get("weight")
        if weight is None:  # a normalised weight is computed
            weight = layer.weight  # type: ignore[assignment]
        if weight is None or bias is None:
            return None
        found.append((weight, bias))
    return found if count % 2 else None


def layers_outputs(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Outputs `(..., outputs)` of linear layers with SiLU between them."""
    h = x.flatten(0, -2)
    for i, (weight, bias) in enumerate(layers):
        h = torch.addmm(bias, h if i == 0 else _silu(h), weight.t())
    return h.reshape(*x.shape[:-1], h.shape[-1])


def layers_with_pullback(layers: Sequence[Layer], x: Tensor) -> tuple[Tensor, Pullback]:
    """`networks.with_pullback` of linear layers with SiLU between them."""
    shape = x.shape[:-1]
    h = x.flatten(0, -2)
    before: list[Tensor] = []  # each SiLU's input
    for i, (weight, bias) in enumerate(layers):
        if i:
            before.append(h)
            h = _silu(h)
        h = torch.addmm(bias, h, weight.t())

    def pullback(cotangent: Tensor) -> Tensor:
        with torch.no_grad():
            lead = cotangent.shape[: cotangent.ndim - len(shape) - 1]
            g = cotangent.flatten(0, -2)
            for i in range(len(layers) - 1, -1, -1):
                g = g @ layers[i][0]
                if i:
                    z = before[i - 1]
                    z = z.expand(*lead, *z.shape).reshape(g.shape) if lead else z
                    g = torch.ops.aten.silu_backward(g, z)
            return g.reshape(*lead, *shape, g.shape[-1])

    return h.reshape(*shape, h.shape[-1]), pullback


class Pass:
    """Forward and backward pass of linear layers with SiLU between them, as `networks.outputs_and_gradient` needs it.

    On the CPU hidden layers are kept from call to call; see the module. Not to be used by two threads at once.
    """

    def __init__(self, layers: Sequence[Layer], x: Tensor) -> None:
        *hidden, (weight, self.bias) = layers
        self.weight, self.transposed = weight.detach(), weight.detach().t()
        before, *shared = _buffers(layers, x)
        self.forward = [
            (weight.detach().t(), bias, z, shared[0][i])
            for i, ((weight, bias), z) in enumerate(zip(hidden, before, strict=True))
        ]
        places = [shared[i % 2][-1 - i] for i in range(len(hidden))]
        self.backward = [
            (weight.detach(), z, place, following)
            for (weight, _), z, place, following in zip(
                hidden[::-1], before[::-1], places, [*places[1:], None], strict=False
            )
        ]
        self.single = weight.shape[0] == 1 and x.shape[0] > 0
        self.row = self.weight[0] if weight.shape[0] == 1 else self.weight.sum(dim=0)
        # A cotangent of ones needs no product: each row is the last layer's weight.
        self.ones = self.row.expand(x.shape[0], -1).contiguous()

    def __call__(self, x: Tensor, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs `(N, outputs)` of `x` `(N, inputs)`, and the gradient of their sum weighted by the cotangent.

        With a single output and no cotangent the outputs are `(N,)`.
        """
        h = x
        for transposed, bias, z, held in self.forward:
            addmm(bias, h, transposed, out=z)
            h = _silu(z, out=held)
        if cotangent is None:
            outputs = addmv(self.bias, h, self.row) if self.single else addmm(self.bias, h, self.transposed)
            g = self.ones
        else:
            outputs = addmm(self.bias, h, self.transposed)
            g = mm(cotangent, self.weight, out=h) if self.backward else mm(cotangent, self.weight)
        for weight, z, place, following in self.backward:
            _silu_backward(g, z, grad_input=place)
            g = mm(place, weight, out=following)
        return outputs, g if g is not self.ones else g.clone()


def pass_of(network: nn.Module, layers: Callable[[], list[Layer] | None], x: Tensor) -> Pass | None:
    """The pass of a network for inputs like `x` `(N, inputs)`; None if its layers are others.

    Within `unchanging` it is made once.
    """
    known = kept.passes
    if known is None:
        found = layers()
        return None if found is None else Pass(found, x)
    key = (id(network), x.shape, x.dtype)
    entry = known.get(key)
    if entry is None:
        found = layers()
        entry = known[key] = (network, None if found is None else Pass(found, x))
    return entry[1]


@contextmanager
def unchanging() -> Iterator[None]:
    """Within the block this thread changes no weight, layer, hook or mode: what depends on them is found once.

    A block within a block finds all of it again: an energy may run chains of others that it changes.
    """
    before = kept.passes, kept.checked, kept.forms
    kept.passes, kept.checked, kept.forms = {}, {}, None
    try:
        yield
    finally:
        kept.passes, kept.checked, kept.forms = before


@contextmanager
def forms_kept() -> Iterator[None]:
    """Within the block and outside of chains this thread changes no energy: `on_arrays` need not look at one twice."""
    before, kept.forms = kept.forms, {}
    try:
        yield
    finally:
        kept.forms = before


class _Kept(threading.local):
    """What a thread keeps: hidden layers by shape, and passes within `unchanging`."""

    def __init__(self) -> None:
        self.sets: OrderedDict[object, Buffers] = OrderedDict()
        self.passes: dict[object, tuple[nn.Module, Pass | None]] | None = None
        self.checked: dict[int, nn.Module] = {}  # energies whose written-out gradient may be used
        self.forms: dict[object, Any] | None = None  # forms of energies in arrays within `forms_kept`


kept = _Kept()


def _buffers(layers: Sequence[Layer], x: Tensor) -> Buffers:
    """Three lists of tensors `(N, width)`, one for each hidden layer.

    Those of the first list are separate and hold what goes into SiLU. Those of each other list share one memory, which
    so stays in the cache.

    Only for the time of one call: the next one with equal shapes gets the same. A captured CUDA graph would keep on
    writing to buffers that were dropped, and its allocator is fast, so there tensors are fresh.
    """
    rows, sets, widths = x.shape[0], kept.sets, tuple(weight.shape[0] for weight, _ in layers[:-1])
    key = (rows, x.dtype, widths)
    if x.is_cpu and key in sets:
        return sets[key]
    size = rows * max(widths, default=0)
    with torch.inference_mode(False):
        shared = [x.new_empty(size), x.new_empty(size)]
        made = [[x.new_empty(rows, width) for width in widths]]
    made += [[memory[: rows * width].view(rows, width) for width in widths] for memory in shared]
    if x.is_cpu and _bytes([made]) <= _KEPT_BYTES // 4:
        sets[key] = made
        while len(sets) > _KEPT_SHAPES or _bytes(sets.values()) > _KEPT_BYTES:
            sets.popitem(last=False)
    return made


def _bytes(sets: Iterable[Buffers]) -> int:
    tensors = (tensor for lists in sets for tensors in lists for tensor in tensors)
    return sum({t.data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
