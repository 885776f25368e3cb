from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_control.checks import InputError
from ebm_control.energies import (
    Energy,
    GaussianBase,
    Mixture,
    Sum,
    TrajectoryLayout,
    TransitionEnergy,
    mixture,
)
from tests.energies.helpers import Learned, gradient, network
from tests.helpers import normal

X, CONTEXT = normal(5, 3), normal(5, 2, seed=1)
A, B, C = (Learned(3, seed) for seed in range(3))


def based() -> TransitionEnergy:
    layout = TrajectoryLayout(2, 1)
    return TransitionEnergy(layout, network(5), base=GaussianBase(2)).double()


@pytest.mark.parametrize(
    ("made", "by_hand"),
    [
        (A + B, lambda a, b: a + b),
        (A - B, lambda a, b: a - b),
        (-A, lambda a, b: -a),
        (2.5 * A, lambda a, b: 2.5 * a),
        (A * 2, lambda a, b: 2 * a),
        (A.at(4.0), lambda a, b: a / 4),
        (0.5 * (A + B) - 2 * B.at(0.5), lambda a, b: 0.5 * (a + b) - 4 * b),
        (mixture([A, B]), lambda a, b: -(0.5 * (-a).exp() + 0.5 * (-b).exp()).log()),
        (mixture([A, B], [2.0, 0.3]), lambda a, b: -(2 * (-a).exp() + 0.3 * (-b).exp()).log()),
    ],
    ids=["sum", "difference", "negation", "scale", "scale-right", "at", "nested", "mixture", "weighted"],
)
def test_algebra_gives_what_its_formula_says(made: Energy, by_hand: object) -> None:
    a, b = A(X, CONTEXT), B(X, CONTEXT)
    torch.testing.assert_close(made(X, CONTEXT), by_hand(a, b))  # type: ignore[operator]
    base, tilt = made.split(X, CONTEXT)
    torch.testing.assert_close(base + tilt, made(X, CONTEXT))


def test_mixture_does_not_overflow() -> None:
    far = mixture([1e6 * A, -1e6 * A])
    torch.testing.assert_close(far(X), -(1e6 * A(X)).abs() + torch.log(torch.tensor(2.0)), rtol=1e-6, atol=0)


def test_mixture_gradient_is_that_of_the_likelier_component() -> None:
    lower = mixture([A, B + 50 * (0.0 * A) + Shift(50.0)])
    torch.testing.assert_close(gradient(lower, X), gradient(A, X))


class Shift(Energy):
    """A constant energy."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.height = height

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return torch.full_like(x[:, 0], self.height)


def test_sums_stay_flat() -> None:
    total = A + B + (C + A)
    assert isinstance(total, Sum)
    assert list(total.terms) == [A, B, C, A]
    assert not any(isinstance(term, Sum) for term in total.terms)


def test_derived_energies_share_their_parts_parameters() -> None:
    a, b = Learned(3, 0), Learned(3, 1)
    made = 0.5 * (a + b) + mixture([a, -b])
    assert {id(p) for p in made.parameters()} == {id(p) for e in (a, b) for p in e.parameters()}
    before = made(X).clone()
    with torch.no_grad():
        next(a.parameters()).add_(1.0)
    assert not torch.allclose(made(X), before)


def test_split_of_a_sum_adds_bases_and_tilts() -> None:
    first, second = based(), based()
    x = normal(4, 5, 3)
    base, tilt = (first + 2 * second).split(x)
    torch.testing.assert_close(base, 3 * first.split(x)[0])
    torch.testing.assert_close(tilt, first.split(x)[1] + 2 * second.split(x)[1])
    assert (base > 0).all()


def test_energy_without_a_base_is_all_tilt() -> None:
    base, tilt = A.split(X)
    assert torch.equal(base, torch.zeros(5).double())
    assert torch.equal(tilt, A(X))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=3, max_size=3), st.floats(0.1, 5))
def test_mixture_weights_scale_as_densities_do(weights: list[float], factor: float) -> None:
    """Weights times c: the energy falls by log c."""
    plain, scaled = (mixture([A, B, C], w) for w in (weights, [factor * w for w in weights]))
    expected = plain(X) - torch.tensor(factor, dtype=torch.float64).log()
    torch.testing.assert_close(scaled(X), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sum([]), "terms: expected at least one energy, got none"),
        (lambda: Mixture([]), "energies: expected at least one energy, got none"),
        (lambda: mixture([A, B], [1.0]), "weights: expected 2 positive numbers, got [1.0]"),
        (lambda: mixture([A, B], [1.0, 0.0]), "weights: expected a number above 0, got 0.0"),
        (lambda: A.at(0.0), "temperature: expected a number above 0, got 0.0"),
    ],
)
def test_bad_algebra_is_named(make: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("other", [1.0, "energy", None])
def test_energies_do_not_add_to_what_is_none(other: object) -> None:
    for make in (lambda: A + other, lambda: A - other, lambda: A * A):  # type: ignore[operator]
        with pytest.raises(TypeError):
            make()


def test_factor_is_shown() -> None:
    assert "factor=0.25" in repr(A.at(4.0))
