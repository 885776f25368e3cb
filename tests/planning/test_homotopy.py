import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ebm_control.checks import InputError
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.planning import side_of, winding

LAYOUT = TrajectoryLayout(3, periods=(0.0, 2.0, 2 * math.pi))


def arc(begin, end, centre=(0.3, -0.2), rows=40):
    angle = torch.linspace(begin, end, rows)
    return torch.tensor(centre) + torch.stack([angle.cos(), angle.sin()], dim=-1)


@given(st.floats(-7, 7), st.floats(0.1, 6), st.sampled_from([1, -1]))
def test_side_is_the_direction_of_the_sweep_wherever_it_begins(begin, sweep, sign):
    path = arc(begin, begin + sign * sweep)
    assert side_of(path, torch.tensor([0.3, -0.2])) == sign
    assert side_of(path.flip(0), torch.tensor([0.3, -0.2])) == -sign


def test_paths_over_and_under_an_obstacle_are_of_two_sides():
    x = torch.linspace(-1, 1, 21)
    over, under = (torch.stack([x, sign * (1 - x**2)], dim=-1) for sign in (1, -1))
    assert side_of(torch.stack([over, under, over]), torch.zeros(2)).tolist() == [-1, 1, -1]


def test_each_path_may_have_an_obstacle_of_its_own():
    straight = torch.stack([torch.linspace(-1, 1, 21), torch.zeros(21)], dim=-1).expand(2, -1, -1)
    assert side_of(straight, torch.tensor([[0.0, 0.5], [0.0, -0.5]])).tolist() == [1, -1]


@given(st.floats(-1, 1), st.floats(-5, 5).filter(lambda turn: abs(turn) > 0.01))
def test_winding_is_the_direction_of_the_unwrapped_turn(begin, turn):
    angle = torch.linspace(begin, begin + turn, 30, dtype=torch.float64)
    wrapped = torch.stack([0 * angle, (angle + 1) % 2 - 1, 0 * angle], dim=-1)
    assert winding(LAYOUT, wrapped, 1) == math.copysign(1, turn)
    assert winding(LAYOUT, wrapped, 2) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: side_of(torch.zeros(5, 3), torch.zeros(2)), r"paths: expected \(..., T, 2\)"),
        (lambda: side_of(torch.zeros(4, 5, 2), torch.zeros(3, 2)), r"centre: expected \(2,\) or \(4, 2\)"),
        (lambda: winding(LAYOUT, torch.zeros(5, 2), 1), "states: expected shape"),
        (lambda: winding(LAYOUT, torch.zeros(5, 3), 0), r"index: expected one of \(1, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
