"""Guided planners: which point of a route they head for, when they make another, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ebm_control.checks import InputError
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
    CoarseToFine,
    Guided,
    GuidedPlan,
    LineOfSight,
    MPCAgent,
    Planner,
    Roadmap,
    run_episodes,
)
from ebm_control.samplers import Langevin, Linear
from tests.helpers import Zero, seeded
from tests.planning.walls import (
    LAYOUT,
    PILLAR,
    PLAIN,
    STEP,
    WALL,
    Solid,
    crosses,
    energy_of,
    fine_planner,
    free_nodes,
    sight,
)

pytestmark = pytest.mark.slow

START, GOAL = torch.tensor([[-0.8, 0.0]]), torch.tensor([[0.8, 0.1]])


@pytest.fixture(scope="module")
def planner() -> Guided:
    sees = sight()
    axis = torch.linspace(-1, 1, 19)
    points = torch.cartesian_prod(axis, axis)
    return Guided(fine_planner(sees), Roadmap(sees, points[sees(points, points)]), sees)


def acting_in(planner, env, **given) -> MPCAgent:
    """Agent that takes planned states for the displacements that they are."""
    inverse = ClosedForm(
        env.unwrapped.inverse_dynamics, PLAIN.denormalize_observations, PLAIN.normalize_actions
    )
    return MPCAgent(planner, PLAIN, env.action_space, inverse_dynamics=inverse, **given)


def moved(plan: GuidedPlan, start: Tensor) -> GuidedPlan:
    """The plan as if its last step had begun in `start`."""
    return replace(plan, states=torch.cat([start[:, None], plan.states[:, 1:]], dim=1))


def test_equal_seeds_give_equal_plans(planner: Guided) -> None:
    first, second = (planner.plan(START, GOAL, generator=seeded()) for _ in range(2))
    assert torch.equal(first.chains, second.chains)
    assert torch.equal(first.route, second.route)


def test_one_goal_for_all_is_a_goal_for_each(planner: Guided) -> None:
    starts = torch.cat([START, -START])
    one = planner.plan(starts, GOAL[0], generator=seeded())
    each = planner.plan(starts, GOAL.expand(2, -1), generator=seeded())
    assert torch.equal(one.chains, each.chains)


def test_plans_head_for_the_farthest_point_in_sight_and_keep_their_route(planner: Guided) -> None:
    generator = seeded()
    first = planner.plan(START, GOAL, generator=generator)
    ahead = int(first.passed)
    assert planner.line_of_sight(START, first.route[:, ahead]).item()
    beyond = first.route[0, ahead + 1 :]
    assert len(beyond) > 0
    assert not planner.line_of_sight(START.expand(len(beyond), -1), beyond).any()
    second = planner.plan(first.states[:, 1], GOAL, warm=first, generator=generator)
    assert torch.equal(second.route, first.route)
    assert int(second.passed) >= ahead


def test_a_cold_problem_gets_a_route_of_its_own(planner: Guided) -> None:
    generator = seeded()
    first = planner.plan(START.repeat(2, 1), GOAL.repeat(2, 1), generator=generator)
    starts = torch.stack([first.states[0, 1], torch.tensor([0.8, 0.8])])
    cold = torch.tensor([False, True])
    second = planner.plan(starts, GOAL.repeat(2, 1), warm=first, cold=cold, generator=generator)
    assert torch.equal(second.route[1, 0], starts[1])
    torch.testing.assert_close(second.route[0, : first.route.shape[1]], first.route[0])


def test_a_point_that_is_out_of_sight_is_kept_while_steps_lead_nearer(planner: Guided) -> None:
    first = planner.plan(START, GOAL, generator=seeded())
    # A route whose only points lie across the pillar, so that none is in sight.
    hidden = replace(first, route=GOAL[:, None].expand(-1, 2, -1), passed=torch.tensor([1]))
    nearer, farther = START + torch.tensor([[0.1, 0.0]]), START - torch.tensor([[0.1, 0.0]])
    kept = planner.plan(nearer, GOAL, warm=moved(hidden, START), generator=seeded())
    assert torch.equal(kept.route, hidden.route)
    lost = planner.plan(farther, GOAL, warm=moved(hidden, START), generator=seeded())
    assert torch.equal(lost.route[:, 0], farther)
    assert planner.line_of_sight(farther, lost.route[:, int(lost.passed)]).item()


def test_a_point_that_is_reached_gives_way_to_the_next_one_unseen(planner: Guided) -> None:
    first = planner.plan(START, GOAL, generator=seeded())
    route = torch.stack([START, GOAL], dim=1)
    near = replace(first, route=route, passed=torch.tensor([0]))
    assert not planner.line_of_sight(START, GOAL).item()
    assert int(planner.plan(START + 0.02, GOAL, warm=near, generator=seeded()).passed) == 1
    assert int(planner.plan(START - 0.15, GOAL, warm=near, generator=seeded()).passed) == 0


def test_a_goal_that_moves_gets_a_route_of_its_own(planner: Guided) -> None:
    first = planner.plan(START, GOAL, generator=seeded())
    elsewhere = torch.tensor([[-0.8, 0.8]])
    second = planner.plan(START, elsewhere, warm=moved(first, START - 0.05), generator=seeded())
    assert torch.equal(second.route[0, int(second.passed)], elsewhere[0])


def test_routes_keep_away_from_where_a_move_was_refused(planner: Guided) -> None:
    first = planner.plan(START, GOAL, generator=seeded())
    assert torch.isnan(first.refused).all()
    second = planner.plan(START, GOAL, warm=first, generator=seeded())
    place = first.states[:, :2].mean(dim=1)
    torch.testing.assert_close(second.refused[:, -1], place)
    legs = second.route[0, 1:-1], second.route[0, 2:]
    assert not planner.line_of_sight.nears(*legs, place[:, None].expand(len(legs[0]), 1, 2)).any()
    # A move that was made is no refusal, and a new episode that begins where the old one stood has refused nothing.
    third = planner.plan(second.states[:, 1], GOAL, warm=second, generator=seeded())
    torch.testing.assert_close(third.refused, second.refused, equal_nan=True)
    cold = planner.plan(START, GOAL, warm=second, cold=torch.tensor([True]), generator=seeded())
    assert torch.isnan(cold.refused).all()


def resting(plan: GuidedPlan) -> GuidedPlan:
    """The plan as if it were to stay where it is: nothing is refused by the environment then."""
    return replace(plan, states=plan.states[:, :1].expand_as(plan.states))


def test_a_way_on_which_plans_wait_counts_as_refused_once_patience_ends(planner: Guided) -> None:
    patient = Guided(planner.planner, planner.guide, planner.line_of_sight, patience=2)
    plans = [patient.plan(START, GOAL, generator=seeded())]
    for _ in range(3):
        plans.append(patient.plan(START, GOAL, warm=resting(plans[-1]), generator=seeded()))
    assert [int(plan.waited) for plan in plans] == [0, 1, 2, 0]
    assert all(torch.isnan(plan.refused).all() for plan in plans[:3])
    place = plans[3].refused[:, -1]
    assert planner.line_of_sight.length(START, place).item() == pytest.approx(0.5, abs=0.01)
    old, new = (plan.route[:, int(plan.passed)] for plan in (plans[0], plans[3]))
    assert planner.line_of_sight.nears(START, old, place[:, None]).item()
    assert not planner.line_of_sight.nears(START, new, place[:, None]).item()


def test_waiting_begins_anew_with_an_approach_and_is_no_matter_at_a_goal(planner: Guided) -> None:
    patient = Guided(planner.planner, planner.guide, planner.line_of_sight, patience=1)
    first = patient.plan(START, GOAL, generator=seeded())
    waited = patient.plan(START, GOAL, warm=resting(first), generator=seeded())
    nearer = patient.plan(waited.states[:, 1], GOAL, warm=waited, generator=seeded())
    assert (int(waited.waited), int(nearer.waited)) == (1, 0)
    there = [patient.plan(GOAL, GOAL, generator=seeded())]
    for _ in range(3):
        there.append(patient.plan(GOAL, GOAL, warm=resting(there[-1]), generator=seeded()))
    assert torch.isnan(there[-1].refused).all()


def test_a_corner_that_is_harder_than_its_energy_is_passed_after_refusals() -> None:
    """The world's pillar is wider by 0.06 than the energy believes."""
    wall = [[(-0.46, -0.46), (0.46, 0.46)]]
    env = gym.make(
        "ebm/Particle-v0", start=(-0.7, -0.3), goal=(0.3, 0.75), obstacles=wall, max_episode_steps=90
    )
    sees = LineOfSight(energy_of(Solid(PILLAR)), 1.0)
    guided = Guided(fine_planner(sees), Roadmap(sees, free_nodes(sees)), sees, lookahead=0.7)
    outcome = run_episodes(acting_in(guided, env), [env], seed=0)
    steps = np.abs(np.diff(outcome.observations[:40, 0], axis=0)).max(-1)
    assert (steps < 1e-9).any()
    assert -outcome.last_rewards[0] < 0.05


def test_near_a_refused_move_plans_head_no_farther_than_the_lookahead(planner: Guided) -> None:
    near = Guided(planner.planner, planner.guide, planner.line_of_sight, lookahead=0.5)
    first = near.plan(START, GOAL, generator=seeded())
    assert planner.line_of_sight.length(START, first.states[:, -1]).item() > 1
    second = near.plan(START, GOAL, warm=first, generator=seeded())
    assert planner.line_of_sight.length(START, second.states[:, -1]).item() < 0.7


def test_an_agent_hands_guided_plans_on_and_draws_among_their_chains(planner: Guided) -> None:
    agent = acting_in(planner, gym.make("ebm/Particle-v0"), goal=GOAL[0].numpy())
    action, plan = agent.predict(START.numpy())
    assert isinstance(plan, GuidedPlan)
    following = START.numpy() + action
    drawn, after = agent.predict(following, state=plan, deterministic=False)
    assert drawn.shape == (1, 2)
    assert np.isfinite(drawn).all()
    assert isinstance(after, GuidedPlan)
    assert torch.equal(after.route, plan.route)


class Solids(nn.Module):
    """Tilt inside any of the boxes `(M, 2, 2)` or across them."""

    def __init__(self, boxes: Tensor) -> None:
        super().__init__()
        self.depth = 200 * BoxObstacle(boxes, (0, 1), margin=0.03)

    def forward(self, x: Tensor) -> Tensor:
        line = torch.stack([x[..., :2], x[..., :2] + x[..., 2:] * STEP], dim=-2)
        return self.depth(line.flatten(0, -3)).reshape(*x.shape[:-1], 1)


def far_guide(boxes: Tensor) -> CoarseToFine:
    """64 random curves of 4 rows, the 8 best of them refined to 16; in the square."""
    solid = 200 * BoxObstacle(boxes, (0, 1), margin=0.03, between=7)
    descent = Langevin(60, Linear(0.1, 0.01), noise=0.0, adapt="rms", scale=(0.3, 0.3), clamp=(-0.98, 0.98))

    def stage(gap: int, horizon: int, chains: int) -> tuple[int, Planner]:
        energy = TransitionEnergy(LAYOUT, Zero(), base=GaussianBase(2), displacement_scale=gap * STEP)
        rest = {"layout": LAYOUT, "spread": 1.0, "goal_index": (0, 1), "fix_goal": True}
        return gap, Planner(energy + solid, descent, horizon, chains=chains, **rest)

    return CoarseToFine([stage(4, 4, 64), stage(1, 16, 8)])


def test_guided_agents_walk_round_the_walls_of_the_maze_that_a_fine_plan_alone_runs_into() -> None:
    env = gym.make("ebm/Maze-v0", start=(-0.7, -0.6), goal=(0.25, -0.3), max_episode_steps=70)
    boxes = torch.as_tensor(env.unwrapped.boxes, dtype=torch.float32)
    sees = LineOfSight(energy_of(Solids(boxes)), 0.5)
    alone = fine_planner(sees)
    planners = {
        "alone": alone,
        "roadmap": Guided(alone, Roadmap(sees, free_nodes(sees, 800, seed=1)), sees),
        "coarse": Guided(alone, far_guide(boxes), sees),
    }
    left = {
        name: -run_episodes(acting_in(planner, env), [env], seed=0).last_rewards[0]
        for name, planner in planners.items()
    }
    assert max(left["roadmap"], left["coarse"]) < 0.05 < left["alone"]


def test_bad_input_is_named(planner: Guided) -> None:
    plan = planner.plan(START, GOAL, generator=seeded())
    with pytest.raises(InputError, match="goal: expected shape"):
        planner.plan(START)
    with pytest.raises(InputError, match="goal"):
        planner.plan(START, torch.zeros(1, 3))
    with pytest.raises(InputError, match="start"):
        planner.plan(torch.zeros(1, 3), GOAL)
    with pytest.raises(InputError, match="start: expected finite"):
        planner.plan(START * torch.nan, GOAL)
    with pytest.raises(InputError, match=r"warm\.route"):
        planner.plan(START.repeat(2, 1), GOAL.repeat(2, 1), warm=plan)
    with pytest.raises(InputError, match="planner: expected a planner with a goal"):
        Guided(fine_planner(planner.line_of_sight, []), planner.guide, planner.line_of_sight)
    with pytest.raises(InputError, match="reached"):
        Guided(planner.planner, planner.guide, planner.line_of_sight, reached=0)
    with pytest.raises(InputError, match="lookahead"):
        Guided(planner.planner, planner.guide, planner.line_of_sight, lookahead=0)
    other = LineOfSight(TransitionEnergy(TrajectoryLayout(3)), 1.0)
    with pytest.raises(InputError, match="line_of_sight"):
        Guided(planner.planner, planner.guide, other)


class Plane(nn.Module):
    """Tilt over positions and velocities that looks at the positions alone: 8 where they end inside the wall."""

    def forward(self, x: Tensor) -> Tensor:
        end = x[..., :2] + x[..., 4:6] * STEP
        depth = torch.minimum(end - WALL[0], WALL[1] - end).amin(dim=-1, keepdim=True)
        return 8 * torch.sigmoid(depth / 0.02)


POINT_MASS = TrajectoryLayout(4)  # positions and velocities


def point_mass_planner(reach: float = 0.2) -> Planner:
    """Four steps ahead for a mass whose position moves by its velocity, which no energy bounds but a speed limit."""
    scale = torch.cat([STEP, STEP])
    energy = TransitionEnergy(POINT_MASS, Plane(), base=GaussianBase(4, 1.2), displacement_scale=scale)
    goal = GoalCost(POINT_MASS, (0, 1), smooth=0.02)
    limit = SpeedCost(POINT_MASS, torch.full((4,), reach / 4))
    sampler = Langevin(15, 0.05, noise=0.0, adapt="rms", scale=(0.2,) * 4)
    return Planner(energy, sampler, 4, [20 * goal, 1e4 * limit], layout=POINT_MASS, chains=2, spread=0.05)


def followed(planner: Planner | Guided, start: Tensor, steps: int) -> Tensor:
    """States `(steps + 1, obs_dim)` of a walk that takes the first step of each plan, in the world of the energy."""
    generator, plan, states = seeded(), None, [start]
    for _ in range(steps):
        plan = planner.plan(states[-1], torch.tensor([[0.7, -0.6]]), warm=plan, generator=generator)
        states.append(plan.states[:, 1])
    return torch.cat(states)


def test_a_guide_over_positions_leads_a_point_mass_with_velocities_round_a_wall() -> None:
    sees = sight(WALL)
    fine = point_mass_planner()
    guided = Guided(fine, Roadmap(sees, free_nodes(sees)), sees, index=(0, 1))
    start = torch.tensor([[-0.7, -0.6, 0.3, -0.2]])
    alone, led = followed(fine, start, 80), followed(guided, start, 80)
    goal = torch.tensor([0.7, -0.6])
    assert (led[-1, :2] - goal).norm() < 0.1 < (alone[-1, :2] - goal).norm()
    assert not crosses(led[:, :2])
    plan = guided.plan(start, goal, generator=seeded())
    assert plan.states.shape == (1, 5, 4)
    assert plan.route.shape[2] == plan.refused.shape[2] == 2
    assert torch.equal(plan.route[0, 0], start[0, :2])


def test_the_coordinates_of_a_guide_may_stand_in_another_order() -> None:
    """The layout is velocities first: way-points still name the goal's coordinates."""
    sees = sight(WALL)
    layout = TrajectoryLayout(3)
    energy = TransitionEnergy(layout, Zero(), base=GaussianBase(3), displacement_scale=torch.full((3,), 0.1))
    sampler = Langevin(200, 0.05, noise=0.0, adapt="rms", scale=(0.2,) * 3)
    goal = 20 * GoalCost(layout, (2, 1), smooth=0.02)
    fine = Planner(energy, sampler, 8, goal, layout=layout, chains=2, spread=0.05)
    guided = Guided(fine, Roadmap(sees, free_nodes(sees)), sees, index=(1, 2))
    start = torch.tensor([[0.0, 0.6, -0.7]])  # the position is (0.6, -0.7), right of the wall
    plan = guided.plan(start, torch.tensor([[0.8, 0.3]]), generator=seeded())  # of coordinates 2 and 1
    assert torch.equal(plan.route[0, [0, -1]], torch.tensor([[0.6, -0.7], [0.3, 0.8]]))
    assert (plan.states[0, -1, 1:] - torch.tensor([0.3, 0.8])).norm() < 0.1


def test_all_coordinates_by_index_are_all_coordinates(planner: Guided) -> None:
    named = Guided(planner.planner, planner.guide, planner.line_of_sight, index=(0, 1))
    first = [guided.plan(START, GOAL, generator=seeded()) for guided in (planner, named)]
    second = [
        guided.plan(plan.states[:, 1], GOAL, warm=plan, generator=seeded())
        for guided, plan in zip((planner, named), first, strict=True)
    ]
    for one, other in (first, second):
        for name in ("chains", "route", "passed"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_coordinates_that_do_not_fit_the_guide_are_named() -> None:
    sees = sight(WALL)
    roadmap, fine = Roadmap(sees, free_nodes(sees)), point_mass_planner()
    with pytest.raises(
        InputError, match=r"line_of_sight: expected the planner's 4, got lines in 2 coordinates"
    ):
        Guided(fine, roadmap, sees)
    with pytest.raises(
        InputError, match=r"line_of_sight: expected those of the index, 3, got lines in 2 coordinates"
    ):
        Guided(fine, roadmap, sees, index=(0, 1, 2))
    with pytest.raises(InputError, match=r"index: expected coordinates in 0\.\.3"):
        Guided(fine, roadmap, sees, index=(0, 4))
    with pytest.raises(InputError, match="index: expected the coordinates of the planner's goal among them"):
        Guided(fine, roadmap, sees, index=(0, 2))
