"""Networks of linear layers with SiLU between them on few rows: outputs and Jacobians in few operations of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ebm_control.energies.pullbacks import Layer

# Without their Python layers, which take longer than the work.
_linear: Callable[..., Tensor] = torch._C._nn.linear
_silu: Callable[..., Tensor] = torch._C._nn.silu
_silu_: Callable[..., Tensor] = torch._C._nn.silu_  # in place
_silu_backward = torch.ops.aten.silu_backward.default
_silu_backward = getattr(_silu_backward, "_op", _silu_backward)


def outputs_of(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Outputs `(N, outputs)` for `x` `(N, inputs)`; to be called without a graph."""
    for weight, bias in layers[:-1]:
        x = _silu_(_linear(x, weight, bias))
    return _linear(x, *layers[-1])


def outputs_and_jacobian(layers: Sequence[Layer], x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs `(N, outputs)` for `x` `(N, inputs)`, and their derivatives by the inputs `(outputs, N, inputs)`.

    To be called without a graph.
    """
    before: list[Tensor] = []  # each SiLU's input
    h = x
    for weight, bias in layers[:-1]:
        before.append(_linear(h, weight, bias))
        h = _silu(before[-1])
    last, bias = layers[-1]
    outputs, count = last.shape[0], x.shape[0]
    if not before:
        return _linear(h, last, bias), last[:, None].expand(-1, count, -1)
    one = h.new_ones(())
    slopes = last[:, None]
    for i in range(len(before) - 1, -1, -1):
        # The derivative of each SiLU is found once for all outputs.
        flat = (slopes * _silu_backward(one, before[i])).view(outputs * count, -1)
        weight = layers[i][0]
        # A product with few columns is several times as fast the other way round.
        flat = flat @ weight if i else (weight.t() @ flat.t()).t()
        slopes = flat.reshape(outputs, count, -1)
    return _linear(h, last, bias), slopes
