"""Energies of images `(B, C, H, W)` with pixels in [0, 1], and the networks they are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ebm_control.checks import (
    require,
    require_floats,
    require_levels,
    require_number,
    require_shape,
    require_widths,
)
from ebm_control.energies.base import SplitEnergy
from ebm_control.energies.networks import MLP, normed
from ebm_control.energies.noise import split_context
from ebm_control.tensors import cast_like, ordinary_tensors

Shape = tuple[int, int, int]  # channels, height, width


class ImageEnergy(SplitEnergy):
    """A network over images with one output per class: `E(x | y) = f_y(x)`, `E(x) = -log Σ_y exp(-f_y(x))`.

    A class-conditional energy is also a classifier, `p(y | x) ∝ exp(-f_y(x))` (Grathwohl et al. 2020). Its context has
    one coordinate per class: 1 for the class, 0 elsewhere. All zeros, or no context, gives the energy of all classes.

    With `noise` it is the energy of images with added noise of std σ; its context ends with log σ. The base is then the
    Gaussian around the mean image with the data's std, convolved with the noise, and the tilt grows as 1/σ, as a score
    does (Song & Ermon 2019). Without `noise` there is no base.

    Args:
        network: `(B, C, H, W)` and `(B, condition)` to `(B, outputs)`; `condition` is log σ, or has no columns.
        shape: `(C, H, W)` of one image.
        classes: number of network outputs that are classes; 0 for an unconditional energy.
        noise: least and greatest noise level; None for clean images.

    """

    mean: Tensor
    std: Tensor

    @ordinary_tensors()
    def __init__(
        self,
        network: nn.Module,
        shape: Shape,
        *,
        classes: int = 0,
        noise: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        require_widths("shape", shape, least=3)
        require_number("classes", classes, 0, whole=True)
        require(classes != 1, "classes", given=classes, expected="0, or 2 and more")
        if noise is not None:
            require_levels("noise", noise)
        self.network, self.shape, self.classes, self.noise = network, shape, classes, noise
        self.register_buffer("mean", torch.full(shape, 0.5))
        self.register_buffer("std", torch.tensor(0.5))

    def fit_base(self, images: Tensor) -> None:
        """Set the mean image and the std of pixels around it from images `(N, C, H, W)` in [0, 1]."""
        require_shape("images", images, (None, *self.shape))
        require_floats("images", images)
        self.mean.copy_(images.mean(dim=0))
        self.std.copy_((images - self.mean).square().mean().sqrt().clamp(min=1e-3))

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Gaussian base (0 without noise levels) and the network's tilt, `(B,)` each; see the class for the context."""
        x, context = cast_like(self.mean, x, context)
        condition, level = self._context(x, context)
        base, outputs = self._outputs(x, level)
        if not self.classes:
            return base, outputs.squeeze(-1)
        anyone = -torch.logsumexp(-outputs, dim=1)
        if condition is None:
            return base, anyone
        return base, torch.where(condition.any(dim=1), (condition * outputs).sum(dim=1), anyone)

    def of_classes(self, x: Tensor, level: Tensor | float | None = None) -> Tensor:
        """Energies of images under every class, `(B, classes)`, without the base that all classes share.

        Args:
            x: `(B, C, H, W)`.
            level: noise level σ, one for all or `(B,)`; None for an energy without noise levels.

        """
        require(self.classes > 0, "energy", given="no classes", expected="a class-conditional one")
        wanted = "None: the energy has no noise levels" if self.noise is None else "a noise level"
        require((level is None) == (self.noise is None), "level", given=level, expected=wanted)
        x, _ = cast_like(self.mean, x)
        condition = None
        if level is not None:
            condition = torch.as_tensor(level).to(x).log().expand(len(x))[:, None]
        return self._outputs(x, condition)[1]

    def _context(self, x: Tensor, context: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        noisy = int(self.noise is not None)
        if context is None and not noisy:
            return None, None
        if context is not None and self.classes and noisy and context.shape[1] == 1:
            return None, context  # the noise level alone
        return split_context(x, context, self.classes, bool(noisy))

    def _outputs(self, x: Tensor, log_level: Tensor | None) -> tuple[Tensor, Tensor]:
        require_shape("x", x, (None, *self.shape))
        if log_level is None:
            return x.new_zeros(len(x)), self.network(2 * x - 1, x.new_zeros(len(x), 0))
        level = log_level.exp()
        wide = (self.std.square() + level.square()).sqrt()
        u = (x - self.mean) / wide[..., None, None]
        return 0.5 * u.flatten(1).square().sum(dim=1), self.network(u, log_level) * (wide / level)


class SmallCNN(nn.Module):
    """Four convolutions with swish and a linear layer (after Nijkamp et al. 2019): `(B, C, H, W) -> (B, outputs)`.

    Args:
        shape: `(C, H, W)` of one image.
        outputs: 1, or one per class.
        width: channels of the first layer; the others have 2, 2 and 4 times as many.
        condition_dim: columns of the condition.
        spectral: divide every weight by its largest singular value (Miyato et al. 2018).

    """

    @ordinary_tensors()
    def __init__(
        self,
        shape: Shape,
        outputs: int = 1,
        width: int = 32,
        *,
        condition_dim: int = 0,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        _check_network(shape, outputs, width, condition_dim)
        channels, height, wide = shape
        steps = [2, 2, 1, 2] if min(height, wide) >= 16 else [1, 2, 1, 2]
        widths = [channels, width, 2 * width, 2 * width, 4 * width]
        self.layers = nn.ModuleList(
            normed(nn.Conv2d(i, o, 3 if n else 5, s, 1 if n else 2), spectral)
            for n, (i, o, s) in enumerate(zip(widths[:-1], widths[1:], steps, strict=True))
        )
        self.films = nn.ModuleList(_film(condition_dim, o) for o in widths[1:])
        with torch.no_grad():
            flat = self._features(torch.zeros(1, *shape), torch.zeros(1, condition_dim)).shape[1]
        self.last = normed(nn.Linear(flat, outputs), spectral)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """`(B, C, H, W)` and `(B, condition)` to `(B, outputs)`."""
        return self.last(self._features(x, condition))

    def layer_outputs(self, x: Tensor, condition: Tensor) -> list[Tensor]:
        """Output of each convolution, `(B, C_i, H_i, W_i)`."""
        return _layer_outputs(x, self.layers, self.films, condition)

    def _features(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.layer_outputs(x, condition)[-1].flatten(1)


class ResidualNetwork(nn.Module):
    """Residual blocks at falling resolutions, each with a linear read-out: `(B, C, H, W) -> (B, outputs)`.

    After the networks of Du & Mordatch 2019 (residual, swish, spectral norm). The gradient of an encoder acts as a
    decoder; the read-out at every resolution gives it the skip connections of a U-Net, which scores need.

    Args:
        shape: `(C, H, W)` of one image.
        outputs: 1, or one per class.
        width: channels at the first resolution.
        stages: blocks at each resolution; channels double at the second resolution and then stay.
        condition_dim: columns of the condition, which scales and shifts the features of every block (Perez et
            al. 2018).
        spectral: divide every weight by its largest singular value (Miyato et al. 2018).

    """

    @ordinary_tensors()
    def __init__(
        self,
        shape: Shape,
        outputs: int = 1,
        width: int = 32,
        stages: Sequence[int] = (2, 2, 2),
        *,
        condition_dim: int = 0,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        _check_network(shape, outputs, width, condition_dim)
        require_widths("stages", stages, least=1)
        channels, height, wide = shape
        step = 2 if min(height, wide) >= 16 else 1
        self.first = normed(nn.Conv2d(channels, width, 2 + step, step, 1), spectral)
        widths = [width] + [2 * width] * (len(stages) - 1)
        self.stages = nn.ModuleList()
        self.heads = nn.ModuleList()
        self.joins = nn.ModuleList()
        before = width
        for blocks, after in zip(stages, widths, strict=True):
            same = before == after
            self.joins.append(nn.Identity() if same else normed(nn.Conv2d(before, after, 1), spectral))
            self.stages.append(
                nn.ModuleList(_ResidualBlock(after, condition_dim, spectral) for _ in range(blocks))
            )
            self.heads.append(normed(nn.Linear(after, outputs), spectral))
            before = after

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """`(B, C, H, W)` and `(B, condition)` to `(B, outputs)`."""
        h, total = self.first(x), x.new_zeros(())
        for i, (blocks, head, join) in enumerate(zip(self.stages, self.heads, self.joins, strict=True)):
            if i:
                h = functional.avg_pool2d(h, 2, ceil_mode=True)
            h = join(h)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, condition)
            # Summed over pixels, so that a pixel's gradient has the same size in images of any size.
            total = total + head(functional.silu(h).sum(dim=(2, 3)))
        return total


class UNet(nn.Module):
    """Inner product of an image with a U-Net's output, `⟨x, g(x)⟩`, plus a bias per class: `(B, outputs)`.

    Its gradient is `g(x)` plus a correction, so it learns scores as easily as a network of scores does (Salimans &
    Ho 2021; Du et al. 2023). It works on patches of 2×2 pixels. Its coarsest features pass through a code of the
    whole image, which keeps distant parts of a sample consistent. Classes differ by a linear layer of these features.

    Shapes, with `w` for `width`, a prime for half the height and width (rounded up), two primes for a quarter::

        image        (C, H, W)                                                        g(x)  (C, H, W)
          patches      (4C, H', W')                                                 out       (4C, H', W')
            down[0]      (w, H', W')      --------------- skip ----------------   up[1]         (w, H', W')
              down[1]      (2w, H'', W'')   ------------- skip --------------   up[0]             (2w, H'', W'')
                down[2]      (2w, H'', W'')  -- squeeze -- code -- expand --  coarse, also the input of `last`

    Args:
        shape: `(C, H, W)` of one image.
        outputs: 1, or one per class.
        width: channels of the patches; twice as many at half their resolution.
        condition_dim: columns of the condition.
        spectral: divide every weight by its largest singular value (Miyato et al. 2018).
        code: length of the code.

    """

    @ordinary_tensors()
    def __init__(
        self,
        shape: Shape,
        outputs: int = 1,
        width: int = 32,
        *,
        condition_dim: int = 0,
        spectral: bool = False,
        code: int = 256,
    ) -> None:
        super().__init__()
        _check_network(shape, outputs, width, condition_dim)
        require_number("code", code, 1, whole=True)
        channels, height, wide = shape
        self.padding = (0, wide % 2, 0, height % 2)
        widths = [4 * channels, width, 2 * width, 2 * width]
        self.down = nn.ModuleList(
            normed(nn.Conv2d(i, o, 3, s, 1), spectral)
            for i, o, s in zip(widths[:-1], widths[1:], (1, 2, 1), strict=True)
        )
        self.films = nn.ModuleList(_film(condition_dim, o) for o in widths[1:])
        self.up = nn.ModuleList(
            normed(nn.Conv2d(i, o, 3, 1, 1), spectral)
            for i, o in ((2 * width, 2 * width), (2 * width, width))
        )
        self.out = normed(nn.Conv2d(width, widths[0], 3, 1, 1), spectral)
        with torch.no_grad():
            coarse = self._down(torch.zeros(1, *shape), torch.zeros(1, condition_dim))[-1]
        squeezed = min(32, 2 * width)  # input channels of the code
        self.bottleneck_shape = (squeezed, *coarse.shape[2:])
        flat = squeezed * coarse[0, 0].numel()
        self.squeeze = normed(nn.Conv2d(2 * width, squeezed, 1), spectral)
        layers = (nn.Linear(flat, code), nn.Linear(code, code), nn.Linear(code, flat))
        self.whole = nn.ModuleList(normed(layer, spectral) for layer in layers)  # the code of the whole image
        self.expand = normed(nn.Conv2d(squeezed, 2 * width, 1), spectral)
        self.last = normed(nn.Linear(coarse[0].numel(), outputs), spectral)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """`(B, C, H, W)` and `(B, condition)` to `(B, outputs)`."""
        *skips, deepest = self._down(x, condition)
        code = self.squeeze(deepest).flatten(1)
        for i, layer in enumerate(self.whole):
            code = layer(functional.silu(code) if i else code)
        coarse = h = deepest + self.expand(code.unflatten(1, self.bottleneck_shape))
        for layer, skip in zip(self.up, reversed(skips), strict=True):
            h = functional.silu(functional.interpolate(layer(h), size=skip.shape[2:]) + skip)
        output = functional.pixel_shuffle(self.out(h), 2)[..., : x.shape[2], : x.shape[3]]
        return (x * output).flatten(1).sum(dim=1, keepdim=True) + self.last(coarse.flatten(1))

    def _down(self, x: Tensor, condition: Tensor) -> list[Tensor]:
        """Features of the patches at each level of the way down, finest first; shapes are in the class docstring."""
        patches = functional.pixel_unshuffle(functional.pad(x, self.padding), 2)
        return _layer_outputs(patches, self.down, self.films, condition)


class _ResidualBlock(nn.Module):
    @ordinary_tensors()
    def __init__(self, width: int, condition_dim: int, spectral: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(normed(nn.Conv2d(width, width, 3, 1, 1), spectral) for _ in range(2))
        self.films = _film(condition_dim, width)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        inner = _modulated(self.layers[0](functional.silu(h)), self.films, condition)
        return h + self.layers[1](functional.silu(inner))


def _check_network(shape: Shape, outputs: int, width: int, condition_dim: int) -> None:
    require_widths("shape", shape, least=3)
    require_number("outputs", outputs, 1, whole=True)
    require_number("width", width, 1, whole=True)
    require_number("condition_dim", condition_dim, 0, whole=True)


def _film(condition_dim: int, width: int) -> nn.Module:
    """Network from the condition to scales and shifts `(B, 2 * width)`; without weights if `condition_dim` is 0."""
    return MLP(condition_dim, (64,), 2 * width) if condition_dim else nn.Identity()


def _layer_outputs(x: Tensor, layers: nn.ModuleList, films: nn.ModuleList, condition: Tensor) -> list[Tensor]:
    """Output of each layer: scaled and shifted by the condition, then swish."""
    outputs = []
    for layer, film in zip(layers, films, strict=True):
        x = functional.silu(_modulated(layer(x), film, condition))
        outputs.append(x)
    return outputs


def _modulated(h: Tensor, film: nn.Module, condition: Tensor) -> Tensor:
    if condition.shape[1] == 0:
        return h
    scale, shift = film(condition)[..., None, None].chunk(2, dim=1)
    return h * (1 + scale) + shift
