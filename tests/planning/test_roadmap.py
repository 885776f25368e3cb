"""Edges of roadmaps and lines of sight: periods, walls' rims, needless points, bad input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ebm_control.checks import InputError
from ebm_control.energies import TrajectoryLayout, TransitionEnergy
from ebm_control.planning import LineOfSight, Roadmap, straightened

LAYOUT = TrajectoryLayout(2)
STEP = torch.full((2,), 0.1)


class Pillar(nn.Module):
    """8 where a transition ends in the square |x|, |y| < 0.4, 0 elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        end = x[..., :2] + x[..., 2:] * STEP
        return 8 * (end.abs() < 0.4).all(dim=-1, keepdim=True).float()


class Band(nn.Module):
    """8 where an angle of period 2 is within 0.25 of 0, seen as y, sine and cosine."""

    def forward(self, x: Tensor) -> Tensor:
        return 8 * (x[..., 2:3] > 0.707).float()


def sight(network: nn.Module | None = None, layout: TrajectoryLayout = LAYOUT) -> LineOfSight:
    return LineOfSight(TransitionEnergy(layout, network or Pillar(), displacement_scale=STEP), 1.0)


def grid() -> Tensor:
    axis = torch.linspace(-1, 1, 21)
    points = torch.cartesian_prod(axis, axis)
    return points[(points.abs() > 0.45).any(dim=1)]


def test_length_is_in_deviations_of_a_displacement_and_by_the_shorter_way_round() -> None:
    start, end = torch.tensor([[0.9, 0.0]]), torch.tensor([[-0.9, 0.0]])
    torch.testing.assert_close(sight().length(start, end), torch.tensor([18.0]))
    turning = sight(Band(), TrajectoryLayout(2, periods=(2.0, 0.0)))
    torch.testing.assert_close(turning.length(start, end), torch.tensor([2.0]))


def test_routes_take_the_way_round_that_is_free() -> None:
    turning = sight(Band(), TrajectoryLayout(2, periods=(2.0, 0.0)))
    points = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    nodes = points[turning(points, points)]
    start, goal = torch.tensor([[0.4, 0.0]]), torch.tensor([[-0.4, 0.0]])
    assert not turning(start, goal).item()
    route = Roadmap(turning, nodes).routes(start, goal)[0]
    assert turning(route[:-1], route[1:]).all()
    assert torch.equal(route[-1], goal[0])


def test_no_lines_are_no_work() -> None:
    none = torch.zeros(0, 2)
    assert sight().worst(none, none).shape == (0,)
    assert straightened(sight(), torch.zeros(0, 4, 2)).shape[0] == 0


def test_a_start_inside_the_wall_still_gets_a_route() -> None:
    clear = sight()
    start, goal = torch.tensor([[-0.3, 0.0]]), torch.tensor([[0.8, 0.0]])
    route = Roadmap(clear, grid()).routes(start, goal)[0]
    assert len(route) > 2
    assert clear(route[1:-1], route[2:]).all()


def test_a_clear_route_is_its_two_ends() -> None:
    route = torch.tensor([[[-0.9, 0.8], [-0.5, 0.9], [0.1, 0.7], [0.9, 0.8]]])
    assert torch.equal(straightened(sight(), route)[0], route[0, [0, 3]])


def test_neighbours_stay_joined_though_the_line_between_them_is_not_clear() -> None:
    route = torch.tensor([[[-0.8, 0.0], [0.8, 0.0], [0.8, 0.8]]])
    assert torch.equal(straightened(sight(), route), route)


def test_routes_that_end_early_repeat_their_goal() -> None:
    bent = torch.tensor([[-0.8, 0.0], [0.0, 0.9], [0.8, 0.0]])
    straight = torch.tensor([[-0.8, 0.8], [0.0, 0.8], [0.8, 0.8]])
    kept = straightened(sight(), torch.stack([bent, straight]))
    assert torch.equal(kept[0], bent)
    assert torch.equal(kept[1], straight[[0, 2, 2]])


def test_bad_input_is_named() -> None:
    clear = sight()
    roadmap = Roadmap(clear, grid(), 8)
    with pytest.raises(InputError, match="piece: expected a positive number, got 0"):
        LineOfSight(clear.energy, 1.0, piece=0)
    with pytest.raises(InputError, match="quantile"):
        LineOfSight.of_data(clear.energy, grid(), 1.5)
    with pytest.raises(InputError, match="energy: expected window 2"):
        LineOfSight(TransitionEnergy(LAYOUT, window=3), 1.0)
    with pytest.raises(InputError, match="nodes"):
        Roadmap(clear, torch.zeros(50, 3))
    with pytest.raises(InputError, match="start"):
        roadmap.routes(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(InputError, match="goal"):
        roadmap.routes(torch.zeros(1, 2), torch.zeros(2, 2))
