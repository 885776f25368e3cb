"""When a guided planner keeps its route, when it makes another, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ebm_control.checks import InputError
from ebm_control.data import Normalizer
from ebm_control.energies import GaussianBase, GoalCost, SpeedCost, TrajectoryLayout, TransitionEnergy
from ebm_control.planning import ClosedForm, Guided, GuidedPlan, LineOfSight, MPCAgent, Planner, Roadmap
from ebm_control.samplers import Langevin

LAYOUT = TrajectoryLayout(2)
STEP = torch.full((2,), 0.1)
START, GOAL = torch.tensor([[-0.8, 0.0]]), torch.tensor([[0.8, 0.1]])


class Pillar(nn.Module):
    """Softly 8 where a transition ends in the square |x|, |y| < 0.4."""

    def forward(self, x: Tensor) -> Tensor:
        depth = (0.4 - (x[..., :2] + x[..., 2:] * STEP).abs()).amin(dim=-1, keepdim=True)
        return 8 * torch.sigmoid(depth / 0.02)


def sight() -> LineOfSight:
    base = GaussianBase(2, 1.2)
    return LineOfSight(TransitionEnergy(LAYOUT, Pillar(), base=base, displacement_scale=STEP), 1.0)


def fine(sees: LineOfSight, *costs: GoalCost) -> Planner:
    limit = 1e4 * SpeedCost(LAYOUT, torch.full((2,), 0.05))
    sampler = Langevin(15, 0.05, noise=0.0, adapt="rms", scale=(0.2, 0.2))
    terms = [*(20 * cost for cost in costs), limit]
    return Planner(sees.energy, sampler, 4, terms, layout=LAYOUT, chains=2, spread=0.05)


@pytest.fixture(scope="module")
def planner() -> Guided:
    sees = sight()
    axis = torch.linspace(-1, 1, 19)
    points = torch.cartesian_prod(axis, axis)
    nodes = points[sees(points, points)]
    return Guided(fine(sees, GoalCost(LAYOUT, (0, 1), smooth=0.02)), Roadmap(sees, nodes), sees)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def test_a_point_that_is_out_of_sight_is_kept_while_steps_lead_nearer(planner: Guided) -> None:
    first = planner.plan(START, GOAL, generator=seeded())
    # A route whose only points lie across the pillar, so that none is in sight.
    hidden = replace(first, route=GOAL[:, None].expand(-1, 2, -1), passed=torch.tensor([1]))
    nearer, farther = START + torch.tensor([[0.1, 0.0]]), START - torch.tensor([[0.1, 0.0]])
    kept = planner.plan(nearer, GOAL, warm=moved(hidden, START), generator=seeded())
    assert torch.equal(kept.route, hidden.route)
    lost = planner.plan(farther, GOAL, warm=moved(hidden, START), generator=seeded())
    assert torch.equal(lost.route[:, 0], farther)
    assert planner.sees(farther, lost.route[:, int(lost.passed)]).item()


def test_a_point_that_is_reached_gives_way_to_the_next_one_unseen(planner: Guided) -> None:
    first = planner.plan(START, GOAL, generator=seeded())
    route = torch.stack([START, GOAL], dim=1)
    near = replace(first, route=route, passed=torch.tensor([0]))
    assert not planner.sees(START, GOAL).item()
    assert int(planner.plan(START + 0.02, GOAL, warm=near, generator=seeded()).passed) == 1
    assert int(planner.plan(START - 0.15, GOAL, warm=near, generator=seeded()).passed) == 0


def test_a_goal_that_moves_gets_a_route_of_its_own(planner: Guided) -> None:
    first = planner.plan(START, GOAL, generator=seeded())
    elsewhere = torch.tensor([[-0.8, 0.8]])
    second = planner.plan(START, elsewhere, warm=moved(first, START - 0.05), generator=seeded())
    assert torch.equal(second.route[0, int(second.passed)], elsewhere[0])


def test_a_step_that_the_world_refused_is_followed_by_one_away_from_the_wall(planner: Guided) -> None:
    start = torch.tensor([[-0.42, 0.0]])  # in the soft rim: nothing is in sight from here
    first = planner.plan(start, GOAL, generator=seeded())
    blind = replace(first, route=GOAL[:, None].expand(-1, 2, -1), passed=torch.tensor([1]))
    back = planner.plan(start, GOAL, warm=blind, generator=seeded())
    assert float(back.route[0, 1, 0]) < -0.45
    # A new episode that begins where the old one stood has refused nothing: it heads on as from a first call.
    cold = planner.plan(start, GOAL, warm=blind, cold=torch.tensor([True]), generator=seeded())
    assert torch.equal(cold.route[0, int(cold.passed)], first.route[0, int(first.passed)])


def test_an_agent_hands_guided_plans_on_and_draws_among_their_chains(planner: Guided) -> None:
    env = gym.make("ebm/Particle-v0")
    plain = Normalizer(*(torch.tensor([v, v], dtype=torch.float64) for v in (0.0, 1.0, 0.0, 1.0, 1.0)))
    particle = env.unwrapped
    inverse = ClosedForm(
        particle.inverse_dynamics,  # type: ignore[attr-defined]
        plain.denormalize_observations,
        plain.normalize_actions,
    )
    space = env.action_space
    assert isinstance(space, gym.spaces.Box)
    agent = MPCAgent(planner, plain, space, goal=GOAL[0].numpy(), inverse_dynamics=inverse)
    action, plan = agent.predict(START.numpy())
    assert isinstance(plan, GuidedPlan)
    following = START.numpy() + action
    drawn, after = agent.predict(following, state=plan, deterministic=False)
    assert drawn.shape == (1, 2)
    assert np.isfinite(drawn).all()
    assert isinstance(after, GuidedPlan)
    assert torch.equal(after.route, plan.route)


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
        Guided(fine(planner.sees), planner.guide, planner.sees)
    with pytest.raises(InputError, match="reached"):
        Guided(planner.planner, planner.guide, planner.sees, reached=0)
    other = LineOfSight(TransitionEnergy(TrajectoryLayout(3)), 1.0)
    with pytest.raises(InputError, match="sees"):
        Guided(planner.planner, planner.guide, other)
