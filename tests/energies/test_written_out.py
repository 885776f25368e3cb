"""Gradients that are written out equal those of automatic differentiation."""

from __future__ import annotations

import pytest
import torch

from ebm_control.energies import (
    MLP,
    BoundCost,
    BoxObstacle,
    Energy,
    GoalCost,
    NetworkEnergy,
    Observed,
    SmoothnessCost,
    SpeedCost,
)
from tests.energies.written_out import BATCH, ENERGIES, PLAIN, ROUND, check, drawn, made, transition, window


@pytest.mark.parametrize("name", ENERGIES)
def test_gradients_equal_those_of_autograd(name: str) -> None:
    energy = made(name)
    for seed in range(5):
        check(energy, drawn(BATCH, 5, 5, seed=seed))


@pytest.mark.parametrize("name", ENERGIES)
def test_gradients_do_not_depend_on_memory_layout_or_precision(name: str) -> None:
    x = drawn(5, BATCH, 5, seed=8).transpose(0, 1)
    check(made(name), x)
    check(made(name, torch.float32), x.float(), tolerance=2e-4)
    check(made(name, torch.float32), x, tolerance=2e-4)  # double samples, float weights
    check(made(name), x.float(), tolerance=2e-4)


@pytest.mark.parametrize(
    "name", ["transition-3-3-regression", "window-3-regression", "goal", "box", "sum", "spectral"]
)
def test_no_graph_no_parameter_gradient_and_no_shared_memory_in_any_mode(name: str) -> None:
    energy, x = made(name), drawn(BATCH, 5, 5)
    reference = Energy.value_and_gradient(energy, x)
    start = x.clone().requires_grad_()
    first = energy.value_and_gradient(start)
    kept = [part.clone() for part in first]
    with torch.inference_mode():
        inner = energy.value_and_gradient(x.clone())
    second = energy.value_and_gradient(x + 1)
    for part, copied, inside, one, after in zip(first, kept, inner, reference, second, strict=True):
        assert torch.equal(part, copied)
        assert not part.requires_grad
        assert not inside.is_inference()
        torch.testing.assert_close(part, one)
        torch.testing.assert_close(inside, one)
        assert part.untyped_storage().data_ptr() != after.untyped_storage().data_ptr()
    assert all(parameter.grad is None for parameter in energy.parameters())
    assert start.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contexts_and_noise_levels_reach_the_gradient(dtype: torch.dtype) -> None:
    x, context = drawn(BATCH, 5, 5).to(dtype), drawn(BATCH, 2, seed=2).to(dtype)
    tolerance = 1e-11 if dtype == torch.float64 else 2e-4
    for base in ("none", "gaussian", "regression"):
        check(transition(ROUND, 3, base, 1, noise=True).to(dtype), x, context, tolerance)
        check(transition(ROUND, 2, base, 2).to(dtype), x, context, tolerance)
    check(window(PLAIN, "regression", 1, noise=True).to(dtype), x, context, tolerance)
    check(window(ROUND, "none", 2).to(dtype), x, context, tolerance)
    known = drawn(5, 5, seed=7) > 0
    observed = Observed(transition(PLAIN, 2, "regression", 1, noise=True), known, drawn(BATCH, 5, 5), 0.3)
    check(observed.to(dtype), x, context, tolerance)
    flat = NetworkEnergy(MLP(7, (8, 8))).to(dtype)
    check(flat, x[:, 0], context, tolerance)
    check(NetworkEnergy(MLP(5, (8, 8))).to(dtype), x[:, 0], None, tolerance)


def test_ties_and_touching_bounds_share_the_gradient_as_autograd_does() -> None:
    x = torch.zeros(2, 5, 5, dtype=torch.float64)
    cube = torch.tensor([[[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]])
    check(BoxObstacle(cube, (0, 1, 2)), x)
    check(BoxObstacle(cube, (0, 1, 2)), x + 0.5)
    check(BoundCost([0.0], [0.0], (1,)), x)
    check(SpeedCost(PLAIN, [0.0] * 3), x)
    check(GoalCost(PLAIN, (0, 1)), x)
    check(GoalCost(PLAIN, (0, 1), norm="l2"), x)


@pytest.mark.parametrize(
    "name", ["transition-0-2-regression", "goal squared", "smooth", "bound", "speed", "sum"]
)
def test_batches_without_chains_and_plans_of_two_time_steps_have_gradients(name: str) -> None:
    check(made(name), drawn(6, 2, 5))
    if "goal" not in name and name != "sum":
        check(made(name), drawn(0, 5, 5))


def test_short_plans_have_no_acceleration() -> None:
    for order, of in ((1, "actions"), (2, "states"), (2, "actions")):
        for rows in (2, 3):
            check(SmoothnessCost(PLAIN, order=order, of=of), drawn(3, rows, 5))
