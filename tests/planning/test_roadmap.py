"""Roadmaps: routes that are clear and nearly shortest, round walls and round circles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm_control.checks import InputError
from ebm_control.energies import BoxObstacle
from ebm_control.planning import LineOfSight, Roadmap
from tests.planning.walls import WALL, Solid, crosses, energy_of, free_nodes, sight, turning_sight

START, GOAL = torch.tensor([[-0.7, -0.6]]), torch.tensor([[0.7, -0.6]])


@pytest.fixture(scope="module")
def roadmap() -> Roadmap:
    sees = sight(WALL)
    return Roadmap(sees, free_nodes(sees))


def grid() -> Tensor:
    axis = torch.linspace(-1, 1, 21)
    points = torch.cartesian_prod(axis, axis)
    return points[(points.abs() > 0.45).any(dim=1)]


def test_a_route_goes_through_the_gap_and_is_nearly_shortest(roadmap: Roadmap) -> None:
    route = roadmap.routes(START, GOAL)[0]
    assert torch.equal(route[[0, -1]], torch.cat([START, GOAL]))
    assert not crosses(route)
    length = float((route[1:] - route[:-1]).norm(dim=-1).sum())
    corners = np.array([[-0.7, -0.6], [-0.1, 0.5], [0.1, 0.5], [0.7, -0.6]])
    shortest = np.linalg.norm(np.diff(corners, axis=0), axis=1).sum()
    assert shortest <= length + 1e-6 < 1.12 * shortest


def test_routes_of_many_problems_are_those_of_each_alone(roadmap: Roadmap) -> None:
    starts = torch.tensor([[-0.7, -0.6], [-0.7, -0.6], [0.5, 0.9]])
    goals = torch.tensor([[0.7, -0.6], [-0.6, -0.5], [-0.5, 0.9]])
    routes = roadmap.routes(starts, goals)
    for i in range(3):
        alone = roadmap.routes(starts[i : i + 1], goals[i : i + 1])[0]
        torch.testing.assert_close(routes[i, : len(alone)], alone)
        torch.testing.assert_close(routes[i, -1], goals[i])


def test_without_a_way_the_route_is_the_straight_line(roadmap: Roadmap) -> None:
    across = 100 * BoxObstacle(torch.tensor([[[-0.15, -2.0], [0.15, 2.0]]]), (0, 1))
    closed = LineOfSight(energy_of(Solid(WALL)), 1.0, cost=across)
    assert torch.equal(Roadmap(closed, roadmap.nodes).routes(START, GOAL)[0], torch.cat([START, GOAL]))


def test_routes_keep_away_from_refused_moves_each_from_its_own(roadmap: Roadmap) -> None:
    nothing = torch.full((2, 3, 2), torch.nan)
    usual = roadmap.routes(START.repeat(2, 1), GOAL.repeat(2, 1), refused=nothing)
    torch.testing.assert_close(usual[0], roadmap.routes(START, GOAL)[0])
    places = nothing.clone()
    places[1, 0] = torch.tensor([0.0, usual[0, :, 1].max()])  # on the way through the gap
    kept, wider = roadmap.routes(START.repeat(2, 1), GOAL.repeat(2, 1), refused=places)
    torch.testing.assert_close(kept[: usual.shape[1]], usual[0])
    assert not crosses(wider)
    legs = wider[:-1], wider[1:]
    assert not roadmap.clear.nears(*legs, places[1].expand(len(legs[0]), -1, -1)).any()
    assert roadmap.clear.nears(kept[:-1], kept[1:], places[1].expand(len(kept) - 1, -1, -1)).any()


def test_refusals_that_leave_no_way_are_let_go(roadmap: Roadmap) -> None:
    gate = torch.stack([torch.zeros(40), torch.linspace(0.4, 1.1, 40)], dim=1)[None]
    route = roadmap.routes(START, GOAL, refused=gate)[0]
    assert not crosses(route)
    assert torch.equal(route[-1], GOAL[0])


def test_no_problems_give_no_routes(roadmap: Roadmap) -> None:
    assert roadmap.routes(START[:0], GOAL[:0]).shape == (0, 2, 2)


def test_routes_take_the_way_round_that_is_free() -> None:
    turning = turning_sight()
    start, goal = torch.tensor([[0.4, 0.0]]), torch.tensor([[-0.4, 0.0]])
    assert not turning(start, goal).item()
    route = Roadmap(turning, free_nodes(turning, 300)).routes(start, goal)[0]
    assert turning(route[:-1], route[1:]).all()
    assert torch.equal(route[-1], goal[0])


def test_a_start_inside_the_wall_still_gets_a_route() -> None:
    clear = sight()
    start, goal = torch.tensor([[-0.3, 0.0]]), torch.tensor([[0.8, 0.0]])
    route = Roadmap(clear, grid()).routes(start, goal)[0]
    assert len(route) > 2
    assert clear(route[1:-1], route[2:]).all()


def test_bad_input_is_named(roadmap: Roadmap) -> None:
    with pytest.raises(InputError, match="nodes: expected shape"):
        Roadmap(roadmap.clear, torch.zeros(50, 3))
    with pytest.raises(InputError, match="nodes: expected more than 24, got 10 clear ones"):
        Roadmap(roadmap.clear, roadmap.nodes[:10])
    with pytest.raises(InputError, match="start"):
        roadmap.routes(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(InputError, match="goal"):
        roadmap.routes(torch.zeros(1, 2), torch.zeros(2, 2))
    with pytest.raises(InputError, match="refused"):
        roadmap.routes(START, GOAL, refused=torch.zeros(2, 3, 2))
