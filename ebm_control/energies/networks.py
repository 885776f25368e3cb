"""Networks for energies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ebm_control.checks import require, require_number, require_widths
from ebm_control.energies.pullbacks import (
    Layer,
    Pass,
    Pullback,
    hooked_everywhere,
    layers_outputs,
    layers_with_pullback,
    pass_of,
    plain_layers,
    pullback_by_autograd,
    untouched,
)
from ebm_control.tensors import ordinary_tensors

HEADS = 4  # attention heads


def with_pullback(network: nn.Module, x: Tensor) -> tuple[Tensor, Pullback]:
    """Outputs of a network and its vector-Jacobian product, both detached.

    Args:
        network: `(..., inputs) -> (..., outputs)`. Written out for `MLP` and `FourierMLP` that have no hooks and only
            their own layers; by automatic differentiation for others.
        x: `(..., inputs)`.

    Returns:
        outputs `(..., outputs)`, and a function from gradients with respect to them `(..., outputs)`, or `(K, ...,
        outputs)` for K of them at once, to gradients with respect to `x`, `(..., inputs)` or `(K, ..., inputs)`.

    """
    if isinstance(network, MLP | FourierMLP):
        return network.with_pullback(x)
    return pullback_by_autograd(network, x)


def outputs_and_gradient(
    network: nn.Module, x: Tensor, cotangent: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs of a network and the gradient of their sum, both detached; faster than `with_pullback`.

    Args:
        network: see `with_pullback`.
        x: `(..., inputs)`.
        cotangent: `(..., outputs)` weights of the sum; None for ones.

    Returns:
        outputs `(..., outputs)`, and the gradient in the shape of `x`.

    """
    if torch.is_grad_enabled():
        with torch.no_grad():
            return outputs_and_gradient(network, x, cotangent)
    flat = x if x.ndim == 2 else x.flatten(0, -2)
    made = pass_of(network, network.plain, flat) if isinstance(network, MLP) else None
    if made is None:
        outputs, pullback = with_pullback(network, x)
        return outputs, pullback(torch.ones_like(outputs) if cotangent is None else cotangent)
    outputs, gradient = made(flat, None if cotangent is None else cotangent.flatten(0, -2))
    return outputs.reshape(*x.shape[:-1], len(made.weight)), gradient.reshape(x.shape)


def energy_and_gradient(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The only output `(N,)` of a network for `x` `(N, inputs)` and its gradient; see `outputs_and_gradient`."""
    if not torch.is_grad_enabled() and isinstance(network, MLP):
        made = pass_of(network, network.plain, x)
        if made is not None and made.single:
            return made(x, None)
    outputs, gradient = outputs_and_gradient(network, x)
    return outputs.squeeze(-1), gradient


def following_inputs(network: nn.Module, first: Tensor, count: int) -> Pass | None:
    """The outputs `(N,)` and gradients of a network with one output, as a function of its last inputs alone.

    Args:
        network: an `MLP` or a `FourierMLP`.
        first: `(N, inputs - count)` the other inputs, which stay.
        count: number of last inputs.

    Returns:
        A function of them, `(N, count)`, and of None; None for another network or no rows.

    """
    width = first.shape[1]
    inner, seen = network, first
    if type(network) is FourierMLP and network.plain() and network.features <= width:
        inner = network.network
        seen = torch.cat([first, waves(first[:, : network.features], network.directions)], dim=1)
    layers = inner.plain() if isinstance(inner, MLP) else None
    if layers is None or len(layers) < 2 or len(layers[-1][0]) > 1 or len(first) == 0:
        return None
    weight, bias = layers[0]
    rest = torch.cat([weight[:, :width], weight[:, width + count :]], dim=1)
    layer = (weight[:, width : width + count].contiguous(), torch.addmm(bias, seen, rest.t()))
    return Pass([layer, *layers[1:]], first)


class MLP(nn.Module):
    """Fully connected network with smooth (SiLU) activations, so that Langevin dynamics has smooth gradients.

    Args:
        inputs: length of the last axis of the input.
        hidden: width of each hidden layer.
        outputs: length of the last axis of the output.
        spectral: divide every weight by its largest singular value (Miyato et al. 2018). This bounds the
            slope of the energy and stabilises training (Du & Mordatch 2019).

    """

    @ordinary_tensors()
    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int] = (256, 256, 256),
        outputs: int = 1,
        *,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        require_number("inputs", inputs, 1, whole=True)
        require_number("outputs", outputs, 1, whole=True)
        require_widths("hidden", hidden)
        layers: list[nn.Module] = []
        sizes = [inputs, *hidden, outputs]
        for width_in, width_out in pairwise(sizes):
            layers += [_linear(width_in, width_out, spectral), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the network: `(..., inputs) -> (..., outputs)`."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.layers(x)
        layers = self.plain()  # without a graph the calls of the modules take longer than their work
        return self.layers(x) if layers is None else layers_outputs(layers, x)

    def plain(self) -> list[Layer] | None:
        """Weights and biases of the layers, if a call does what this class says; None after any change of it."""
        if type(self).forward is not MLP.forward or not untouched(self) or hooked_everywhere():
            return None
        return plain_layers(self._modules["layers"])  # type: ignore[arg-type]

    def with_pullback(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Outputs and vector-Jacobian product by matrix products alone; see `with_pullback`."""
        with torch.no_grad():
            layers = self.plain()
            if layers is not None:
                return layers_with_pullback(layers, x)
        return pullback_by_autograd(self, x)


class FourierMLP(nn.Module):
    """An `MLP` with random sines and cosines of its first inputs as further inputs, so that it learns sharp edges.

    Plain networks learn smooth functions first (Rahaman et al. 2019), which makes walls cheap to cross. Random
    Fourier features (Rahimi & Recht 2007, Tancik et al. 2020) let them learn higher frequencies early.

    Args:
        inputs: length of the last axis of the input.
        hidden: width of each hidden layer.
        outputs: length of the last axis of the output.
        features: number of leading inputs whose sines and cosines are added.
        frequencies: random directions, each with one sine and one cosine; drawn from torch's global generator.
        bandwidth: std of the directions, in radians per unit of input.
        spectral: divide every weight by its largest singular value, see `MLP`.

    """

    directions: Tensor

    @ordinary_tensors()
    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int] = (256, 256, 256),
        outputs: int = 1,
        *,
        features: int,
        frequencies: int = 64,
        bandwidth: float = 2.0,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        require_number("features", features, 1, inputs, whole=True)
        require_number("frequencies", frequencies, 1, whole=True)
        self.features = features
        self.register_buffer("directions", random_directions(features, frequencies, bandwidth))
        self.network = MLP(inputs + 2 * frequencies, hidden, outputs, spectral=spectral)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the network: `(..., inputs) -> (..., outputs)`."""
        return self.network(torch.cat([x, waves(x[..., : self.features], self.directions)], dim=-1))

    def plain(self) -> bool:
        """Whether a call does what this class says: no subclass or hook changes it."""
        return type(self).forward is FourierMLP.forward and untouched(self) and not hooked_everywhere()

    def with_pullback(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Outputs and vector-Jacobian product; see `with_pullback`."""
        if not self.plain():
            return pullback_by_autograd(self, x)
        with torch.no_grad():
            inputs, directions = x.shape[-1], self.directions
            angle = x[..., : self.features] @ directions
            sine, cosine = angle.sin(), angle.cos()
            outputs, inner = self.network.with_pullback(torch.cat([x, sine, cosine], dim=-1))

        def pullback(cotangent: Tensor) -> Tensor:
            with torch.no_grad():
                g = inner(cotangent)
                by_sine, by_cosine = g[..., inputs:].chunk(2, dim=-1)
                direct = g[..., :inputs].clone()
                direct[..., : self.features] += (by_sine * cosine - by_cosine * sine) @ directions.t()
                return direct

        return outputs, pullback


def random_directions(features: int, frequencies: int, bandwidth: float) -> Tensor:
    """Random directions of Fourier features, `(features, frequencies)`; see `FourierMLP`.

    Raises:
        InputError: the bandwidth is not positive.

    """
    require_number("bandwidth", bandwidth, 0, above=True)
    return bandwidth * torch.randn(features, frequencies, dtype=torch.float32)


def waves(x: Tensor, directions: Tensor) -> Tensor:
    """Sines and cosines of `x` `(..., features)` along `directions`: `(..., 2 * frequencies)`."""
    angle = x @ directions
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class TemporalConvolution(nn.Module):
    """Residual 1-D convolutions over a window, averaged over time: `(B, T, channels) -> (B, 1)`.

    Args:
        channels: length of the input's last axis.
        width: channels of the hidden layers.
        blocks: residual blocks; block `i` has dilation `2**i`, so the receptive field doubles with each.
        kernel: taps of each convolution, odd.
        spectral: divide every weight by its largest singular value, see `MLP`.

    """

    @ordinary_tensors()
    def __init__(
        self, channels: int, width: int = 128, blocks: int = 3, kernel: int = 3, *, spectral: bool = False
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("width", width), ("kernel", kernel)):
            require_number(name, value, 1, whole=True)
        require_number("blocks", blocks, 0, whole=True)
        require(kernel % 2 == 1, "kernel", given=kernel, expected="an odd number")
        self.first = _linear(channels, width, spectral)
        self.blocks = nn.ModuleList(
            normed(nn.Conv1d(width, width, kernel, padding="same", dilation=2**i), spectral)
            for i in range(blocks)
        )
        self.last = _linear(width, 1, spectral)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, channels) -> (B, 1)`."""
        h = self.first(x).transpose(1, 2)
        for block in self.blocks:
            h = h + block(torch.nn.functional.silu(h))
        return self.last(torch.nn.functional.silu(h).mean(dim=2))


class Transformer(nn.Module):
    """Attention over the time steps of a window (Vaswani et al. 2017), averaged: `(B, T, channels) -> (B, 1)`.

    Attention is written out because fused kernels have no second derivative, which score matching needs.

    Args:
        channels: length of the input's last axis.
        length: greatest number of time steps of a window; each has a learned position embedding.
        width: channels of the hidden layers.
        blocks: number of blocks, each attention and two layers with pre-normalisation (Xiong et al. 2020).
        heads: number of attention heads.

    """

    @ordinary_tensors()
    def __init__(
        self, channels: int, length: int, width: int = 96, blocks: int = 2, heads: int = HEADS
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "length": length, "width": width, "heads": heads}
        for name, value in sizes.items():
            require_number(name, value, 1, whole=True)
        require_number("blocks", blocks, 0, whole=True)
        require(width % heads == 0, "width", given=width, expected=f"a multiple of {heads} heads")
        self.first = nn.Linear(channels, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(_AttentionBlock(width, heads) for _ in range(blocks))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, channels) -> (B, 1)`."""
        length = len(self.places)
        require(x.shape[1] <= length, "x", given=f"{x.shape[1]} time steps", expected=f"at most {length}")
        h = self.first(x) + self.places[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        return self.last(h.mean(dim=1))


class _AttentionBlock(nn.Module):
    @ordinary_tensors()
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.seen, self.films = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = MLP(width, (2 * width,), width)

    def forward(self, h: Tensor) -> Tensor:
        query, key, value = self.seen(self.norms[0](h)).unflatten(-1, (3, self.heads, -1)).unbind(dim=2)
        weights = torch.einsum("bthd,bshd->bhts", query, key) / query.shape[-1] ** 0.5
        mixed = torch.einsum("bhts,bshd->bthd", weights.softmax(dim=-1), value)
        h = h + self.films(mixed.flatten(2))
        return h + self.layers(self.norms[1](h))


def _linear(inputs: int, outputs: int, spectral: bool) -> nn.Module:
    return normed(nn.Linear(inputs, outputs), spectral)


def normed(layer: nn.Module, spectral: bool) -> nn.Module:
    """The layer; if `spectral`, with its weight divided by its largest singular value."""
    return spectral_norm(layer) if spectral else layer
