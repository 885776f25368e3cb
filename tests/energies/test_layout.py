from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_control.checks import InputError
from ebm_control.energies import TrajectoryLayout
from ebm_control.energies.layout import pick
from tests.helpers import normal

LAYOUT = TrajectoryLayout(4, 2, periods=(2.0, 0.0, 2.0, math.pi))
figures = st.floats(-50, 50)


def test_states_and_actions_are_the_columns_of_a_trajectory() -> None:
    x = normal(3, 5, 6)
    assert torch.equal(torch.cat([LAYOUT.states(x), LAYOUT.actions(x)], dim=-1), x)
    assert LAYOUT.states(x).shape == (3, 5, 4)
    assert (LAYOUT.dim, LAYOUT.feature_dim, LAYOUT.periodic) == (6, 7, (0, 2, 3))


@pytest.mark.parametrize("rows", [4, 5])
def test_join_takes_an_action_for_every_row_or_for_all_but_the_last(rows: int) -> None:
    states, actions = normal(3, 5, 4), normal(3, rows, 2, seed=1)
    x = LAYOUT.join(states, actions)
    assert torch.equal(LAYOUT.states(x), states)
    assert torch.equal(LAYOUT.actions(x)[:, :rows], actions)
    assert torch.equal(LAYOUT.actions(x)[:, rows:], torch.zeros(3, 5 - rows, 2).double())


def test_join_without_actions_leaves_them_zero() -> None:
    states = normal(3, 5, 4)
    assert torch.equal(LAYOUT.actions(LAYOUT.join(states)), torch.zeros(3, 5, 2).double())
    assert torch.equal(TrajectoryLayout(4).join(states), states)


@settings(max_examples=60, deadline=None)
@given(st.lists(figures, min_size=4, max_size=4), st.lists(figures, min_size=4, max_size=4))
def test_difference_goes_the_shorter_way_round(later: list[float], earlier: list[float]) -> None:
    a, b = torch.tensor(later, dtype=torch.float64), torch.tensor(earlier, dtype=torch.float64)
    delta = LAYOUT.difference(a, b)
    period = torch.tensor(LAYOUT.periods, dtype=torch.float64)
    around = period > 0
    assert (delta.abs() <= period / 2 + 1e-9)[around].all()
    turns = ((a - b - delta) / period)[around]
    torch.testing.assert_close(turns, turns.round(), rtol=0, atol=1e-9)
    assert torch.equal(delta[~around], (a - b)[~around])


@settings(max_examples=60, deadline=None)
@given(st.lists(figures, min_size=4, max_size=4), st.lists(st.integers(-5, 5), min_size=4, max_size=4))
def test_features_and_differences_do_not_see_whole_turns(values: list[float], turns: list[int]) -> None:
    a, b = torch.tensor(values, dtype=torch.float64), torch.linspace(-0.7, 0.8, 4, dtype=torch.float64)
    turned = a + torch.tensor(turns) * torch.tensor(LAYOUT.periods, dtype=torch.float64)
    torch.testing.assert_close(LAYOUT.features(turned), LAYOUT.features(a), rtol=0, atol=1e-9)
    gap = LAYOUT.difference(turned, b) - LAYOUT.difference(a, b)
    at_half = (LAYOUT.difference(a, b).abs() - torch.tensor(LAYOUT.periods) / 2).abs() < 1e-9  # either way
    torch.testing.assert_close(gap[~at_half], torch.zeros_like(gap[~at_half]), rtol=0, atol=1e-9)


def test_features_are_the_plain_coordinates_then_sines_then_cosines() -> None:
    s = normal(3, 4)
    a, c, d = s[:, 0] * math.pi, s[:, 2] * math.pi, s[:, 3] * 2
    expected = torch.stack([s[:, 1], a.sin(), c.sin(), d.sin(), a.cos(), c.cos(), d.cos()], dim=-1)
    torch.testing.assert_close(LAYOUT.features(s), expected)
    assert LAYOUT.features(s).shape == (3, LAYOUT.feature_dim)


def test_plain_layouts_change_nothing() -> None:
    plain, a, b = TrajectoryLayout(3), normal(4, 3), normal(4, 3, seed=1)
    assert torch.equal(plain.difference(a, b), a - b)
    assert torch.equal(plain.features(a), a)


def test_difference_has_gradient_one_also_across_the_seam() -> None:
    a = torch.tensor([0.9, 0.0, -0.9, 1.5], dtype=torch.float64, requires_grad=True)
    LAYOUT.difference(a, torch.tensor([-0.9, 5.0, 0.9, -1.5], dtype=torch.float64)).sum().backward()
    assert a.grad is not None
    assert torch.equal(a.grad, torch.ones(4).double())


@pytest.mark.parametrize("index", [[0], [1, 2], [0, 2], [3, 1], [5, 4, 3, 2, 1, 0]])
def test_pick_is_indexing(index: list[int]) -> None:
    x = normal(2, 3, 6)
    assert torch.equal(pick(x, index), x[..., index])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"obs_dim": 0}, "obs_dim: expected a whole number of at least 1, got 0"),
        ({"obs_dim": 2, "act_dim": -1}, "act_dim: expected a whole number of at least 0, got -1"),
        ({"obs_dim": 2, "periods": (1.0,)}, "periods: expected () or 2 numbers"),
        ({"obs_dim": 2, "periods": (1.0, -1.0)}, "periods: expected a number of at least 0, got -1.0"),
    ],
)
def test_bad_layouts_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        TrajectoryLayout(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 7), (1, 3, 5, 6)])
def test_trajectories_of_another_shape_are_named(shape: tuple[int, ...]) -> None:
    message = f"plan: expected shape (any, any, 6), got shape {shape}"
    with pytest.raises(InputError, match=re.escape(message)):
        LAYOUT.check("plan", torch.zeros(shape))
