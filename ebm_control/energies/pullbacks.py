"""Vector-Jacobian products of networks: written out for linear layers with SiLU between them, else by autograd.

The written-out pass needs no graph. On the CPU it writes hidden layers to buffers that are kept from call to call, one
set per thread and shape: fresh tensors of some size cost page faults. Nothing that is returned shares their memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ebm_control.tensors import settled

Pullback = Callable[[Tensor], Tensor]
Layer = tuple[Tensor, Tensor]  # weight (outputs, inputs) and bias (outputs,)
_KEPT_SHAPES, _KEPT_BYTES = 16, 2**26  # buffers that a thread keeps
_silu: Callable[..., Tensor] = torch._C._nn.silu  # functional.silu cannot write to a given tensor
_silu_backward = torch.ops.aten.silu_backward.grad_input


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

    def pullback(cotangent: Tensor) -> Tensor:
        if not outputs.requires_grad:  # a constant
            return given.new_zeros(*cotangent.shape[: cotangent.ndim - outputs.ndim], *given.shape)
        several = cotangent.ndim > outputs.ndim
        (gradient,) = torch.autograd.grad(
            outputs,
            given,
            cotangent.to(outputs.dtype),
            retain_graph=True,
            is_grads_batched=several,
            materialize_grads=True,
        )
        return gradient

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


def layers_and_gradient(
    layers: Sequence[Layer], x: Tensor, cotangent: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`networks.outputs_and_gradient` of linear layers with SiLU between them, for `x` `(N, inputs)`."""
    if x.requires_grad:
        x = x.detach()
    buffers = _buffers(layers, x)
    h = x
    last = len(layers) - 1
    for i in range(last):
        weight, bias = layers[i]
        z, held = buffers[i]
        torch.addmm(bias, h, weight.t(), out=z)
        h = _silu(z, out=held)
    weight, bias = layers[last]
    outputs = torch.addmm(bias, h, weight.t())
    # A cotangent of ones needs no product: each row is the last layer's weight.
    g = h if last else outputs.new_empty(x.shape)
    if cotangent is not None:
        torch.mm(cotangent, weight, out=g)
    elif len(weight) == 1:
        g.copy_(weight)
    else:
        g.copy_(weight.sum(dim=0))
    for i in range(last - 1, -1, -1):
        _silu_backward(g, buffers[i][0], grad_input=g)
        weight = layers[i][0]
        g = torch.mm(g, weight, out=buffers[i - 1][1]) if i else torch.mm(g, weight)
    return outputs, g


class _Kept(threading.local):
    def __init__(self) -> None:
        self.sets: OrderedDict[object, list[tuple[Tensor, Tensor]]] = OrderedDict()


_kept = _Kept()


def _buffers(layers: Sequence[Layer], x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Two tensors `(N, width)` for each hidden layer: before and after SiLU.

    Only for the time of one call: the next one with equal shapes gets the same. A captured CUDA graph would keep on
    writing to buffers that were dropped, and its allocator is fast, so there tensors are fresh.
    """
    rows, kept = x.shape[0], _kept.sets
    key = (rows, x.dtype, *[len(bias) for _, bias in layers])
    if x.is_cpu and key in kept:
        return kept[key]
    with torch.inference_mode(False):
        widths = [len(bias) for _, bias in layers[:-1]]
        made = [(x.new_empty(rows, width), x.new_empty(rows, width)) for width in widths]
    size = 2 * rows * sum(widths) * x.element_size()
    if x.is_cpu and size <= _KEPT_BYTES // 4:
        kept[key] = made
        while len(kept) > _KEPT_SHAPES or (len(kept) > 1 and _bytes(kept) > _KEPT_BYTES):
            kept.popitem(last=False)
    return made


def _bytes(kept: OrderedDict[object, list[tuple[Tensor, Tensor]]]) -> int:
    return sum(t.numel() * t.element_size() for pairs in kept.values() for pair in pairs for t in pair)
