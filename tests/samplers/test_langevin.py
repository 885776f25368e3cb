"""Langevin, one setting at a time, against the update written out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchebm.core import BaseModel
from torchebm.samplers import LangevinDynamics

from ebm_control.energies import MLP
from ebm_control.samplers import HMC, MALA, Cosine, Geometric, Langevin, Linear
from ebm_control.samplers.schedules import values
from tests.helpers import normal, seeded
from tests.samplers.helpers import Conditioned, Function, Gaussian, correlated_precision

ENERGY = Conditioned()


def gradient(x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(ENERGY(x).sum(), x)[0]


def slope(height: float) -> Function:
    """Constant gradient `height` in every coordinate."""
    return Function(lambda x: height * x.flatten(1).sum(dim=1))


def test_seed_papers_update_is_one_line_to_write() -> None:
    """x - λ/2 ∇E + ω with ω ~ N(0, λ): Du & Mordatch 2019, eq. 2."""
    lam, x, source = 0.1, normal(8, 3), seeded(3)
    chain = Langevin(steps=20, step_size=lam / 2)(ENERGY, x, generator=seeded(3))
    for _ in range(20):
        noise = torch.randn(8, 3, generator=source, dtype=torch.float64)
        x = x - lam / 2 * gradient(x) + math.sqrt(lam) * noise
    torch.testing.assert_close(chain.x, x, rtol=0, atol=1e-12)


def test_cold_practice_is_one_line_to_write() -> None:
    chain = Langevin(steps=20, step_size=10.0, noise=0.005, gradient_clip=0.01, clamp=(0, 1))(
        ENERGY, normal(8, 3), generator=seeded(3)
    )
    x, source = normal(8, 3), seeded(3)
    for _ in range(20):
        noise = torch.randn(8, 3, generator=source, dtype=torch.float64)
        x = (x - 10.0 * gradient(x).clamp(-0.01, 0.01) + 0.005 * noise).clamp(0, 1)
    torch.testing.assert_close(chain.x, x, rtol=0, atol=1e-12)


class TorchEBMModel(BaseModel):
    def __init__(self, network: MLP) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.network(x).squeeze(-1)


@pytest.mark.parametrize("clamp", [None, (-1.0, 1.0)])
def test_chain_equals_torchebms_step_for_step(clamp: tuple[float, float] | None) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP(3, (16, 16)).double()
    x = normal(8, 3)
    model = TorchEBMModel(network)
    theirs = LangevinDynamics(
        model, step_size=0.05, noise_scale=0.8, clamp=clamp, device="cpu", dtype=torch.float64
    ).sample(x=x.clone(), n_steps=60, return_trajectory=True, generator=seeded(5))
    ours = Langevin(steps=60, step_size=0.05, temperature=0.8**2, clamp=clamp)(
        Function(lambda x: network(x).squeeze(-1)), x, generator=seeded(5), trace=1
    )
    assert isinstance(theirs, Tensor)
    assert ours.trace is not None
    torch.testing.assert_close(ours.trace.transpose(0, 1), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "middle"),
    [(Linear(1.0, 0.01), 0.505), (Cosine(1.0, 0.01), 0.505), (Geometric(1.0, 0.01), 0.1)],
    ids=["linear", "cosine", "geometric"],
)
def test_schedules_go_from_start_to_end_inclusive(schedule: Any, middle: float) -> None:
    figures = values(schedule, 11)
    assert figures[0] == pytest.approx(1.0)
    assert figures[5] == pytest.approx(middle)
    assert figures[-1] == pytest.approx(0.01)
    assert figures == sorted(figures, reverse=True)
    assert values(schedule, 1) == pytest.approx([1.0])
    assert values(schedule, 0) == []


def test_cosine_is_slow_at_both_ends() -> None:
    figures = values(Cosine(1.0, 0.0), 11)
    assert figures[0] - figures[1] < 0.03
    assert figures[-2] - figures[-1] < 0.03
    assert figures[4] - figures[5] > 0.1


def test_step_size_follows_its_schedule() -> None:
    x = torch.zeros(2, 3, dtype=torch.float64)
    chain = Langevin(steps=5, step_size=Linear(0.5, 0.1), noise=0.0)(slope(1.0), x, trace=1)
    assert chain.trace is not None
    moves = -torch.cat([x[None], chain.trace]).diff(dim=0)[:, 0, 0]
    torch.testing.assert_close(moves, torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1], dtype=torch.float64))


@pytest.mark.parametrize(
    ("settings", "deviations"),
    [
        ({"noise": Linear(0.5, 0.1)}, [0.5, 0.3, 0.1]),
        ({"temperature": Linear(2.0, 0.0)}, [2 * 0.1**0.5, 2 * 0.05**0.5, 0.0]),
        ({"temperature": 4.0}, [2 * 0.2**0.5] * 3),
        ({"step_size": Geometric(0.4, 0.1)}, [0.8**0.5, 0.4**0.5, 0.2**0.5]),
        ({"noise": 0.7, "temperature": 9.0}, [0.7] * 3),
    ],
    ids=["noise", "temperature schedule", "temperature", "step size", "noise wins"],
)
def test_noise_follows_its_schedule_or_that_of_step_size_and_temperature(
    settings: dict[str, Any], deviations: list[float]
) -> None:
    """σ, or sqrt(2 η T): on a flat energy a move is noise alone."""
    x = torch.zeros(500, 8, dtype=torch.float64)
    sampler = Langevin(**({"steps": 3, "step_size": 0.1} | settings))
    chain = sampler(slope(0.0), x, generator=seeded(), trace=1)
    assert chain.trace is not None
    moves = torch.cat([x[None], chain.trace]).diff(dim=0)
    source = seeded()
    noise = [torch.randn(500, 8, generator=source, dtype=torch.float64) for _ in range(3)]
    expected = torch.stack([d * n for d, n in zip(deviations, noise, strict=True)])
    torch.testing.assert_close(moves, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("friction", [None, 1e6], ids=["overdamped", "underdamped"])
def test_gradient_clip_bounds_each_coordinate_of_the_gradient(friction: float | None) -> None:
    energy = Function(lambda x: 100 * x[:, 0] + 0.2 * x[:, 1])
    x = torch.zeros(2, 2, dtype=torch.float64)
    settings = {"steps": 1, "step_size": 0.5, "noise": 0.0, "friction": friction}
    moved = Langevin(gradient_clip=0.3, **settings)(energy, x).x  # type: ignore[arg-type]
    torch.testing.assert_close(moved[0], torch.tensor([-0.15, -0.1], dtype=torch.float64))


@pytest.mark.parametrize("friction", [None, 1e6], ids=["overdamped", "underdamped"])
def test_delta_clip_bounds_the_drift_and_not_the_noise(friction: float | None) -> None:
    x = torch.zeros(100, 2, dtype=torch.float64)
    settings = {"steps": 1, "step_size": 0.5, "delta_clip": 0.05, "friction": friction}
    still = Langevin(noise=0.0, **settings)(slope(100.0), x).x  # type: ignore[arg-type]
    noisy = Langevin(noise=1.0, **settings)(slope(100.0), x, generator=seeded()).x  # type: ignore[arg-type]
    torch.testing.assert_close(still, torch.full_like(x, -0.05))
    torch.testing.assert_close(noisy - still, normal(100, 2, seed=0))


@pytest.mark.parametrize("friction", [None, 0.5], ids=["overdamped", "underdamped"])
def test_clamp_bounds_every_state_coordinate_by_coordinate(friction: float | None) -> None:
    low, high = (-0.5, -1.0, -2.0), torch.tensor([0.5, 1.0, 2.0])
    sampler = Langevin(steps=40, step_size=1.0, clamp=(low, high), friction=friction)
    trace = sampler(slope(0.0), 5 * normal(8, 3), generator=seeded(), trace=1).trace
    assert trace is not None
    assert (trace.abs() <= high).all()
    assert (trace.abs() == high).any(dim=(0, 1)).all()


SCALED = {
    "overdamped": Langevin(steps=15, step_size=0.1, temperature=0.5),
    "underdamped": Langevin(steps=15, step_size=0.1, friction=0.7),
    "clipped": Langevin(steps=15, step_size=0.1, gradient_clip=0.2, delta_clip=0.015),
    "rms": Langevin(steps=15, step_size=0.1, adapt="rms"),
    "mala": MALA(steps=15, step_size=0.1, temperature=0.5),
    "hmc": HMC(steps=15, step_size=0.2, leapfrog=3),
}


@pytest.mark.parametrize("sampler", SCALED.values(), ids=SCALED)
def test_constant_preconditioner_is_running_in_scaled_coordinates(sampler: Any) -> None:
    scale, x = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64), normal(8, 3)
    settings = {name: getattr(sampler, name) for name in sampler.__dataclass_fields__}
    given = type(sampler)(**(settings | {"scale": (0.3, 1.0, 2.5)}))(ENERGY, x, generator=seeded())
    turned = sampler(Function(lambda y: ENERGY(scale * y)), x / scale, generator=seeded())
    torch.testing.assert_close(given.x, scale * turned.x, rtol=1e-9, atol=1e-9)


def test_rms_adaptation_converges_on_a_badly_scaled_quadratic() -> None:
    """Curvatures 1 and 10⁴: one plain step size cannot serve both."""
    energy = Gaussian(torch.diag(torch.tensor([1.0, 1e4], dtype=torch.float64)))
    x = torch.ones(4, 2, dtype=torch.float64)
    step = Geometric(0.1, 0.005)
    adapted = Langevin(steps=150, step_size=step, noise=0.0, adapt="rms")(energy, x)
    plain = Langevin(steps=150, step_size=1.9e-4, noise=0.0)(energy, x)  # the largest that is stable
    assert adapted.x.abs().max() < 0.02
    assert plain.x.abs().max() > 0.9
    assert Langevin(steps=150, step_size=0.005, noise=0.0)(energy, x).x.abs().max() > 1e6


def test_first_rms_step_is_one_step_size_whatever_the_scale() -> None:
    x = torch.zeros(1, 2, dtype=torch.float64)
    energy = Function(lambda x: 1e-3 * x[:, 0] - 1e5 * x[:, 1])
    moved = Langevin(steps=1, step_size=0.1, noise=0.0, adapt="rms")(energy, x).x
    torch.testing.assert_close(moved[0], torch.tensor([-0.1, 0.1], dtype=torch.float64), rtol=1e-4, atol=0)


def test_infinite_friction_is_the_overdamped_chain() -> None:
    free, thick = (
        Langevin(steps=50, step_size=0.1, temperature=0.5, friction=friction)(
            ENERGY, normal(8, 3), generator=seeded()
        )
        for friction in (None, 1e6)
    )
    torch.testing.assert_close(thick.x, free.x, rtol=1e-10, atol=1e-10)


def test_without_friction_energy_is_conserved() -> None:
    """Small steps, hardly any friction: the momentum's dynamics are Hamiltonian and an orbit comes back."""
    energy = Gaussian(torch.eye(1, dtype=torch.float64))
    step = 0.5 * (2 * math.pi / 200) ** 2  # a period of 200 steps of time sqrt(2 η)
    x = torch.ones(1, 1, dtype=torch.float64)
    sampler = Langevin(steps=200, step_size=step, noise=0.0, friction=1e-9)
    trace = sampler(energy, x, trace=100).trace
    assert trace is not None
    torch.testing.assert_close(
        trace[:, 0, 0], torch.tensor([-1.0, 1.0], dtype=torch.float64), atol=1e-3, rtol=0
    )


def test_zero_temperature_is_gradient_descent() -> None:
    energy = Gaussian(correlated_precision())
    chain = Langevin(steps=200, step_size=0.3, temperature=0.0)(energy, normal(8, 3))
    assert chain.x.abs().max() < 1e-8
    assert (chain.info["energy"].diff() <= 0).all()
