"""Guides fitted to rollouts: where lines are clear, in any units, and agents that follow routes."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from ebm_control import InputError, MPCAgent, RolloutBuffer, TrainSettings, collect, evaluate, fit
from ebm_control.control import FittedGuide, GuideSettings, fit_guide, make_agent
from ebm_control.data import Normalizer
from ebm_control.models import ModelSettings, TrajectoryModel
from ebm_control.planning import Guided
from tests.control.rooms import QUICK, make_rooms

pytestmark = pytest.mark.slow

POSITION = (1, 2)


@pytest.fixture(scope="module")
def rollouts() -> RolloutBuffer:
    return collect(make_rooms, 6000, seed=0, starts=lambda rng: {"side": "any"}, progress=False)


@pytest.fixture(scope="module")
def guide(rollouts: RolloutBuffer) -> FittedGuide:
    return fit_guide(rollouts, POSITION, QUICK, progress=False)


@pytest.fixture(scope="module")
def model(rollouts: RolloutBuffer) -> TrajectoryModel:
    form = ModelSettings(hidden=(16,), base_hidden=(32, 32))
    return fit(rollouts, TrainSettings(form, updates=5, base_updates=300), progress=False)


def positions(units: Normalizer, *points: tuple[float, float]) -> Tensor:
    whole = torch.tensor([[0.0, *point] for point in points], dtype=torch.float64)
    return units.normalize_observations(whole)[:, 1:].float()


def test_lines_within_a_room_are_clear_and_lines_through_the_wall_are_not(
    guide: FittedGuide, rollouts: RolloutBuffer
) -> None:
    units = rollouts.normalizer()
    sight = guide.line_of_sight(units)
    start = positions(units, (-0.6, -0.5), (-0.6, 0.7), (-0.6, -0.5), (-0.5, -0.2))
    end = positions(units, (-0.6, 0.7), (0.6, 0.7), (0.6, -0.5), (0.5, -0.2))
    assert sight(start, end).tolist() == [True, True, False, False]


def test_a_route_goes_through_the_door(guide: FittedGuide, rollouts: RolloutBuffer) -> None:
    units = rollouts.normalizer()
    roadmap = guide.roadmap(guide.line_of_sight(units), units)
    start, goal = positions(units, (-0.6, -0.5)), positions(units, (0.6, -0.5))
    (route,) = roadmap.routes(start, goal)
    std, mean = (getattr(units, name)[1:].float() for name in ("obs_std", "obs_mean"))
    assert (route * std + mean)[:, 1].max() > 0.3
    assert len(route) >= 3


def test_verdicts_do_not_depend_on_the_units_of_the_plans(
    guide: FittedGuide, rollouts: RolloutBuffer
) -> None:
    units = rollouts.normalizer()
    other = replace(units, obs_mean=units.obs_mean + 0.3, obs_std=2 * units.obs_std)
    generator = torch.Generator().manual_seed(0)
    points = [tuple(p) for p in (2 * torch.rand(200, 2, generator=generator) - 1).tolist()]
    worst, lengths = [], []
    for normalizer in (units, other):
        sight, x = guide.line_of_sight(normalizer), positions(normalizer, *points)
        worst.append(sight.worst(x[:100], x[100:]))
        lengths.append(sight.length(x[:100], x[100:]))
    torch.testing.assert_close(worst[0], worst[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(lengths[0], lengths[1])


def test_an_agent_with_a_guide_gets_through_the_door_and_one_without_does_not(
    guide: FittedGuide, model: TrajectoryModel
) -> None:
    env = make_rooms()
    guided, straight = (make_agent(model, env, horizon=8, guide=g) for g in (guide, None))
    assert isinstance(guided, MPCAgent)
    assert isinstance(guided.planner, Guided)
    assert evaluate(guided, make_rooms, episodes=6).success_rate == 1.0
    assert evaluate(straight, make_rooms, episodes=6).success_rate == 0.0


def test_a_guide_is_the_same_for_the_same_seed(rollouts: RolloutBuffer) -> None:
    brief = replace(QUICK, training=replace(QUICK.training, updates=3))
    one, two, other = (fit_guide(rollouts, POSITION, brief, seed=s, progress=False) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.nodes, two.nodes)
    assert not np.array_equal(one.nodes, other.nodes)
    x = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(one.model.energy(x), two.model.energy(x), rtol=0, atol=0)


def test_the_gap_of_pairs_grows_until_states_move_but_stays_within_episodes(rollouts: RolloutBuffer) -> None:
    brief = replace(QUICK, training=replace(QUICK.training, updates=1))
    slow, still = RolloutBuffer(1, 1), RolloutBuffer(1, 1)
    for i in range(20):  # a tenth of the std, which is about 1, takes ten steps of 0.01
        slow.add_episode(np.linspace(i / 6, i / 6 + 1, 101)[:, None], np.zeros((100, 1)))
        still.add_episode(np.linspace(i / 6, i / 6 + 1e-3, 13)[:, None], np.zeros((12, 1)))
    gaps = [fit_guide(data, (0,), brief, progress=False).model.settings.gaps for data in (slow, still)]
    assert gaps == [(16,), (4,)]


def test_nodes_are_spread_over_data_that_are_not() -> None:
    data, rng = RolloutBuffer(1, 1), np.random.default_rng(0)
    for place in (*[0.0] * 50, 5.0):
        data.add_episode(place + np.cumsum(rng.uniform(-0.1, 0.1, (40, 1)), axis=0), np.zeros((39, 1)))
    brief = replace(QUICK, nodes=10, training=replace(QUICK.training, updates=1))
    nodes = fit_guide(data, (0,), brief, progress=False).nodes
    assert (nodes > 4).sum() >= 2  # by chance it would be 0.2


def test_what_is_no_guide_is_refused(model: TrajectoryModel, rollouts: RolloutBuffer) -> None:
    with pytest.raises(InputError, match="guide: expected a guide of fit_guide"):
        make_agent(model, make_rooms(), guide="roadmap")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="index"):
        fit_guide(rollouts, (1, 3))
    with pytest.raises(InputError, match="rollouts: expected a RolloutBuffer"):
        fit_guide([rollouts], POSITION)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rollouts: expected some"):
        fit_guide(RolloutBuffer(3, 2), POSITION)
    with pytest.raises(InputError, match=r"training.model: expected a joint energy"):
        GuideSettings(training=TrainSettings())
    with pytest.raises(InputError, match="quantile"):
        GuideSettings(quantile=0.0)


def test_a_guide_that_lacks_the_goals_coordinates_is_refused(
    rollouts: RolloutBuffer, model: TrajectoryModel
) -> None:
    brief = replace(QUICK, training=replace(QUICK.training, updates=1))
    other = fit_guide(rollouts, (1,), brief, progress=False)
    with pytest.raises(InputError, match="index: expected the coordinates of the planner's goal"):
        make_agent(model, gym.wrappers.TimeLimit(make_rooms(), 5), guide=other)
