"""MPPI and CEM: searches with the signature of a sampler."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm_control.checks import InputError
from ebm_control.energies import GoalCost, SmoothnessCost, TrajectoryLayout
from ebm_control.samplers import CEM, MPPI, Geometric
from ebm_control.samplers.kernel import Target
from ebm_control.samplers.population import CEMKernel, MPPIKernel, coloured_factor, smooth_factor
from tests.helpers import normal, seeded
from tests.samplers.helpers import Conditioned, Function

SEARCHES: dict[str, Any] = {
    "mppi": MPPI(steps=100, candidates=128, noise=Geometric(0.5, 0.02)),
    "cem": CEM(steps=60, candidates=256, elites=50, noise=0.5, minimum=0.02),
    "mppi, wide": MPPI(60, 256, 1.0, 0.2, elites=24, adapt=0.5, smooth=False, colour=1.0, free=True),
    "cem, wide": CEM(60, 256, elites=24, noise=1.0, smooth=False, colour=1.0, free=True),
}
every_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


@every_search
def test_search_finds_the_optimum_of_a_quadratic(search: Any) -> None:
    wanted = normal(8, 3, seed=1).clamp(-1, 1)
    energy = Function(lambda x: (x - wanted.repeat_interleave(len(x) // 8, dim=0)).square().sum(dim=1))
    chain = search(energy, torch.zeros(8, 3, dtype=torch.float64), generator=seeded())
    assert (chain.x - wanted).abs().max() < 0.03
    assert chain.energy.max() < 1e-3


@every_search
def test_search_finds_the_optimum_of_a_trajectory_cost(search: Any) -> None:
    """Start held, a goal for every later row, smoothness against it: the optimum is that of a linear system."""
    layout = TrajectoryLayout(2)
    goal = GoalCost(layout, [0, 1], norm="squared")
    goal.set_goal(torch.tensor([0.6, -0.4]))
    energy = (0.05 * goal + SmoothnessCost(layout)).double()
    x = torch.zeros(4, 12, 2, dtype=torch.float64)
    fixed = torch.zeros(12, 2, dtype=torch.bool)
    fixed[0] = True

    def cost(rest: torch.Tensor) -> torch.Tensor:
        return energy(torch.cat([x[:1, :1], rest.reshape(1, 11, 2)], dim=1)).squeeze(0)

    zero = torch.zeros(22, dtype=torch.float64)
    slope = torch.func.grad(cost)(zero)
    optimum = -torch.linalg.solve(torch.func.hessian(cost)(zero), slope).reshape(11, 2)
    chain = search(energy, x, fixed=fixed, generator=seeded())
    assert (chain.x[:, 1:] - optimum).abs().max() < 0.1
    assert (chain.energy < 1.02 * cost(optimum.flatten())).all()


@every_search
def test_problems_of_one_batch_have_goals_of_their_own(search: Any) -> None:
    """Candidates of a chain are read with the goal and the context of that chain."""
    goal = GoalCost(TrajectoryLayout(1), [0], norm="squared", last_only=True)
    goal.set_goal(torch.tensor([[-0.5], [0.5]]))
    x = torch.zeros(4, 3, 1, dtype=torch.float64)
    ends = search(goal.double(), x, generator=seeded()).x[:, -1, 0]
    torch.testing.assert_close(ends, torch.tensor([-0.5, -0.5, 0.5, 0.5]).double(), atol=0.03, rtol=0)


@every_search
def test_bounds_and_scales_hold_coordinate_by_coordinate(search: Any) -> None:
    away = Function(lambda x: -x.sum(dim=1))
    settings = {name: getattr(search, name) for name in search.__dataclass_fields__}
    bounded = type(search)(**(settings | {"clamp": (-1.0, (0.2, 0.9))}))
    x = torch.zeros(4, 2, dtype=torch.float64)
    torch.testing.assert_close(
        bounded(away, x, generator=seeded()).x, torch.tensor([[0.2, 0.9]] * 4).double(), atol=0.02, rtol=0
    )


@every_search
def test_scale_of_every_chain_and_coordinate_is_taken(search: Any) -> None:
    """A scale shaped as `x`: the coordinates of scale 10⁻⁹ stay, the others move."""
    x = normal(4, 5, 2)
    scale = torch.ones(4, 5, 2)
    scale[0] = 1e-9
    settings = {name: getattr(search, name) for name in search.__dataclass_fields__}
    scaled = type(search)(**(settings | {"scale": scale, "steps": 3}))
    moved = (scaled(Conditioned(2), x, generator=seeded()).x - x).abs()
    assert moved[0].max() < 1e-6
    assert moved[1:].amax(dim=(1, 2)).min() > 1e-2


def test_cem_ends_at_the_best_candidate_seen() -> None:
    seen: list[float] = []

    def noted(x: torch.Tensor) -> torch.Tensor:
        value = (3 * x).sin().sum(dim=1) + x.square().sum(dim=1)
        seen.append(float(value.min()))
        return value

    chain = CEM(steps=10, candidates=16, elites=4)(Function(noted), normal(1, 3), generator=seeded())
    assert float(chain.energy) == min(seen)


def test_cem_keeps_its_deviation_where_nothing_selects() -> None:
    """Elites of a flat energy are candidates like any other: their deviation is that of the noise, at the
    ends of a trajectory too, where smooth noise is small.
    """
    kernel = CEMKernel(4000, True, 2000)
    target = Target(Function(lambda x: 0 * x.flatten(1).sum(dim=1)), None)
    x = torch.zeros(1, 9, 1, dtype=torch.float64)
    state, source, row = kernel.init(target, x), seeded(), torch.tensor([0.3, 0.006], dtype=torch.float64)
    first = state["std"].clone()
    for _ in range(6):
        state, _ = kernel.step(target, state, kernel.draw(x, source), row, torch.ones(()).double())
    torch.testing.assert_close(state["std"], first, rtol=0.15, atol=0)


def test_cem_refit_keeps_the_smoothed_share_of_its_mean_and_variance() -> None:
    x, source = normal(3, 5, 2), normal(3, 16, 5, 2, seed=1)
    row, one = torch.tensor([0.3, 0.006], dtype=torch.float64), torch.ones(()).double()
    target, new = Target(Function(lambda x: x.square().flatten(1).sum(dim=1)), None), {}
    for smoothing in (0.0, 0.25):
        kernel = CEMKernel(16, False, 4, smoothing)
        old = kernel.init(target, x)
        new[smoothing], _ = kernel.step(target, old, (source,), row, one)
    plain, smoothed = new[0.0], new[0.25]
    torch.testing.assert_close(smoothed["x"], 0.75 * plain["x"] + 0.25 * x)
    variance = 0.75 * plain["std"].square() + 0.25 * old["std"].square()
    torch.testing.assert_close(smoothed["std"].square(), variance)
    assert torch.equal(smoothed["best"], plain["best"])


def test_mppi_weighs_candidates_by_their_energy() -> None:
    """Weights exp(-(E - min) / (λ rms)), written out for one update."""
    x, sampler = normal(2, 3), MPPI(steps=1, candidates=5, noise=0.4, temperature=0.5)
    chain = sampler(Conditioned(), x, generator=seeded())
    (noise,) = MPPIKernel(5, True).draw(x, seeded())
    candidates = x[:, None] + 0.4 * noise
    energies = Conditioned()(candidates.flatten(0, 1)).reshape(2, 5).detach()
    above = energies - energies.amin(dim=1, keepdim=True)
    weights = torch.softmax(-above / (0.5 * above.square().mean(dim=1, keepdim=True).sqrt()), dim=1)
    expected = (weights[..., None] * candidates).sum(dim=1)
    torch.testing.assert_close(chain.x, expected, rtol=1e-9, atol=1e-9)


def test_smooth_noise_has_the_inverse_squared_second_difference_for_its_covariance() -> None:
    n = 8
    A = 2 * torch.eye(n) - torch.diag(torch.ones(n - 1), 1) - torch.diag(torch.ones(n - 1), -1)
    wanted = torch.linalg.inv(A.double().T @ A.double())
    wanted = wanted / wanted.diagonal().max()
    factor = smooth_factor(n, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(factor @ factor.T, wanted)
    (noise,) = MPPIKernel(20_000, True).draw(torch.zeros(1, n, 2, dtype=torch.float64), seeded())
    for coordinate in range(2):
        torch.testing.assert_close(noise[0, ..., coordinate].T.cov(), wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize("kernel", [MPPIKernel(6, True), CEMKernel(6, True, 2)], ids=["mppi", "cem"])
def test_first_candidate_is_the_mean_itself(kernel: Any) -> None:
    (noise,) = kernel.draw(normal(3, 5, 2), seeded())
    assert torch.equal(noise[:, 0], torch.zeros(3, 5, 2, dtype=torch.float64))
    assert (noise[:, 1:] != 0).all()


def test_noise_is_independent_where_smoothness_is_not_asked_for() -> None:
    (noise,) = MPPIKernel(20_000, False).draw(torch.zeros(1, 4, 1, dtype=torch.float64), seeded())
    torch.testing.assert_close(noise[0, ..., 0].T.cov(), torch.eye(4).double(), rtol=0, atol=0.05)


WIDE: dict[str, Any] = {
    "mppi": MPPI(
        8, 64, 2.0, 0.2, elites=8, adapt=0.5, smooth=False, colour=1.0, free=True, clamp=(-1.0, 1.0)
    ),
    "cem": CEM(8, 64, elites=8, noise=2.0, smooth=False, colour=1.0, free=True, clamp=(-1.0, 1.0)),
}
every_wide = pytest.mark.parametrize("search", WIDE.values(), ids=WIDE)


def alternating(x: Tensor) -> Tensor:
    """Lowest where the coordinates of a trajectory lie at their two bounds in turn."""
    sign = torch.tensor([1.0, -1.0], dtype=x.dtype).repeat(x.shape[1])[: x.shape[1], None]
    return -(sign * x).sum(dim=(1, 2))


@every_wide
def test_free_candidates_reach_bounds_that_clamped_ones_stop_short_of(search: Any) -> None:
    x, energy = torch.zeros(4, 10, 2, dtype=torch.float64), Function(alternating)
    free = search(energy, x, generator=seeded())
    held = replace(search, free=False)(energy, x, generator=seeded())
    assert free.energy.mean() < held.energy.mean() - 0.5
    assert (free.x.abs() == 1).double().mean() > 0.65
    assert (held.x.abs() == 1).double().mean() < 0.4


@every_wide
def test_free_candidates_are_evaluated_and_returned_within_the_bounds_and_the_mask(search: Any) -> None:
    seen: list[Tensor] = []

    def noted(x: Tensor) -> Tensor:
        seen.append(x)
        return alternating(x)

    x = 0.5 * normal(3, 10, 2)
    x[:, 0] = 5.0  # a fixed value beyond the bounds stays what it is
    fixed = torch.zeros(10, 2, dtype=torch.bool)
    fixed[0] = True
    chain = search(Function(noted), x, fixed=fixed, generator=seeded(), trace=1)
    for states in (*seen, chain.x, *chain.trace):
        assert (states[:, 0] == 5.0).all()
        assert (states[:, 1:].abs() <= 1).all()
    torch.testing.assert_close(chain.energy, alternating(chain.x))


@every_search
def test_energies_of_another_float_type_are_taken(search: Any) -> None:
    energy = Function(lambda x: x.float().square().sum(dim=1))
    chain = replace(search, steps=2)(energy, normal(3, 2), generator=seeded())
    assert chain.x.dtype == torch.float64
    assert chain.x.isfinite().all()


@every_wide
def test_free_searches_without_bounds_are_the_others_to_the_bit(search: Any) -> None:
    x, open_ = normal(3, 10, 2), replace(search, clamp=None)
    energy = Function(lambda x: x.square().flatten(1).sum(dim=1))
    free, held = (replace(open_, free=flag)(energy, x, generator=seeded()).x for flag in (True, False))
    assert torch.equal(free, held)


def test_only_elites_count_in_mppi_and_infinite_energies_never_do() -> None:
    kernel = MPPIKernel(5, False, 2)
    energies = torch.tensor([[3.0, 1.0, 2.0, 9.0, torch.inf], [torch.inf] * 4 + [1.0], [torch.inf] * 5])
    weight = kernel.weights(energies, torch.tensor(0.5))
    above = torch.tensor([0.0, 1.0])  # of the two elites, which also set the unit of the temperature
    expected = torch.softmax(-above / (0.5 * above.square().mean().sqrt()), dim=0)
    torch.testing.assert_close(weight[0], torch.tensor([0, *expected.tolist(), 0, 0]))
    assert weight[1].tolist() == [0, 0, 0, 0, 1]
    assert weight[2].tolist() == [0] * 5


def test_adapted_std_follows_the_weighted_variance_of_the_candidates_by_coordinate() -> None:
    """Where the energy selects the noise shrinks; where nothing selects it stays as it was, smooth or not."""
    energy = Function(lambda x: x[..., 0].square().sum(dim=1))
    x, row, one = torch.zeros(1, 9, 2).double(), torch.tensor([0.7, 2.0]).double(), torch.ones(()).double()
    for smooth in (False, True):
        kernel, source = MPPIKernel(4000, smooth, 400, 0.5), seeded()
        target = Target(energy, None)
        state = kernel.init(target, x)
        for _ in range(4):
            state, _ = kernel.step(target, state, kernel.draw(x, source), row, one)
        assert (state["std"][..., 0] < 0.9).all()
        torch.testing.assert_close(state["std"][..., 1], torch.ones(1, 9).double(), rtol=0.2, atol=0)


def test_std_stays_where_fewer_than_two_energies_are_finite() -> None:
    kernel, x = MPPIKernel(8, False, None, 1.0), torch.zeros(1, 3).double()
    target = Target(Function(lambda x: torch.where(x.abs().sum(dim=1) > 0, torch.nan, 0.0)), None)
    row = torch.tensor([0.7, 0.2]).double()
    state, _ = kernel.step(
        target, kernel.init(target, x), kernel.draw(x, seeded()), row, torch.ones(()).double()
    )
    assert (state["std"] == 1).all()
    assert (state["x"] == 0).all()


@pytest.mark.parametrize("colour", [0.5, 1.0, 2.0])
def test_coloured_noise_has_std_1_and_the_power_spectrum_of_its_colour(colour: float) -> None:
    length = 12
    factor = coloured_factor(length, colour, torch.zeros((), dtype=torch.float64))
    covariance = factor @ factor.T
    torch.testing.assert_close(covariance.diagonal(), torch.ones(length).double())
    # Stationary, so that its first row has all lags; with those beyond the middle mirrored they have the spectrum.
    lags = torch.arange(length)
    torch.testing.assert_close(covariance, covariance[0][(lags[:, None] - lags).abs()])
    (noise,) = MPPIKernel(20_000, False, colour=colour).draw(torch.zeros(1, length, 2).double(), seeded())
    for coordinate in range(2):
        torch.testing.assert_close(noise[0, ..., coordinate].T.cov(), covariance, rtol=0, atol=0.05)
    power = torch.arange(length + 1).double().clamp_min(1) ** -colour
    angles = torch.pi * torch.arange(length)[:, None] * torch.arange(length + 1).double() / length
    multiple = torch.tensor([1.0, *[2.0] * (length - 1), 1.0]).double()
    expected = (multiple * power * angles.cos()).sum(dim=1) / (multiple * power).sum()
    torch.testing.assert_close(covariance[0], expected)


@pytest.mark.parametrize("kind", [MPPI, CEM])
def test_noise_is_smooth_or_coloured_but_not_both(kind: Any) -> None:
    with pytest.raises(InputError, match=r"colour: expected 0 with smooth=True.*, got 1.0"):
        kind(colour=1.0)
    assert kind(colour=1.0, smooth=False).colour == 1.0
