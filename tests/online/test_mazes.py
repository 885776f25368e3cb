"""Runs that go everywhere first and plan along routes then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ebm_control import InputError, Planner, evaluate
from ebm_control.control import GuideSettings
from ebm_control.online import FrontierGoals, OnlineLearning, OnlinePlanner, prepare_online, preset_of
from ebm_control.online.presets import GOALS, MAZES
from ebm_control.planning import Guided
from ebm_control.samplers import CEM, GaussNewton
from tests.control.rooms import QUICK, Rooms, make_rooms

pytestmark = pytest.mark.slow

SMALL = replace(
    MAZES,
    horizon=8,
    acting={**(MAZES.acting or {}), "environments": 4, "warm_up": 200, "every": 700, "growth": 0.0},
    tilt=(16,),
    base=(32, 32),
    guide=QUICK,
    places=0.2,
)


@pytest.fixture(scope="module")
def explored() -> OnlineLearning:
    run = prepare_online(make_rooms, 3000, preset=SMALL, seed=0, progress=False)
    run.run()
    return run


def test_a_run_explores_without_routes_and_its_agent_reaches_goals_behind_the_wall(
    explored: OnlineLearning,
) -> None:
    assert isinstance(explored.goals, FrontierGoals)
    acting = explored._agent
    assert acting is not None
    assert isinstance(acting.planner, Planner)
    agent = explored.agent()
    assert isinstance(agent.planner, Guided)
    assert agent.planner.index == (1, 2)
    found = evaluate(agent, make_rooms, episodes=6).success_rate
    assert found is not None
    assert found > 0.8  # none by plans straight to the goals


def test_a_guide_is_fitted_again_only_once_the_experience_has_grown(explored: OnlineLearning) -> None:
    planner = explored.planner
    assert isinstance(planner, OnlinePlanner)
    planner(explored.model, 3000)
    before, guide = planner._fitted
    planner(explored.model, int(1.1 * before))
    assert planner._fitted == (before, guide)
    planner(explored.model, 2 * before)
    assert planner._fitted[0] == 2 * before
    assert planner._fitted[1] is not guide


def test_a_run_towards_the_environments_goals_acts_along_routes() -> None:
    brief = replace(QUICK, training=replace(QUICK.training, updates=2))
    run = prepare_online(make_rooms, 200, preset=replace(SMALL, guide=brief, places=None), progress=False)
    run.run()
    assert run.goals is None
    assert run._agent is not None
    assert isinstance(run._agent.planner, Guided)


def test_goals_are_planned_for_by_second_order_steps_where_the_model_suits_them() -> None:
    samplers = []
    for learner in ("energy", "feed-forward"):
        preset = replace(SMALL, guide=None, places=None)
        run = prepare_online(make_rooms, 250, learner=learner, preset=preset, progress=False)
        run.run()
        found = run.agent().planner
        assert isinstance(found, Planner)
        samplers.append(type(found.sampler))
    assert samplers == [GaussNewton, CEM]
    assert GOALS.sampler == "gauss-newton"


def test_mazes_have_a_preset_of_their_own() -> None:
    assert preset_of("gymnasium_robotics:PointMaze_Medium-v3", goals=True) == "mazes"
    assert preset_of("FetchReach-v4", goals=True) == "goals"


def test_routes_are_for_goals_alone() -> None:
    with pytest.raises(InputError, match="guide: expected one for goals alone"):
        OnlinePlanner(guide=GuideSettings(), reward=lambda s, a, after: s[..., 0])
    by_reward = prepare_online(Rooms, 250, preset=SMALL, reward=lambda s, a, after: after[..., 1])
    assert isinstance(by_reward.planner, OnlinePlanner)
    assert by_reward.planner.guide is None
    assert by_reward.goals is None
