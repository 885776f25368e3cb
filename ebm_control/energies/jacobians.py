"""Jacobians of networks of linear layers with SiLU between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ebm_control.energies.pullbacks import Layer

_silu_backward = torch.ops.aten.silu_backward.default
_silu_backward = getattr(_silu_backward, "_op", _silu_backward)  # without its Python layer


def outputs_and_jacobian(layers: Sequence[Layer], x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of layers and their derivatives by the inputs; to be called without a graph.

    Args:
        layers: weights and biases; see `pullbacks.plain_layers`.
        x: `(N, inputs)`.

    Returns:
        outputs `(N, outputs)` and derivatives `(outputs, N, inputs)`.

    """
    before: list[Tensor] = []  # each SiLU's input
    h = x
    for i, (weight, bias) in enumerate(layers):
        h = torch.addmm(bias, torch._C._nn.silu(h) if i else h, weight.t())
        before.append(h)
    last = layers[-1][0]
    count, width = len(x), x.shape[1]
    if len(layers) == 1:
        return h, last[:, None].expand(-1, count, -1)
    one = h.new_ones(())
    slopes = last[:, None]
    for i in range(len(layers) - 2, -1, -1):
        z = before[i]
        # The derivative of SiLU once for all outputs.
        slopes = slopes * _silu_backward(one.expand_as(z), z)
        flat, weight = slopes.view(-1, z.shape[1]), layers[i][0]
        # A product with few columns is several times as fast the other way round.
        product = (weight.t() @ flat.t()).t() if i == 0 else flat @ weight
        slopes = product.reshape(len(last), count, -1)
    return h, slopes.view(len(last), count, width)
