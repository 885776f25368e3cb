"""Second-order steps: a search for a mode at temperature 0, exact sampling above it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from scipy.optimize import LinearConstraint, minimize
from scipy.stats import truncnorm
from torch import Tensor

from ebm_control.checks import InputError
from ebm_control.energies import Energy, GoalCost, SmoothnessCost, TrajectoryLayout
from ebm_control.energies.curvature import gauss_newton
from ebm_control.samplers import GaussNewton
from ebm_control.samplers.chain import run_chain
from ebm_control.samplers.second_order import ManifoldKernel
from tests.energies.written_out import drawn, made
from tests.helpers import assert_equal_up_to_rounding, normal, seeded
from tests.samplers.helpers import (
    THRESHOLD,
    Conditioned,
    Function,
    Gaussian,
    correlated_precision,
    double_well,
    exact_well_moments,
    gaussian_moments,
    moments,
    quadratic,
    well_moments,
    z_scores,
)

LINE = TrajectoryLayout(1, 1)
EXACT = 1e-8  # a damping that does not count


class Pushed(Energy):
    """`½ k |s' - s - a|²`: the dynamics of a point that actions push, `k` being its stiffness."""

    def __init__(self, stiffness: float) -> None:
        super().__init__()
        self.stiffness = stiffness

    def residual(self, x: Tensor) -> Tensor:
        return x[:, 1:, 0] - x[:, :-1, 0] - x[:, :-1, 1]

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return 0.5 * self.stiffness * self.residual(x).square().sum(dim=1)

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        slopes = self.stiffness**0.5 * torch.tensor([[[-1.0, -1.0]], [[1.0, 0.0]]]).to(x)
        count = x.shape[1] - 1
        return gauss_newton([slope.expand(len(x), count, -1, -1) for slope in slopes], x.shape[1])


class Small(Energy):
    """`½ |x|²`."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return 0.5 * x.square().sum(dim=(1, 2))

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        return (torch.eye(x.shape[2]).to(x).expand(*x.shape, x.shape[2]),)


def pushed(stiffness: float = 1e4, at: float = 3.0) -> tuple[Energy, Pushed]:
    """A quadratic energy of trajectories `(B, T, 2)`: dynamics, a goal and small actions."""
    goal, dynamics = GoalCost(LINE, (0,), norm="squared").double(), Pushed(stiffness)
    goal.set_goal([at])
    return dynamics + goal + 0.01 * Small(), dynamics


def start_held(length: int) -> Tensor:
    fixed = torch.zeros(length, 2, dtype=torch.bool)
    fixed[0, 0] = True
    return fixed


def minimum(energy: Energy, x: Tensor, fixed: Tensor) -> Tensor:
    """Minimum over the free coordinates of a quadratic energy, by a dense solution for each trajectory."""
    free = (~fixed).flatten().nonzero().flatten()
    found = x.clone()
    for b in range(len(x)):
        one = x[b : b + 1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(one).sum(), one)
        whole = torch.autograd.functional.hessian(lambda one: energy(one).sum(), one.detach())
        whole = whole.reshape(one.numel(), one.numel())[free][:, free]
        move = torch.zeros(one.numel(), dtype=x.dtype)
        move[free] = -torch.linalg.solve(whole, gradient.flatten()[free])
        found[b] += move.reshape(x.shape[1:])
    return found


@pytest.mark.parametrize("length", [2, 6, 120])
def test_one_step_solves_a_quadratic(length: int) -> None:
    energy, _ = pushed()
    x, fixed = normal(3, length, 2), start_held(length)
    chain = GaussNewton(1, damping=EXACT)(energy, x, fixed=fixed)
    expected = minimum(energy, x, fixed)
    torch.testing.assert_close(chain.x, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    assert chain.info["acceptance"].tolist() == [1.0]
    torch.testing.assert_close(chain.energy, energy(chain.x))


@pytest.mark.parametrize(
    "name",
    ["transition-3-2-regression", "goal", "goal sharp l2", "box", "speed", "reward", "sum", "window-3-none"],
)
def test_no_step_raises_the_energy(name: str) -> None:
    energy, x = made(name), 2 * drawn(6, 5, 5)
    chain = GaussNewton(8)(energy, x, trace=1)
    assert chain.trace is not None
    energies = torch.stack([energy(x), *(energy(state) for state in chain.trace)])
    assert (energies.diff(dim=0) <= 0).all()
    assert (energies[-1] < energies[0] - 0.1).any()


def test_steps_reach_the_minimum_of_a_curved_valley() -> None:
    """Rosenbrock's function, indefinite between the start and the minimum."""
    valley = Function(lambda x: 100 * (x[:, 1] - x[:, 0].square()).square() + (1 - x[:, 0]).square())
    chain = GaussNewton(60)(valley, torch.tensor([[-1.2, 1.0], [0.0, 1.5], [2.0, -1.0]]).double())
    assert (chain.x - 1).abs().max() < 1e-4


def test_bounded_steps_reach_the_bounded_minimum() -> None:
    """Compared with SciPy's trust-region method for constrained problems."""
    length, bound = 5, 0.4
    energy, _ = pushed(50.0)
    x, fixed = 0.1 * normal(2, length, 2), start_held(length)
    low, high = (torch.tensor(side, dtype=torch.float64) for side in ([-torch.inf, -bound], [1.1, bound]))
    chain = GaussNewton(30, damping=EXACT, clamp=(low, high))(energy, x, fixed=fixed)
    free = (~fixed).flatten().numpy()
    for b in range(2):
        whole = x[b].flatten().numpy().copy()

        def value(part: Any, whole: Any = whole) -> tuple[float, Any]:
            whole[free] = part
            one = torch.from_numpy(whole.copy()).reshape(1, length, 2)
            energies, gradient = energy.value_and_gradient(one)
            return float(energies), gradient.flatten().numpy()[free]

        limits = LinearConstraint(
            torch.eye(int(free.sum())).numpy(),
            low.repeat(length).numpy()[free],
            high.repeat(length).numpy()[free],
        )
        best = minimize(
            value, whole[free], jac=True, method="trust-constr", constraints=limits, options={"gtol": 1e-9}
        )
        assert chain.energy[b] == pytest.approx(best.fun, rel=1e-4)
    assert (chain.x[..., 1].abs() <= bound).all()
    assert (chain.x[:, 1:, 0] <= 1.1).all()
    assert torch.isclose(chain.x[:, :-1, 1], torch.tensor(bound).double()).sum() >= 4


def test_within_bounds_states_follow_from_the_bounded_actions() -> None:
    """A step clamped afterwards would leave states that the actions do not lead to."""
    energy, dynamics = pushed(1e6, at=0.7)
    x, fixed = torch.zeros(1, 6, 2, dtype=torch.float64), start_held(6)
    low, high = torch.tensor([-torch.inf, -0.3]), torch.tensor([torch.inf, 0.3])
    chain = GaussNewton(1, damping=EXACT, clamp=(low, high))(energy, x, fixed=fixed)
    assert torch.isclose(chain.x[0, :-1, 1], torch.tensor(0.3).double()).sum() >= 2
    assert dynamics.residual(chain.x).abs().max() < 1e-4
    unbounded = GaussNewton(1, damping=EXACT)(energy, x, fixed=fixed).x.clamp(low, high)
    assert dynamics.residual(unbounded).abs().max() > 0.1


def test_steps_do_not_depend_on_units() -> None:
    """Coordinates in other units, with a scale in the same units, take the same path."""
    units = torch.tensor([0.01, 5.0, 200.0], dtype=torch.float64)
    energy, x = Conditioned(), normal(6, 3)
    other = Function(lambda y: Conditioned()(y / units))
    for temperature in (0.0, 1.0):
        sampler = GaussNewton(6, temperature=temperature, damping=0.5, scale=torch.ones(3))
        plain = sampler(energy, x, generator=seeded())
        scaled = GaussNewton(6, temperature=temperature, damping=0.5, scale=units)
        torch.testing.assert_close(
            scaled(other, x * units, generator=seeded()).x / units, plain.x, rtol=1e-6, atol=1e-6
        )


def test_each_problem_goes_to_its_own_goal() -> None:
    """The candidates of a step are adjacent in the batch, as costs of several problems want them."""
    goal = GoalCost(LINE, (0,), norm="squared").double()
    goal.set_goal([[-2.0], [0.5], [3.0]])
    energy = goal + 0.1 * SmoothnessCost(LINE)
    chain = GaussNewton(20)(energy, normal(6, 4, 2), fixed=start_held(4))
    torch.testing.assert_close(chain.x[:, -1, 0], goal.goal[:, 0].repeat_interleave(2), rtol=0, atol=0.05)


class Broken(Energy):
    """A bowl around 1 whose first chain has another curvature."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return 0.5 * (x - 1).square().sum(dim=(1, 2))

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        bands = torch.eye(x.shape[2]).to(x).expand(len(x), x.shape[1], -1, -1).clone()
        bands[0] *= self.value
        return (bands,)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -1e6], ids=["nan", "inf", "indefinite"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("masked", [False, True], ids=["free", "fixed"])
def test_a_chain_without_a_step_stays_and_leaves_the_others_alone(
    value: float, temperature: float, masked: bool
) -> None:
    x, sampler = normal(4, 3, 2), GaussNewton(4, temperature=temperature)
    fixed = start_held(3) if masked else None
    chain = sampler(Broken(value), x, fixed=fixed, generator=seeded())
    sound = sampler(Broken(1.0), x, fixed=fixed, generator=seeded())
    assert torch.equal(chain.x[0], x[0])
    assert_equal_up_to_rounding(chain.x[1:], sound.x[1:])
    assert (chain.x[1:, 1:] != x[1:, 1:]).all()
    if not value < 0:  # there are finite proposals from an indefinite matrix, but no law of theirs
        assert chain.info["rejected"].tolist() == [1] * 4


def test_an_indefinite_matrix_is_overcome_by_damping() -> None:
    chain = GaussNewton(40)(Broken(-5.0), normal(2, 3, 2))
    torch.testing.assert_close(chain.x, torch.ones_like(chain.x), rtol=0, atol=0.02)


def test_no_energy_but_the_start_leaves_a_chain_where_it_is() -> None:
    x = normal(8, 3)
    nowhere = Function(lambda x: torch.full_like(x[:, 0], torch.nan) + 0 * x.sum(dim=1))
    for temperature in (0.0, 1.0):
        chain = GaussNewton(4, temperature=temperature)(nowhere, x, generator=seeded())
        assert torch.equal(chain.x, x)
        assert chain.info["rejected"].tolist() == [8] * 4


def test_an_energy_without_curvature_is_descended() -> None:
    slope = Function(lambda x: x.sum(dim=1))
    chain = GaussNewton(3, clamp=(-1.0, 2.0))(slope, normal(4, 3))
    torch.testing.assert_close(chain.x, torch.full((4, 3), -1.0).double())


# Above temperature 0.


@pytest.mark.slow
def test_fixed_coordinates_condition_the_law_of_the_others() -> None:
    precision = correlated_precision()
    start = normal(256, 3, seed=1)
    start[:, 0] = 0.7
    rest = precision[1:, 1:]
    mean = -torch.linalg.solve(rest, precision[1:, 0] * 0.7)
    sampler = functools.partial(GaussNewton(230, temperature=1.0), fixed=torch.tensor([True, False, False]))
    z = z_scores(
        sampler,  # type: ignore[arg-type]
        Gaussian(precision),
        start,
        lambda x: moments(x[..., 1:] - mean),
        gaussian_moments(torch.linalg.inv(rest)),
        warm_up=30,
    )
    assert z.abs().max() < THRESHOLD


@pytest.mark.slow
def test_bounds_truncate_the_law() -> None:
    low, high = -0.5, 1.0
    law = truncnorm(low, high)
    expected = torch.tensor([law.mean(), law.moment(2)])
    sampler = GaussNewton(400, temperature=1.0, step_size=0.3, clamp=(low, high))
    start = torch.zeros(256, 1, dtype=torch.float64)
    z = z_scores(sampler, Function(quadratic), start, moments, expected, warm_up=50)
    assert z.abs().max() < THRESHOLD


@pytest.mark.slow
@pytest.mark.parametrize("length", [20, 200], ids=["one block", "many blocks"])
def test_the_law_of_long_trajectories_is_exact(length: int) -> None:
    """Variances along a trajectory, and the energy: half the temperature for each coordinate."""
    energy: Energy = SmoothnessCost(LINE) + 0.3 * Small()
    one = torch.ones(1, length, 2, dtype=torch.float64)
    whole = torch.autograd.functional.hessian(lambda x: energy(x).sum(), one).reshape(2 * length, 2 * length)
    variance = torch.linalg.inv(whole).diagonal().reshape(length, 2)
    places = [0, length // 2, length - 1]

    def statistic(trace: Tensor) -> Tensor:
        n, b = trace.shape[:2]
        energies = energy(trace.flatten(0, 1)).reshape(n, b, 1)
        return torch.cat([energies, trace[:, :, places, 0].square(), trace[:, :, places, 1].square()], dim=-1)

    expected = torch.cat([torch.tensor([2.0 * length]), 2 * variance[places, 0], 2 * variance[places, 1]])
    sampler = GaussNewton(60, temperature=2.0)
    start = variance.sqrt() * normal(32, length, 2, seed=1)
    z = z_scores(sampler, energy, start, statistic, expected, warm_up=30)
    assert z.abs().max() < THRESHOLD


@dataclass(frozen=True)
class Wrong(ManifoldKernel):
    """Noise that is too wide, or an acceptance test that accepts everything."""

    width: float = 1.0
    lenient: bool = False

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        normal, uniform = super().draw(x, generator)
        return self.width * normal, torch.zeros_like(uniform) if self.lenient else uniform


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel", [Wrong(), Wrong(width=1.2), Wrong(lenient=True)], ids=["right", "wide", "lenient"]
)
def test_z_test_catches_wrong_noise_and_an_omitted_acceptance_test(kernel: Wrong) -> None:
    parameters = GaussNewton(400, temperature=1.0, damping=1.0).step_parameters()

    def sampler(energy: Energy, x: Tensor, **given: Any) -> Any:
        return run_chain(kernel, energy, x, parameters, **given)

    start = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(200)[:, None]
    z = z_scores(sampler, double_well(1.5), start, well_moments, exact_well_moments(1.5), warm_up=100)
    assert (z.abs().max() < THRESHOLD) == (kernel == Wrong())


def test_stiff_trajectories_are_sampled_at_an_acceptance_that_does_not_fall_with_stiffness() -> None:
    rates = []
    for stiffness in (1.0, 1e6):
        energy, _ = pushed(stiffness)
        chain = GaussNewton(20, temperature=1.0, damping=EXACT)(
            energy, minimum(energy, normal(16, 6, 2), start_held(6)), fixed=start_held(6), generator=seeded()
        )
        rates.append(float(chain.info["acceptance"].mean()))
    assert min(rates) > 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda model: (model.energy, model.gradient, model.bands),
            "energy.quadratic\\(x\\): expected a Quadratic",
        ),
        (lambda model: replace(model, bands=model.bands[0]), "expected a Quadratic whose bands are a tuple"),
        (
            lambda model: replace(model, gradient=model.gradient[:, 1:]),
            "gradient of energy\\(x\\): expected shape",
        ),
        (lambda model: replace(model, energy=model.energy[:, None]), "energy\\(x\\): expected shape"),
    ],
    ids=["tuple", "bands", "gradient", "energy"],
)
def test_a_quadratic_of_another_type_or_shape_is_refused(change: Any, message: str) -> None:
    class Changed(Pushed):
        def quadratic(self, x: Tensor, context: Tensor | None = None) -> Any:
            return change(super().quadratic(x, context))

    with pytest.raises(InputError, match=message):
        GaussNewton(steps=1)(Changed(1.0), torch.ones(2, 4, 2))
