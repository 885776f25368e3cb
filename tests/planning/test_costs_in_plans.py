"""What costs do to plans, with no training anew."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from ebm_control.control import planner_for
from ebm_control.energies import BoundCost, BoxObstacle, GoalCost, RewardCost, SmoothnessCost
from ebm_envs.point import segments_blocked
from tests.helpers import seeded
from tests.planning.helpers import (
    LAYOUT,
    NORMALIZER,
    SPACE,
    drive,
    follow,
    goal_cost,
    particle_model,
    plain_planner,
)

pytestmark = pytest.mark.slow

BOX = np.array([[[0.15, -0.12], [0.35, 0.1]]])
START, GOAL = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])  # (0.5, 0) in raw units, straight behind the box


def obstacle():
    return 200 * BoxObstacle(torch.from_numpy(BOX / 0.5), (0, 1), margin=0.05)


def crosses(states):
    raw = NORMALIZER.denormalize_observations(states).numpy()
    return segments_blocked(raw[..., :-1, :], raw[..., 1:, :], BOX)


def test_obstacle_that_training_never_saw_is_gone_round():
    paths = {}
    for obstacles in (False, True):
        costs = [goal_cost(), obstacle()] if obstacles else [goal_cost()]
        planner = planner_for(particle_model(), costs, 20, sampler="mppi", action_space=SPACE, chains=2)
        plan = planner.plan(START, GOAL, generator=seeded())
        assert crosses(plan.states[0]).any() != obstacles
        paths[obstacles] = drive(plan, [0.0, 0.0], obstacles=BOX)
    goal = torch.tensor([0.5, 0.0])
    assert (paths[True][-1] - goal).abs().sum() < 0.1
    assert (paths[False][-1] - goal).abs().sum() > 0.15  # stopped by the box


def test_chains_find_both_ways_round_an_obstacle():
    given = {"fix_goal": True, "goal_index": (0, 1), "spread": torch.tensor([0.0, 0.5, 0.0, 0.0])}
    plan = plain_planner(horizon=20, costs=[obstacle()], chains=16, **given).plan(
        START, GOAL, generator=seeded()
    )
    assert not crosses(plan.states[0]).any()
    straight = plain_planner(horizon=20, costs=[], chains=1, **given).plan(START, GOAL, generator=seeded())
    assert crosses(straight.states[0]).any()
    around = plan.chains[0, torch.from_numpy(~crosses(plan.chains[0, ..., :2]).any(axis=1))]
    beside = around[..., 1].gather(1, (around[..., 0] - 0.5).abs().argmin(dim=1, keepdim=True))
    assert (beside > 0.2).sum() >= 3
    assert (beside < -0.24).sum() >= 3


def test_speed_limit_slows_a_plan_down():
    moves = {}
    for limited in (False, True):
        bound = torch.full((2,), 0.8)
        costs = [goal_cost(), 1000 * BoundCost(-bound, bound, (2, 3))] if limited else [goal_cost()]
        planner = planner_for(particle_model(), costs, 15, action_space=SPACE)
        moves[limited] = planner.plan(START, GOAL, generator=seeded()).actions.abs().amax()
    assert moves[False] > 1.5
    assert moves[True] < 0.85


def test_smoothness_cost_smooths_a_plan():
    roughness, rough = SmoothnessCost(LAYOUT, order=2), {}
    for factor in (0.0, 300.0):
        planner = plain_planner(costs=[goal_cost(), factor * roughness])
        plan = planner.plan(START, GOAL, generator=seeded())
        rough[factor] = roughness(plan.chains[0]).min()
    assert rough[300.0] < 0.5 * rough[0.0]


@pytest.mark.parametrize("name", ["langevin", "mppi"])
def test_plans_for_a_reward_need_no_goal(name):
    reward = RewardCost(LAYOUT, lambda s, a, after: -20 * (after[..., 0] - 0.4).abs())
    planner = planner_for(particle_model(), reward, 10, sampler=name, action_space=SPACE)
    path = follow(planner, START, None, 10)
    assert abs(path[-1, 0, 0] - 0.4) < 0.05


def test_one_coordinate_known_far_better_than_another_does_not_hold_a_plan():
    planner = planner_for(particle_model((0.16, 0.03)), goal_cost(), 12, action_space=SPACE)
    path = follow(planner, START, torch.tensor([[0.6, 0.6]]), 8)
    assert (path[-1] - 0.6).abs().sum() < 0.1  # six of the longest steps would do


def test_reacher_turns_either_way_to_the_opposite_angle(reacher):
    space = gym.make("ebm/Reacher-v0").action_space
    cost = 20 * GoalCost(reacher.layout, (0, 1), smooth=0.02)
    planner = planner_for(reacher, cost, 15, action_space=space, chains=32)
    plan = planner.plan(torch.zeros(1, 4), torch.tensor([[1.0, 0.0]]), generator=seeded())
    turned = plan.chains[0, :, -1, 0]
    assert (turned > 0.2).sum() >= 5
    assert (turned < -0.2).sum() >= 5
