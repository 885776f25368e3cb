"""Lines of sight: what is clear, how long it is, and which points of a route it makes needless."""

from __future__ import annotations

import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.energies import BoxObstacle, TrajectoryLayout, TransitionEnergy
from ebm_control.planning import LineOfSight, straightened
from tests.planning.walls import LAYOUT, WALL, Solid, crosses, energy_of, free_nodes, sight, turning_sight


def test_a_line_is_clear_exactly_where_no_piece_of_it_enters_the_wall() -> None:
    starts = torch.tensor([[-0.7, -0.6], [-0.7, -0.6], [-0.7, 0.8]])
    ends = torch.tensor([[0.7, -0.6], [-0.7, 0.8], [0.7, 0.8]])
    assert sight(WALL)(starts, ends).tolist() == [False, True, True]


def test_a_cost_blocks_lines_that_the_energy_alone_lets_pass() -> None:
    energy = energy_of(Solid(WALL))
    box = 100 * BoxObstacle(torch.tensor([[[-0.2, 0.7], [0.2, 0.9]]]), (0, 1))
    line = torch.tensor([[-0.7, 0.8]]), torch.tensor([[0.7, 0.8]])
    assert LineOfSight(energy, 1.0)(*line).item()
    assert not LineOfSight(energy, 1.0, cost=box)(*line).item()


def test_the_threshold_of_data_is_the_quantile_of_states_at_rest() -> None:
    energy = energy_of(Solid(WALL))
    states = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rest = energy(torch.stack([states, states], dim=1))
    found = LineOfSight.of_data(energy, states, 0.8).threshold
    assert found == pytest.approx(float(rest.quantile(0.8)))


def test_length_is_in_deviations_of_a_displacement_and_by_the_shorter_way_round() -> None:
    start, end = torch.tensor([[0.9, 0.0]]), torch.tensor([[-0.9, 0.0]])
    torch.testing.assert_close(sight().length(start, end), torch.tensor([18.0]))
    torch.testing.assert_close(turning_sight().length(start, end), torch.tensor([2.0]))


def test_no_lines_are_no_work() -> None:
    none = torch.zeros(0, 2)
    assert sight().worst(none, none).shape == (0,)
    assert straightened(sight(), torch.zeros(0, 4, 2)).shape[0] == 0


def test_straightening_drops_needless_points_and_keeps_corners() -> None:
    route = torch.tensor([[[-0.7, -0.6], [-0.7, 0.0], [-0.6, 0.7], [0.0, 0.8], [0.6, 0.7], [0.7, -0.6]]])
    kept = straightened(sight(WALL), route)[0]
    assert not crosses(kept)
    assert len(torch.unique(kept, dim=0)) < 6
    assert torch.equal(kept[[0, -1]], route[0, [0, -1]])


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
    energy = energy_of(Solid(WALL))
    with pytest.raises(InputError, match="piece: expected a positive number, got 0"):
        LineOfSight(energy, 1.0, piece=0)
    with pytest.raises(InputError, match="quantile"):
        LineOfSight.of_data(energy, free_nodes(sight(WALL)), 1.5)
    for wrong in (TransitionEnergy(LAYOUT, window=3), TransitionEnergy(TrajectoryLayout(2, 2))):
        with pytest.raises(InputError, match="energy: expected window 2, over states alone"):
            LineOfSight(wrong, 1.0)
