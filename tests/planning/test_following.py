"""Plans that are followed for several steps: how long, and what ends them."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.planning import MPCAgent
from ebm_control.planning.shooting import ExpectedDynamics
from ebm_control.samplers import Langevin
from tests.planning.helpers import LAYOUT, NORMALIZER, SPACE, goal_cost, particle_energy, plain_planner

GOAL = np.array([0.5, 0.3])
QUICK = Langevin(10, 0.05, noise=0.0, adapt="rms", clamp=((-9.0, -9.0, -1.7, -1.7), (9.0, 9.0, 1.7, 1.7)))
HORIZON = 5
EXACT = 1e-4  # of a normalised state: rounding, and nothing else


def agent(sampler=QUICK, **given):
    """Its plans are what the particle does, to the rounding."""
    planner = plain_planner(
        sampler, HORIZON, goal_cost(), energy=None, chains=3, dynamics=ExpectedDynamics(particle_energy())
    )
    return MPCAgent(planner, NORMALIZER, SPACE, goal=GOAL, **given)


def driven(mpc, steps, starts=((0.0, 0.0), (-0.4, 0.2)), knocked=None, episode_start=None):
    """Plans of each step and actions `(steps, N, 2)` of true particles under an agent.

    `knocked` and `episode_start` map a step to what happens before it: a shift of all states, a flag for each.
    """
    env, here, plan, plans, taken = gym.make("ebm/Particle-v0").unwrapped, np.array(starts), None, [], []
    env.reset()
    for t in range(steps):
        here = here + (knocked or {}).get(t, 0.0)
        actions, plan = mpc.predict(here, plan, (episode_start or {}).get(t))
        plans.append(plan)
        taken.append(actions)
        here = env.dynamics(here, actions)
    return plans, np.stack(taken)


def ages(plans):
    return [plan.age for plan in plans]


def test_a_plan_that_comes_true_is_followed_for_as_many_rows():
    plans, taken = driven(agent(replan_every=3, tolerance=EXACT), 7)
    assert ages(plans) == [0, 1, 2, 0, 1, 2, 0]
    for made, t in ((0, 1), (0, 2), (3, 4), (3, 5)):
        planned = NORMALIZER.denormalize_actions(plans[made].actions[:, t - made]).numpy()
        assert np.array_equal(taken[t], np.clip(planned, SPACE.low, SPACE.high))
        assert torch.equal(plans[t].energy, plans[made].energy)


def test_a_plan_that_is_followed_begins_where_the_state_is():
    plans, _ = driven(agent(replan_every=3, tolerance=1.0), 3, knocked={1: 0.01})
    assert ages(plans) == [0, 1, 2]
    off = plans[1].states[:, 0] - plans[0].states[:, 1]
    assert torch.allclose(off, torch.full((2, 2), 0.01 / 0.5), atol=EXACT)
    assert torch.equal(plans[1].states[:, 1], plans[0].states[:, 2])


@pytest.mark.parametrize(("shift", "expected"), [(0.04, [0, 1, 2, 0]), (0.06, [0, 1, 0, 1])])
def test_a_state_off_the_plan_by_more_than_the_tolerance_ends_it_at_once(shift, expected):
    one_coordinate_of_one_problem = np.array([[0.0, 0.0], [0.0, shift]])
    plans, _ = driven(agent(replan_every=3, tolerance=0.1), 4, knocked={2: one_coordinate_of_one_problem})
    assert ages(plans) == expected


def test_each_coordinate_has_its_own_tolerance():
    shift = {1: np.array([0.05, 0.0])}
    lenient, strict = torch.tensor([0.2, EXACT]), torch.tensor([EXACT, 0.2])
    assert ages(driven(agent(replan_every=3, tolerance=lenient), 2, knocked=shift)[0]) == [0, 1]
    assert ages(driven(agent(replan_every=3, tolerance=strict), 2, knocked=shift)[0]) == [0, 0]


def test_an_episode_start_ends_all_plans():
    begun = {1: [False, True], 3: [False, False], 5: [True, True]}
    plans, _ = driven(agent(replan_every=4, tolerance=EXACT), 7, episode_start=begun)
    assert ages(plans) == [0, 0, 1, 2, 3, 0, 1]


def test_one_row_is_a_plan_every_step_whatever_the_tolerance():
    (plans, taken), (_, default) = driven(agent(replan_every=1, tolerance=1e9), 5), driven(agent(), 5)
    assert ages(plans) == [0] * 5
    assert np.array_equal(taken, default)


def test_no_tolerance_is_a_plan_every_step_where_nothing_is_exact():
    assert ages(driven(agent(replan_every=3), 4, knocked=dict.fromkeys(range(1, 4), 0.001))[0]) == [0] * 4


def test_a_plan_is_not_followed_beyond_its_last_action():
    plans, taken = driven(agent(replan_every=100, tolerance=EXACT), HORIZON + 2)
    assert ages(plans) == [*range(HORIZON), 0, 1]
    last = NORMALIZER.denormalize_actions(plans[0].actions[:, -1]).numpy()
    assert np.array_equal(taken[HORIZON - 1], np.clip(last, SPACE.low, SPACE.high))


def test_planning_after_following_takes_chains_up_where_they_have_come_to():
    mpc = agent(Langevin(0), replan_every=3, tolerance=EXACT)  # chains stay as they start
    first, _, _, later = driven(mpc, 4)[0]
    actions, before = LAYOUT.actions(later.chains), LAYOUT.actions(first.chains)
    best = first.energies.argmin(dim=1)
    for problem in range(2):
        moved_on = before[problem, best[problem], 3:]
        assert any(torch.equal(chain[: len(moved_on)], moved_on) for chain in actions[problem])


def test_rows_of_no_sense_are_refused():
    with pytest.raises(InputError, match="replan_every: expected a whole number of at least 1, got 0"):
        agent(replan_every=0)


def test_another_goal_ends_a_plan_at_once():
    mpc = agent(replan_every=3, tolerance=1.0)
    here, plan, followed = np.zeros((2, 2)), None, []
    for goal in (GOAL, GOAL, -GOAL, -GOAL):
        observation = {"observation": here, "desired_goal": np.stack([GOAL, goal])}
        actions, plan = mpc.predict(observation, plan)
        followed.append(plan.age)
    assert followed == [0, 1, 0, 1]
    assert (actions[1] < 0).all()
    assert (actions[0] > 0).all()
