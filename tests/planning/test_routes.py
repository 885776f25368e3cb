"""Roadmaps, lines of sight and planners that follow routes, in a plane with a wall that has one gap."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ebm_control.checks import InputError
from ebm_control.data import Normalizer
from ebm_control.energies import (
    BoxObstacle,
    GaussianBase,
    GoalCost,
    SpeedCost,
    TrajectoryLayout,
    TransitionEnergy,
)
from ebm_control.planning import (
    ClosedForm,
    Guided,
    GuidedPlan,
    LineOfSight,
    MPCAgent,
    Planner,
    Roadmap,
    run_episodes,
    straightened,
)
from ebm_control.samplers import Langevin

LAYOUT = TrajectoryLayout(2)
SCALE = torch.full((2,), 0.1)
WALL = torch.tensor([[-0.1, -1.0], [0.1, 0.5]])  # between left and right, open above y = 0.5


class Wall(nn.Module):
    """Tilt of 8 inside the wall, soft at its edges; sees the state and the displacement in units of SCALE."""

    def forward(self, x: Tensor) -> Tensor:
        end = x[..., :2] + x[..., 2:] * SCALE
        depth = torch.minimum(end - WALL[0], WALL[1] - end).amin(dim=-1, keepdim=True)
        return 8 * torch.sigmoid(depth / 0.02)


@pytest.fixture
def energy() -> TransitionEnergy:
    return TransitionEnergy(LAYOUT, Wall(), base=GaussianBase(2, 1.2), displacement_scale=SCALE)


@pytest.fixture
def sees(energy: TransitionEnergy) -> LineOfSight:
    return LineOfSight(energy, 1.0)


@pytest.fixture
def nodes() -> Tensor:
    points = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    inside = ((points > WALL[0] - 0.05) & (points < WALL[1] + 0.05)).all(dim=1)
    return points[~inside]


START, GOAL = torch.tensor([[-0.7, -0.6]]), torch.tensor([[0.7, -0.6]])


def crosses(points: Tensor) -> bool:
    """Whether a polyline (R, 2) enters the wall."""
    share = torch.linspace(0, 1, 200)[:, None, None]
    dense = (points[:-1] + share * (points[1:] - points[:-1])).flatten(0, 1)
    return bool(((dense > WALL[0]) & (dense < WALL[1])).all(dim=1).any())


def test_a_line_is_clear_exactly_where_no_piece_of_it_enters_the_wall(sees: LineOfSight) -> None:
    starts = torch.tensor([[-0.7, -0.6], [-0.7, -0.6], [-0.7, 0.8]])
    ends = torch.tensor([[0.7, -0.6], [-0.7, 0.8], [0.7, 0.8]])
    assert sees(starts, ends).tolist() == [False, True, True]


def test_a_cost_blocks_lines_that_the_energy_alone_lets_pass(energy: TransitionEnergy) -> None:
    box = 100 * BoxObstacle(torch.tensor([[[-0.2, 0.7], [0.2, 0.9]]]), (0, 1))
    line = torch.tensor([[-0.7, 0.8]]), torch.tensor([[0.7, 0.8]])
    assert LineOfSight(energy, 1.0)(*line).item()
    assert not LineOfSight(energy, 1.0, cost=box)(*line).item()


def test_the_threshold_of_data_is_the_quantile_of_states_at_rest(
    energy: TransitionEnergy, nodes: Tensor
) -> None:
    rest = energy(torch.stack([nodes, nodes], dim=1))
    assert LineOfSight.of_data(energy, nodes, 0.8).threshold == pytest.approx(float(rest.quantile(0.8)))


def test_a_route_goes_through_the_gap_and_is_nearly_shortest(sees: LineOfSight, nodes: Tensor) -> None:
    route = Roadmap(sees, nodes).routes(START, GOAL)[0]
    assert torch.equal(route[0], START[0])
    assert torch.equal(route[-1], GOAL[0])
    assert not crosses(route)
    length = float((route[1:] - route[:-1]).norm(dim=-1).sum())
    corners = np.array([[-0.7, -0.6], [-0.1, 0.5], [0.1, 0.5], [0.7, -0.6]])
    shortest = np.linalg.norm(np.diff(corners, axis=0), axis=1).sum()
    assert shortest <= length + 1e-6 < 1.12 * shortest


def test_routes_of_many_problems_are_those_of_each_alone(sees: LineOfSight, nodes: Tensor) -> None:
    roadmap = Roadmap(sees, nodes)
    starts = torch.tensor([[-0.7, -0.6], [-0.7, -0.6], [0.5, 0.9]])
    goals = torch.tensor([[0.7, -0.6], [-0.6, -0.5], [-0.5, 0.9]])
    routes = roadmap.routes(starts, goals)
    for i in range(3):
        alone = roadmap.routes(starts[i : i + 1], goals[i : i + 1])[0]
        torch.testing.assert_close(routes[i, : len(alone)], alone)
        torch.testing.assert_close(routes[i, -1], goals[i])


def test_without_a_way_the_route_is_the_straight_line(energy: TransitionEnergy, nodes: Tensor) -> None:
    closed = LineOfSight(
        energy, 1.0, cost=100 * BoxObstacle(torch.tensor([[[-0.15, -2.0], [0.15, 2.0]]]), (0, 1))
    )
    route = Roadmap(closed, nodes).routes(START, GOAL)[0]
    assert torch.equal(route, torch.cat([START, GOAL]))


def test_straightening_drops_needless_points_and_keeps_corners(sees: LineOfSight) -> None:
    route = torch.tensor([[[-0.7, -0.6], [-0.7, 0.0], [-0.6, 0.7], [0.0, 0.8], [0.6, 0.7], [0.7, -0.6]]])
    kept = straightened(sees, route)[0]
    assert not crosses(kept)
    assert len(torch.unique(kept, dim=0)) < 6
    assert torch.equal(kept[0], route[0, 0])
    assert torch.equal(kept[-1], route[0, -1])


def test_roadmap_refuses_fewer_nodes_than_neighbours(sees: LineOfSight, nodes: Tensor) -> None:
    with pytest.raises(InputError, match="nodes"):
        Roadmap(sees, nodes[:10])


def test_line_of_sight_refuses_an_energy_with_actions() -> None:
    with pytest.raises(InputError, match="states alone"):
        LineOfSight(TransitionEnergy(TrajectoryLayout(2, 2)), 1.0)


def guided(energy: TransitionEnergy, sees: LineOfSight, nodes: Tensor) -> Guided:
    limit = torch.full((2,), 0.05)
    costs = [20 * GoalCost(LAYOUT, (0, 1), norm="l2", smooth=0.02), 1e4 * SpeedCost(LAYOUT, limit)]
    sampler = Langevin(30, 0.05, noise=0.0, adapt="rms", scale=(0.2, 0.2))
    planner = Planner(energy, sampler, 6, costs, layout=LAYOUT, chains=2, spread=0.05)
    return Guided(planner, Roadmap(sees, nodes), sees)


def test_a_guided_plan_heads_for_the_farthest_point_in_sight_and_keeps_its_route(
    energy: TransitionEnergy, sees: LineOfSight, nodes: Tensor
) -> None:
    planner = guided(energy, sees, nodes)
    generator = torch.Generator().manual_seed(0)
    first = planner.plan(START, GOAL, generator=generator)
    assert isinstance(first, GuidedPlan)
    ahead = int(first.passed)
    assert sees(START, first.route[:, ahead]).item()
    assert not sees(START.expand(len(first.route[0]) - ahead - 1, -1), first.route[0, ahead + 1 :]).any()
    second = planner.plan(first.states[:, 1], GOAL, warm=first, generator=generator)
    assert torch.equal(second.route, first.route)
    assert int(second.passed) >= ahead


def test_a_cold_problem_gets_a_route_of_its_own(
    energy: TransitionEnergy, sees: LineOfSight, nodes: Tensor
) -> None:
    planner = guided(energy, sees, nodes)
    generator = torch.Generator().manual_seed(0)
    starts, goals = START.repeat(2, 1), GOAL.repeat(2, 1)
    first = planner.plan(starts, goals, generator=generator)
    moved = torch.stack([first.states[0, 1], torch.tensor([0.8, 0.8])])
    second = planner.plan(moved, goals, warm=first, cold=torch.tensor([False, True]), generator=generator)
    assert torch.equal(second.route[1, 0], moved[1])
    torch.testing.assert_close(second.route[0, : first.route.shape[1]], first.route[0])


def test_the_step_after_a_refused_one_heads_elsewhere(
    energy: TransitionEnergy, sees: LineOfSight, nodes: Tensor
) -> None:
    planner = guided(energy, sees, nodes)
    generator = torch.Generator().manual_seed(0)
    start = torch.tensor([[-0.12, 0.0]])  # in the rim of the wall: nothing is in sight
    first = planner.plan(start, GOAL, generator=generator)
    again = planner.plan(start, GOAL, warm=first, generator=generator)
    headings = [plan.route[0, int(plan.passed)] for plan in (first, again)]
    assert not torch.equal(*headings)


def test_a_guided_agent_walks_round_the_walls_of_the_maze_that_a_fine_plan_alone_runs_into() -> None:
    env = gym.make("ebm/Maze-v0", start=(-0.7, -0.6), goal=(0.25, -0.3), max_episode_steps=70)
    walls = torch.as_tensor(env.unwrapped.boxes, dtype=torch.float32)  # type: ignore[attr-defined]
    tilt = 200 * BoxObstacle(walls, (0, 1), margin=0.03)

    class Blocked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            end = x[..., :2] + 0.1 * x[..., 2:]
            flat = torch.stack([x[..., :2], end], dim=-2).flatten(0, -3)
            return tilt(flat).reshape(*x.shape[:-1], 1)

    energy = TransitionEnergy(LAYOUT, Blocked(), base=GaussianBase(2, 1.2), displacement_scale=SCALE)
    sees = LineOfSight(energy, 0.5)
    points = torch.rand(800, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    nodes = points[sees(points, points)]
    whole = Normalizer(*(torch.tensor([v, v], dtype=torch.float64) for v in (0.0, 1.0, 0.0, 1.0, 1.0)))
    inverse = ClosedForm(
        env.unwrapped.inverse_dynamics,  # type: ignore[attr-defined]
        whole.denormalize_observations,
        whole.normalize_actions,
    )
    space = env.action_space
    assert isinstance(space, gym.spaces.Box)
    planner = guided(energy, sees, nodes)
    found = {}
    for name, chosen in (("guided", planner), ("alone", planner.planner)):
        agent = MPCAgent(chosen, whole, space, inverse_dynamics=inverse)
        found[name] = -run_episodes(agent, [env], seed=0).last_rewards[0]
    assert found["guided"] < 0.05 < found["alone"]
