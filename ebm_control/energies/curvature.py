"""Second-order models of energies of trajectories: energy, gradient and a banded, positive semi-definite curvature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from ebm_control.checks import Shown, require, require_shape


@dataclass(frozen=True)
class Quadratic:
    """An energy near trajectories `x` `(B, T, D)`: `E(x + d) ≈ energy + gradient · d + ½ dᵀ C d`.

    `C` is symmetric and positive semi-definite. It couples time steps that are less than `len(bands)` apart.

    Attributes:
        energy: `(B,)` energy at `x`.
        gradient: `(B, T, D)` its exact gradient.
        bands: blocks of `C`: `bands[k]` `(B, T-k, D, D)` couples time step `t` (rows) with `t + k` (columns).

    """

    energy: Tensor
    gradient: Tensor
    bands: tuple[Tensor, ...]

    def __add__(self, other: Quadratic) -> Quadratic:
        return Quadratic(
            self.energy + other.energy, self.gradient + other.gradient, add_bands(self.bands, other.bands)
        )

    def scaled(self, factor: float) -> Quadratic:
        """The model of `factor * E`. A negative factor makes the curvature that of `|factor| * E`, which stays PSD."""
        bands = tuple(abs(factor) * band for band in self.bands)
        return Quadratic(factor * self.energy, factor * self.gradient, bands)


def require_quadratic(model: object, x: Tensor) -> Quadratic:
    """Return what an energy gave as its model at `x`.

    Raises:
        InputError: it is of another type, or its energy or gradient has another shape.

    """
    known = isinstance(model, Quadratic) and isinstance(model.bands, tuple)
    wanted = "a Quadratic whose bands are a tuple of tensors"
    require(known, "energy.quadratic(x)", given=Shown(model), expected=wanted)
    assert isinstance(model, Quadratic)
    require_shape("energy(x)", model.energy, (len(x),))
    require_shape("gradient of energy(x)", model.gradient, tuple(x.shape))
    return model


def add_bands(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Sum of two banded matrices of equal size; the number of bands may differ."""
    pairs = zip_longest(first, second)
    return tuple(b if a is None else a if b is None else a + b for a, b in pairs)


def gauss_newton(jacobian: Sequence[Tensor], length: int) -> tuple[Tensor, ...]:
    """Bands of `Σ_t J_tᵀ J_t` for residuals of windows of neighbouring time steps.

    Args:
        jacobian: derivatives of the residuals of each window with respect to the time steps of the window, the first
            one first: `(B, windows, residuals, D)` each. Window `t` begins at time step `t`.
        length: time steps `T` of the trajectories.

    """
    transposed = [part.mT for part in jacobian]
    return window_bands(
        {(i, j): transposed[i] @ jacobian[j] for i in range(len(jacobian)) for j in range(i, len(jacobian))},
        length,
    )


def window_bands(blocks: dict[tuple[int, int], Tensor], length: int) -> tuple[Tensor, ...]:
    """Bands of a sum over windows: `blocks[i, j]` `(B, windows, D, D)` couples steps `i <= j` of each window."""
    width = 1 + max(j for _, j in blocks)
    some = next(iter(blocks.values()))
    batch, count, dim = some.shape[:3]
    bands = [some.new_zeros(batch, length - k, dim, dim) for k in range(width)]
    for (i, j), block in blocks.items():
        bands[j - i][:, i : i + count] += block
    return tuple(bands)


def positive(matrix: Tensor) -> Tensor:
    """Symmetric matrices `(..., n, n)` with their eigenvalues replaced by the absolute values.

    Only the coordinates that occur in some matrix of the batch are decomposed.
    """
    if matrix.numel() == 0:
        return matrix
    used = matrix.abs().flatten(0, -3).amax(dim=(0, 2)) > 0
    index = used.nonzero().flatten()
    if len(index) == 0:
        return matrix
    part = matrix[..., index[:, None], index]
    values, vectors = torch.linalg.eigh(0.5 * (part + part.mT))
    part = (vectors * values.abs().unsqueeze(-2)) @ vectors.mT
    if len(index) == matrix.shape[-1]:
        return part
    result = torch.zeros_like(matrix)
    result[..., index[:, None], index] = part
    return result


def window_curvature(energy: Callable[[Tensor], Tensor], x: Tensor, window: int = 2) -> tuple[Tensor, ...]:
    """Bands of an energy that is a sum over windows of time steps: their Hessians with absolute eigenvalues.

    Args:
        energy: maps trajectories of one window each `(n, window, D)` to energies `(n,)`; twice differentiable.
        x: `(B, T, D)`.
        window: time steps of a window.

    """
    batch, length, dim = x.shape
    count, size = length - window + 1, window * dim
    if count < 1 or batch == 0:
        return (x.new_zeros(batch, length, dim, dim),)
    parts = x.detach().unfold(1, window, 1).transpose(2, 3).reshape(batch * count, window, dim)
    with torch.enable_grad():
        parts = parts.clone().requires_grad_()
        hessian = _hessian(energy(parts), parts).reshape(-1, size, size)
    whole = positive(torch.nan_to_num(hessian, 0.0, 0.0, 0.0)).reshape(batch, count, window, dim, window, dim)
    pairs = [(i, j) for i in range(window) for j in range(i, window)]
    return window_bands({(i, j): whole[:, :, i, :, j] for i, j in pairs}, length)


def neighbour_curvature(energy: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, ...]:
    """Bands of any energy of trajectories `(B, T, D) -> (B,)`, as if only neighbouring time steps were coupled.

    Hessian-vector products with time steps in three colours give the blocks; eigenvalues of each pair of time steps
    are replaced by their absolute values.
    """
    batch, length, dim = x.shape
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        gradient = _gradient(energy(x), x)
        eye = torch.eye(dim, device=x.device, dtype=x.dtype)
        colour = torch.arange(length, device=x.device) % 3
        probes = torch.stack(
            [torch.where((colour == c)[:, None], eye[i], 0.0) for c in range(3) for i in range(dim)]
        )
        products = _products(gradient, x, probes[:, None].expand(-1, batch, -1, -1)).detach()
    # Entry (t, i) of product (c, j) is H[t, i, u, j] for the one u of colour c next to t.
    table = torch.nan_to_num(products, 0.0, 0.0, 0.0).unflatten(0, (3, dim))
    step = torch.arange(length, device=x.device)
    main = table[step % 3, :, :, step].permute(2, 0, 3, 1)
    main = 0.5 * (main + main.mT)
    if length == 1:
        return (positive(main),)
    upper = table[(step[:-1] + 1) % 3, :, :, step[:-1]].permute(2, 0, 3, 1)
    share = x.new_full((length, 1, 1), 0.5).detach()
    share[0] = share[-1] = 1.0
    shared = share * main
    pairs = torch.cat(
        [torch.cat([shared[:, :-1], upper], dim=-1), torch.cat([upper.mT, shared[:, 1:]], dim=-1)], dim=-2
    )
    whole = positive(pairs)
    first, second = whole[..., :dim, :], whole[..., dim:, :]
    blocks = {(0, 0): first[..., :dim], (0, 1): first[..., dim:], (1, 1): second[..., dim:]}
    return window_bands(blocks, length)


def _hessian(value: Tensor, x: Tensor) -> Tensor:
    """Hessians `(n, k, k)` of values `(n,)`, each a function of its own row of `x` `(n, ...)` with `k` entries."""
    gradient = _gradient(value, x)
    size = x[0].numel()
    probes = torch.eye(size, device=x.device, dtype=x.dtype).reshape(size, 1, *x.shape[1:])
    products = _products(gradient, x, probes.expand(-1, *x.shape)).detach()
    return products.flatten(2).transpose(0, 1)


def _gradient(value: Tensor, x: Tensor) -> Tensor:
    """Gradient of values with respect to `x`, with its graph; zeros for a constant."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(value.sum(), x, create_graph=True, materialize_grads=True)[0]


def _products(gradient: Tensor, x: Tensor, probes: Tensor) -> Tensor:
    """Derivatives of `gradient` along each of `probes` `(K, *x.shape)`; zeros where it is constant."""
    if not gradient.requires_grad:
        return torch.zeros_like(probes)

    def along(probe: Tensor, *, batched: bool) -> Tensor:
        (product,) = torch.autograd.grad(
            gradient, x, probe, retain_graph=True, is_grads_batched=batched, allow_unused=True
        )
        # Zeros that torch makes instead would lack the probes' axis.
        return torch.zeros_like(probe) if product is None else product

    try:
        return along(probes, batched=True)
    except RuntimeError:  # torch.vmap does not know all operations: writing to a part of a tensor is one
        return torch.stack([along(probe, batched=False) for probe in probes])
