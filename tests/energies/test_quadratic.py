"""Curvature of energies of trajectories: banded, symmetric, positive semi-definite, and what it should be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ebm_control.data.normalizer import Normalizer
from ebm_control.energies import (
    BoundCost,
    BoxObstacle,
    Energy,
    GoalCost,
    OnStates,
    RewardCost,
    SmoothnessCost,
    SpeedCost,
    TransitionEnergy,
    mixture,
)
from ebm_control.energies.curvature import Quadratic, gauss_newton, neighbour_curvature, window_curvature
from tests.energies.written_out import (
    BATCH,
    BOXES,
    ENERGIES,
    NOISE,
    PLAIN,
    ROUND,
    STATES,
    aimed,
    drawn,
    made,
    reward,
    transition,
)

LENGTH = 5
LEAST_SQUARES = {
    "squared goal": lambda: aimed(norm="squared"),
    "squared goal at the end": lambda: aimed(norm="squared", last_only=True),
    "smooth": lambda: SmoothnessCost(ROUND),
    "smooth acceleration": lambda: SmoothnessCost(ROUND, order=2),
    "smooth actions": lambda: SmoothnessCost(PLAIN, of="actions"),
    "smooth jerk": lambda: SmoothnessCost(PLAIN, order=2, of="actions"),
    "bound": lambda: BoundCost([-0.5, -torch.inf], [0.5, 0.0], (4, 1)),
    "speed": lambda: SpeedCost(ROUND, [0.1, 0.2, torch.inf]),
    "on states": lambda: OnStates(SmoothnessCost(STATES), PLAIN),
    "sum": lambda: 2 * SmoothnessCost(PLAIN) + aimed(norm="squared").at(0.5) + SpeedCost(PLAIN, [0.1] * 3),
}
"""Sums of squares of residuals that are linear where they count: the curvature is the Hessian."""


def dense(bands: tuple[Tensor, ...]) -> Tensor:
    """Bands as whole matrices `(B, T*D, T*D)`."""
    batch, length, dim = bands[0].shape[:3]
    whole = bands[0].new_zeros(batch, length, dim, length, dim)
    for k, band in enumerate(bands):
        for t in range(length - k):
            whole[:, t, :, t + k] = band[:, t]
            whole[:, t + k, :, t] = band[:, t].mT
    return whole.reshape(batch, length * dim, length * dim)


def hessian(energy: Energy, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Whole Hessians `(B, n, n)` of each sample's energy, by automatic differentiation."""

    def total(x: Tensor) -> Tensor:
        return energy(x, context).sum()

    whole = torch.autograd.functional.hessian(total, x)
    size = x[0].numel()
    return torch.stack(
        [whole[b].reshape(*x.shape[1:], *x.shape)[..., b, :, :] for b in range(len(x))]
    ).reshape(len(x), size, size)


def along(model: Quadratic, move: Tensor) -> Tensor:
    """Change of the energy for a move according to a quadratic model, `(B,)`."""
    flat = move.flatten(1)
    curved = torch.einsum("bi,bij,bj->b", flat, dense(model.bands), flat)
    return (model.gradient * move).sum(dim=(1, 2)) + 0.5 * curved


def absolute(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag_embed(values.abs()) @ vectors.mT


def assert_sound(energy: Energy, x: Tensor, context: Tensor | None = None, tolerance: float = 1e-11) -> None:
    """Energy and gradient are autograd's; the bands are those of a symmetric, positive semi-definite matrix."""
    model = energy.quadratic(x, context)
    value, gradient = Energy.value_and_gradient(energy, x, context)
    torch.testing.assert_close(model.energy, value, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(model.gradient, gradient, rtol=tolerance, atol=tolerance)
    batch, length, dim = x.shape
    for k, band in enumerate(model.bands):
        assert band.shape == (batch, max(length - k, 0), dim, dim)
        assert band.dtype == x.dtype
        assert not band.requires_grad
    whole = dense(model.bands)
    size = float(whole.abs().amax())
    torch.testing.assert_close(whole, whole.mT, rtol=0, atol=tolerance * size)
    assert torch.linalg.eigvalsh(whole).min() >= -max(tolerance, 1e-10) * (1 + size)
    torch.testing.assert_close(
        dense(energy.curvature(x, context)), whole, rtol=tolerance, atol=tolerance * (1 + size)
    )


@pytest.mark.parametrize("name", ENERGIES)
def test_every_energy_has_a_sound_curvature(name: str) -> None:
    for seed in range(2):
        assert_sound(made(name), drawn(BATCH, LENGTH, 5, seed=seed))
    assert_sound(made(name, torch.float32), drawn(BATCH, LENGTH, 5).float(), tolerance=2e-4)


@pytest.mark.parametrize("name", ENERGIES)
def test_short_plans_have_a_curvature(name: str) -> None:
    for shape in ((6, 1, 5), (6, 2, 5), (6, 3, 5)):
        energy, x = made(name), drawn(*shape)
        try:
            energy(x)
        except ValueError:  # shorter than the energy's windows
            continue
        assert_sound(energy, x)


@pytest.mark.parametrize("base", ["none", "gaussian", "regression"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contexts_and_noise_levels_reach_the_curvature(base: str, dtype: torch.dtype) -> None:
    x, context = drawn(BATCH, LENGTH, 5).to(dtype), drawn(BATCH, 2, seed=2).to(dtype)
    tolerance = 1e-10 if dtype == torch.float64 else 5e-4
    for energy in (transition(ROUND, 3, base, 1, noise=True), transition(ROUND, 2, base, 2)):
        assert_sound(energy.to(dtype), x, context, tolerance)


@pytest.mark.parametrize("name", LEAST_SQUARES)
def test_a_sum_of_squares_of_linear_residuals_has_its_hessian(name: str) -> None:
    energy, x = LEAST_SQUARES[name]().double(), drawn(BATCH, LENGTH, 5)
    expected = hessian(energy, x)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(dense(energy.curvature(x)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LEAST_SQUARES)
def test_its_quadratic_model_is_exact(name: str) -> None:
    """E(x + d) = E + g d + ½ d C d, for moves that change no residual from counting to not counting."""
    energy, x = LEAST_SQUARES[name]().double(), drawn(BATCH, LENGTH, 5)
    move = 1e-4 * drawn(BATCH, LENGTH, 5, seed=9)
    model = energy.quadratic(x)
    torch.testing.assert_close(energy(x + move) - energy(x), along(model, move), rtol=1e-5, atol=1e-13)


def base_residuals(energy: TransitionEnergy, x: Tensor, context: Tensor | None) -> Tensor:
    """Residuals `(windows, obs_dim)` of one trajectory `(T, D)` in stds of its base, noised if the energy is."""
    known = context if context is None or energy.noise is None else context[:, : energy.context_dim]
    inputs, displacement = energy.windows(x[None], known)
    residual = displacement if energy.base is None else energy.base.residual(inputs, displacement)
    if energy.noise is not None:
        assert context is not None
        residual = residual / (1 + (2 * context[:, -1]).exp()).sqrt()
    return residual[0]


@pytest.mark.parametrize("noise", [False, True], ids=["clean", "noise"])
@pytest.mark.parametrize("base", ["gaussian", "regression"])
@pytest.mark.parametrize("window", [2, 3, 5])
@pytest.mark.parametrize("layout", [PLAIN, ROUND], ids=["plain", "periodic"])
def test_a_transition_energy_has_the_gauss_newton_matrix_of_its_base(
    layout: object, window: int, base: str, noise: bool
) -> None:
    energy = transition(layout, window, base, context=1, noise=noise).double()  # type: ignore[arg-type]
    x, context = drawn(3, LENGTH, 5), drawn(3, 1 + noise, seed=2).clamp(-1, 1)
    found = dense(energy.curvature(x, context))
    for b in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda one, b=b: base_residuals(energy, one, context[b : b + 1]), x[b]
        ).reshape(-1, LENGTH * 5)
        torch.testing.assert_close(found[b], jacobian.T @ jacobian, rtol=1e-10, atol=1e-10)


def test_without_a_base_a_noise_level_is_all_that_curves_a_transition_energy() -> None:
    x, context = drawn(3, LENGTH, 5), torch.full((3, 1), NOISE[0]).double().log()
    assert dense(transition(ROUND).double().curvature(x)).abs().max() == 0
    found = dense(transition(ROUND, noise=True).double().curvature(x, context))
    scale = torch.tensor([0.5, 1.0, 2.0]).double()
    diagonal = found.diagonal(dim1=1, dim2=2).reshape(3, LENGTH, 5)
    expected = (2 / scale.square() / (1 + NOISE[0] ** 2)).expand(3, LENGTH - 2, 3)
    torch.testing.assert_close(diagonal[:, 1:-1, :3], expected, rtol=1e-6, atol=0)


def sharp(states: Tensor, actions: Tensor, following: Tensor) -> Tensor:
    """A reward with curvature of both signs, between all coordinates of a transition."""
    return (
        (states * following).sum(dim=-1) + actions[..., 0].sin() * following[..., 1] - actions[..., 1].cosh()
    )


@pytest.mark.parametrize("units", [False, True], ids=["as given", "denormalised"])
def test_a_reward_has_the_absolute_eigenvalues_of_each_transition(units: bool) -> None:
    normalizer = Normalizer(
        obs_mean=torch.tensor([1.0, -2.0, 0.3]),
        obs_std=torch.tensor([0.5, 2.0, 1.5]),
        act_mean=torch.tensor([0.1, 0.0]),
        act_std=torch.tensor([0.3, 0.7]),
        state_std=torch.ones(3),
    )
    energy = RewardCost(PLAIN, sharp, denormalize=normalizer.denormalize if units else None)
    x = drawn(3, LENGTH, 5)
    expected = torch.zeros(3, 25, 25, dtype=torch.float64)
    for t in range(LENGTH - 1):
        part = slice(5 * t, 5 * t + 10)
        own = hessian(energy, x[:, t : t + 2])
        assert torch.linalg.eigvalsh(own).min() < -0.01
        expected[:, part, part] += absolute(own)
    torch.testing.assert_close(dense(energy.curvature(x)), expected, rtol=1e-8, atol=1e-9)


def test_touching_quadratics_bound_distances_and_depths_from_above() -> None:
    """E(x + d) <= E + g d + ½ d C d: a step to the minimum of such a model never raises the energy."""
    costs = [
        aimed(norm="l1", smooth=0.1),
        aimed(norm="l2", smooth=0.1),
        aimed(norm="l1", smooth=0.1, last_only=True),
    ]
    for cost in costs:
        energy, x = cost.double(), drawn(BATCH, LENGTH, 5)
        x[..., 2] = cost.goal.repeat_interleave(2, 0)[:, None, 0] + x[..., 2].clamp(
            -1, 1
        )  # within half a period
        for size in (0.1, 0.5, 1.5):
            move = size * drawn(BATCH, LENGTH, 5, seed=4)
            model = energy.quadratic(x)
            assert (energy(x + move) <= energy(x) + along(model, move) + 1e-9).all()


def test_a_problem_has_the_curvature_of_its_own_goal_and_boxes() -> None:
    x = drawn(BATCH, LENGTH, 5)
    boxes = torch.stack([BOXES, 2 * BOXES, 0.5 * BOXES])
    goal = aimed(norm="l2", smooth=0.1).double()
    several = goal + BoxObstacle(boxes, (0, 1, 2), margin=0.2).double()
    whole = dense(several.curvature(x))
    goals = goal.goal.clone()
    for problem in range(3):
        own = GoalCost(ROUND, (2, 0), norm="l2", smooth=0.1).double()
        own.set_goal(goals[problem])
        alone = own + BoxObstacle(boxes[problem], (0, 1, 2), margin=0.2).double()
        part = slice(2 * problem, 2 * problem + 2)
        torch.testing.assert_close(dense(alone.curvature(x[part])), whole[part])
    assert not torch.allclose(whole[0], whole[2])


def test_infinite_sides_and_points_outside_of_boxes_do_not_curve() -> None:
    wall = BoxObstacle(torch.tensor([[[-torch.inf, -0.5], [0.5, torch.inf]]]), (1, 3)).double()
    inside = torch.zeros(2, LENGTH, 5, dtype=torch.float64)
    assert_sound(wall, inside)
    assert dense(wall.curvature(inside)).abs().max() > 1
    assert dense(wall.curvature(inside + 3)).abs().max() == 0


def test_multiples_sums_and_mixtures_follow_from_their_parts() -> None:
    x = drawn(BATCH, LENGTH, 5)
    first, second = transition(PLAIN, 3, "regression").double(), SmoothnessCost(PLAIN)
    one, other = dense(first.curvature(x)), dense(second.curvature(x))
    for energy, expected in (
        (first + 3 * second, one + 3 * other),
        (first - second, one + other),  # a negative multiple stays positive semi-definite
        (-first, one),
        (first.at(4.0), one / 4),
    ):
        torch.testing.assert_close(dense(energy.curvature(x)), expected)
        torch.testing.assert_close(dense(energy.quadratic(x).bands), expected)
    mixed = mixture([first, second], [1.0, 2.0]).double()
    weights = mixed.probabilities(torch.stack([first(x), second(x)], dim=-1)).detach()
    expected = weights[:, 0, None, None] * one + weights[:, 1, None, None] * other
    torch.testing.assert_close(dense(mixed.curvature(x)), expected)


class Coupled(Energy):
    """An energy with nothing but a `forward`; neighbouring time steps are coupled, with curvature of both signs."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        beside = (x[:, 1:] * x[:, :-1]).sin().sum(dim=(1, 2)) if x.shape[1] > 1 else 0.0
        return (x**4).sum(dim=(1, 2)) - 2 * x.square().sum(dim=(1, 2)) + beside


class Bowl(Energy):
    """`½ xᵀ A x` with a convex coupling of neighbours, for which pairs of time steps are convex too."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return 0.5 * x.square().flatten(1).sum(dim=1) + 0.5 * x.diff(dim=1).square().flatten(1).sum(dim=1)


class Steep(SmoothnessCost):
    """Another energy than its parent's, whose curvature it must not inherit."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return 3 * super().forward(x, context)


def test_an_own_energy_needs_nothing_but_forward() -> None:
    for length in (1, 2, LENGTH):
        assert_sound(Coupled(), drawn(BATCH, length, 5))
    x = drawn(BATCH, LENGTH, 5)
    torch.testing.assert_close(dense(Bowl().curvature(x)), hessian(Bowl(), x), rtol=0, atol=1e-10)
    torch.testing.assert_close(
        dense(Steep(PLAIN).curvature(x)), 3 * dense(SmoothnessCost(PLAIN).curvature(x)), rtol=0, atol=1e-10
    )


def test_samples_that_are_no_trajectories_count_as_one_time_step() -> None:
    def tilted(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return (flat[:, 0] * flat[:, 1]).sin() + flat.pow(4).sum(dim=1)

    class Flat(Energy):
        def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
            return tilted(x)

    for shape in ((BATCH, 4), (BATCH, 2, 2, 2)):
        x = drawn(*shape)
        (block,) = Flat().curvature(x)
        whole = torch.stack(
            [torch.autograd.functional.hessian(lambda one: tilted(one[None]).sum(), row) for row in x]
        ).reshape(BATCH, x[0].numel(), -1)
        torch.testing.assert_close(block[:, 0], absolute(whole), rtol=1e-8, atol=1e-9)
        assert torch.equal(Flat().quadratic(x).gradient, Flat().value_and_gradient(x)[1])


def test_hooks_change_the_curvature_as_they_change_the_energy() -> None:
    x = drawn(BATCH, LENGTH, 5)
    for energy in (SmoothnessCost(PLAIN), SmoothnessCost(PLAIN) + SmoothnessCost(PLAIN, order=1)):
        plain = energy.quadratic(x)
        energy.register_forward_hook(lambda module, given, output: 2 * output)
        model = energy.quadratic(x)
        torch.testing.assert_close(model.energy, 2 * plain.energy)
        torch.testing.assert_close(model.gradient, 2 * plain.gradient)
        torch.testing.assert_close(dense(model.bands), 2 * dense(plain.bands), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "name", ["transition-3-3-regression", "window-3-regression", "reward", "goal l2", "sum"]
)
def test_no_graph_and_no_mode_of_the_caller_reaches_a_curvature(name: str) -> None:
    energy, x = made(name), drawn(BATCH, LENGTH, 5)
    with torch.no_grad():
        reference = energy.quadratic(x)
    with torch.inference_mode():
        inner = energy.quadratic(x.clone())
        bands = energy.curvature(x.clone())
    start = x.clone().requires_grad_()
    outer = energy.quadratic(start)
    for found in (inner.bands, bands, outer.bands):
        torch.testing.assert_close(dense(found), dense(reference.bands))
        assert not any(band.requires_grad or band.is_inference() for band in found)
    assert not inner.energy.is_inference()
    assert start.grad is None
    assert all(parameter.grad is None for parameter in energy.parameters())


def test_bands_of_windows_add_up() -> None:
    jacobian = [drawn(2, 3, 4, 5, seed=seed) for seed in range(3)]  # 3 windows of 3 time steps, 4 residuals
    whole = torch.zeros(2, 12, 25, dtype=torch.float64)
    for window in range(3):
        for i, part in enumerate(jacobian):
            place = 5 * (window + i)
            whole[:, 4 * window : 4 * window + 4, place : place + 5] += part[:, window]
    torch.testing.assert_close(dense(gauss_newton(jacobian, LENGTH)), whole.mT @ whole)


def test_energies_that_do_not_curve_or_are_not_finite_have_curvature_zero() -> None:
    x = drawn(2, LENGTH, 5)
    for energy in (lambda x: x.sum(dim=(1, 2)), lambda x: torch.nan * x.square().sum(dim=(1, 2))):
        for bands in (neighbour_curvature(energy, x), window_curvature(energy, x)):
            assert dense(bands).abs().max() == 0


def test_models_of_one_and_of_several_bands_add_up() -> None:
    one, two = aimed(norm="squared").double(), transition(PLAIN, 3, "regression").double()
    x = drawn(BATCH, LENGTH, 5)
    first, second = one.quadratic(x), two.quadratic(x)
    for total in (first + second, second + first):
        assert isinstance(total, Quadratic)
        torch.testing.assert_close(dense(total.bands), dense(first.bands) + dense(second.bands))
        torch.testing.assert_close(total.gradient, first.gradient + second.gradient)
    negative = second.scaled(-2.0)
    torch.testing.assert_close(negative.energy, -2 * second.energy)
    torch.testing.assert_close(dense(negative.bands), 2 * dense(second.bands))


def test_a_reward_as_any_function_is_what_the_energy_says() -> None:
    x = drawn(BATCH, LENGTH, 5)
    found = dense(RewardCost(PLAIN, reward).curvature(x))
    assert (
        found.diagonal(dim1=1, dim2=2)
        .reshape(BATCH, LENGTH, 5)[:, :-1, 3:]
        .allclose(torch.tensor(2.0).double())
    )
