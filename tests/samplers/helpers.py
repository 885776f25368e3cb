"""Energies with known laws, and the z-test that samplers are judged by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import quad
from torch import Tensor, nn

from ebm_control.energies import MLP, Energy, TrajectoryLayout, TransitionEnergy
from ebm_control.samplers import CEM, HMC, MALA, MPPI, GaussNewton, Langevin, effective_sample_size
from ebm_control.samplers.chain import Sampler
from tests.helpers import normal, seeded

THRESHOLD = 4.5  # of |z|: for some 200 scores in all, a right sampler passes 99.9 % of all seeds

SAMPLERS: dict[str, Sampler] = {
    "overdamped": Langevin(steps=5, step_size=0.05),
    "underdamped": Langevin(steps=5, step_size=0.05, friction=0.5),
    "rms": Langevin(steps=5, step_size=0.05, adapt="rms"),
    "clamped": Langevin(steps=5, step_size=0.05, clamp=(-0.4, 0.4)),
    "mala": MALA(steps=5, step_size=0.05),
    "hmc": HMC(steps=5, step_size=0.2, leapfrog=3),
    "mppi": MPPI(steps=5, candidates=8),
    "cem": CEM(steps=5, candidates=8, elites=3),
    "mppi-wide": MPPI(5, 8, elites=4, adapt=0.5, smooth=False, colour=1.0, free=True, clamp=(-4.0, 4.0)),
    "cem-wide": CEM(5, 8, elites=3, smooth=False, colour=1.0, free=True, clamp=(-4.0, 4.0)),
    "second-order": GaussNewton(steps=5, temperature=1.0),
    "second-order search": GaussNewton(steps=5),
}
"""One of each kind, for what every sampler promises."""


class Function(Energy):
    """Any function of `x` as an energy."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.function(x)


class Gaussian(Energy):
    """`½ xᵀ Λ x`."""

    def __init__(self, precision: Tensor) -> None:
        super().__init__()
        self.register_buffer("precision", precision)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return 0.5 * torch.einsum("...i,ij,...j->...", x, self.precision, x)


class Conditioned(Energy):
    """`½ |W x - c|²` by a small network's features: an energy with weights and, where given, a context."""

    def __init__(self, dim: int = 3, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = MLP(dim, (8,), dim).to(dtype)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        wanted = 0.0 if context is None else context.reshape(len(x), *[1] * (x.ndim - 2), -1)
        return 0.5 * (self.network(x) + x - wanted).square().flatten(1).sum(dim=1)


def double_well(height: float) -> Function:
    """`height (x² - 1)²` of one coordinate."""
    return Function(lambda x: height * (x.square() - 1).square().squeeze(-1))


def walled(inside: float) -> Function:
    """Standard normal over `x_0 < ½`, the energy being `inside` beyond."""
    return Function(
        lambda x: torch.where(x[:, 0] < 0.5, 0.5 * x.square().flatten(1).sum(dim=1), x.new_tensor(inside))
    )


def quadratic(x: Tensor) -> Tensor:
    return 0.5 * x.square().flatten(1).sum(dim=1)


def spectral_transition_energy() -> TransitionEnergy:
    """Transition energy (float64) whose network has dropout, spectral norms and modes of its own."""
    layout = TrajectoryLayout(2, 1, periods=(2.0, 0.0))
    inputs = TransitionEnergy.inputs_of(layout, context_dim=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(MLP(inputs, (16,), 16, spectral=True), nn.Dropout(0.5), MLP(16, (16,), 1))
    return TransitionEnergy(layout, network, context_dim=1).double()


def correlated_precision() -> Tensor:
    """Precision of three coordinates: eigenvalues ½, 1 and 4 along turned axes."""
    axes, _ = torch.linalg.qr(normal(3, 3, seed=4))
    return axes @ torch.diag(torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)) @ axes.T


def discretised_covariance(precision: Tensor, step_size: float, temperature: float, scale: Tensor) -> Tensor:
    """Covariance that Langevin steps leave invariant: `T S (P (1 - ηP/2))⁻¹ S` with `P = S Λ S`."""
    S = torch.diag(scale)
    P = S @ precision @ S
    return temperature * S @ torch.linalg.inv(P @ (torch.eye(len(P)) - step_size / 2 * P)) @ S


def moments(x: Tensor) -> Tensor:
    """Coordinates and the products of all pairs: `(..., d) -> (..., d + d (d + 1) / 2)`."""
    i, j = torch.triu_indices(x.shape[-1], x.shape[-1])
    return torch.cat([x, x[..., i] * x[..., j]], dim=-1)


def gaussian_moments(covariance: Tensor) -> Tensor:
    i, j = torch.triu_indices(*covariance.shape)
    return torch.cat([torch.zeros(len(covariance)), covariance[i, j]])


def well_moments(x: Tensor) -> Tensor:
    """x, x², |x| and which well: `(..., 1) -> (..., 4)`."""
    return torch.cat([x, x.square(), x.abs(), (x < 0).to(x.dtype)], dim=-1)


def exact_well_moments(height: float) -> Tensor:
    def integral(f: Callable[[float], float], low: float = -4.0) -> float:
        return quad(lambda x: f(x) * np.exp(-height * (x * x - 1) ** 2), low, 4, points=(-1, 0, 1))[0]

    total = integral(lambda x: 1.0)
    below = 1 - integral(lambda x: 1.0, low=0.0) / total
    rest = [integral(f) / total for f in (lambda x: x, lambda x: x * x, abs)]
    return torch.tensor([*rest, below])


def discretised_well_moments(height: float, step_size: float) -> Tensor:
    """Moments of the law that unadjusted Langevin leaves invariant: its kernel's fixed vector on a fine grid."""
    x = np.linspace(-2.6, 2.6, 521)
    mean = x - step_size * 4 * height * x * (x * x - 1)
    kernel = np.exp(-((x[None] - mean[:, None]) ** 2) / (4 * step_size))
    kernel /= kernel.sum(axis=1, keepdims=True)
    system = np.vstack([kernel.T - np.eye(len(x)), np.ones(len(x))])
    law = np.linalg.lstsq(system, np.append(np.zeros(len(x)), 1.0), rcond=None)[0]
    below = np.where(x < 0, 1.0, np.where(np.isclose(x, 0), 0.5, 0.0))
    return torch.tensor([law @ x, law @ x**2, law @ np.abs(x), law @ below])


def z_scores(
    sampler: Sampler,
    energy: Energy,
    start: Tensor,
    statistic: Callable[[Tensor], Tensor],
    expected: Tensor,
    *,
    warm_up: int,
    seed: int = 0,
) -> Tensor:
    """How many standard errors the chains' averages lie from what they should be.

    Args:
        sampler: the sampler on trial.
        energy: what it samples from.
        start: `(B, d)` where its chains start.
        statistic: `(n, B, d) -> (n, B, k)`.
        expected: `(k,)` the statistics' true averages.
        warm_up: first states of each chain that do not count.
        seed: of all noise.

    Returns:
        `(k,)` z-scores: the standard errors are those of the effective sample size of each statistic.

    """
    trace = sampler(energy, start, generator=seeded(seed), trace=1).trace
    assert trace is not None
    values = statistic(trace[warm_up:])
    std = values.flatten(0, 1).std(dim=0)
    error = std / effective_sample_size(values).sqrt()
    return (values.mean(dim=(0, 1)) - expected) / error.clamp_min(1e-12)
