"""What a run plans for where it is given no planner: goals, a cost, a reward, or a reward that it learns."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch

from ebm_control.baselines import Ensemble, FeedForward
from ebm_control.checks import InputError
from ebm_control.control import planner_for
from ebm_control.data import collect
from ebm_control.energies import GoalCost
from ebm_control.online import EnergyLearner, LearnedReward, OnlineLearning, OnlinePlanner, OnlineSettings
from ebm_control.online.progress import EpisodeEnd, Progress
from ebm_control.planning import run_episodes
from tests.data.environments import Point
from tests.data.test_goals import Shown
from tests.online.helpers import PARTICLE, SPACE, baseline_learner

pytestmark = pytest.mark.slow

SHORT = OnlineSettings(steps=240, environments=4, warm_up=200, every=100, growth=0.0)


def learning(env=PARTICLE, learner="feed-forward", planner=None, settings=SHORT, **given):
    return OnlineLearning(env, learner, planner, settings, progress=False, **given)


@pytest.fixture(scope="module")
def begun():
    """A short run for the particle's goals."""
    run = learning()
    run.run()
    return run


def test_goals_are_found_and_planned_for_as_one_would_by_hand(begun):
    assert begun.planner.goal_index == (0, 1)
    by_hand = planner_for(
        begun.model,
        20 * GoalCost(begun.model.layout, (0, 1), smooth=0.02),
        12,
        action_space=SPACE,
        shooting=False,
        generator=torch.Generator().manual_seed(240),
        preset="online",
    )
    start, goal = torch.zeros(3, 2), torch.ones(3, 2)
    plans = [
        planner.plan(start, goal, generator=torch.Generator().manual_seed(0)).states
        for planner in (by_hand, begun.planner(begun.model, 240))
    ]
    assert torch.equal(*plans)


def test_a_run_without_a_planner_reaches_goals():
    settings = OnlineSettings(steps=800, environments=8, warm_up=200, noise=0.1)
    run = learning(settings=settings, horizon=5)
    run.run()
    found = run_episodes(run.agent(), [gym.make(PARTICLE) for _ in range(4)], seed=9)
    random = np.mean([e.return_ for e in run.progress.episodes if e.step <= 400])
    assert found.mean > random / 2  # returns are negative distances


@pytest.mark.parametrize(
    ("word", "kind"), [("energy", EnergyLearner), ("feed-forward", FeedForward), ("ensemble", Ensemble)]
)
def test_learners_are_made_of_words(word, kind):
    made = learning(learner=word, settings=OnlineSettings(steps=300, environments=4, seed=3)).learner
    if word == "energy":
        assert isinstance(made, kind)
        assert made.transitions == 304
        assert made.settings.seed == 3
        return
    made.begin(*data_of_point())
    assert isinstance(made.model.dynamics, kind)
    assert made.seed == 3


def data_of_point():
    data = collect(Point, steps=60, progress=False)
    return data, data.normalizer()


def test_a_known_reward_is_in_raw_units_and_is_reached():
    def reward(states, actions, after):
        return -10 * (after - 0.5).abs().sum(dim=-1)

    settings = OnlineSettings(steps=480, environments=4, warm_up=240, every=120)
    run = learning(Point, baseline_learner(), settings=settings, reward=reward, horizon=5)
    assert run.planner.goal_index is None
    run.run()
    found = run_episodes(run.agent(), [Point() for _ in range(4)], seed=9)
    assert found.last_rewards.mean() > -0.2


def test_a_reward_is_learned_where_there_is_no_goal():
    run = learning(Point)
    assert isinstance(run.planner.reward, LearnedReward)
    run.run()
    assert run.planner.reward.error < 0.5


def test_a_cost_is_an_energy_or_is_made_of_the_model(begun):
    for cost in (GoalCost(begun.model.layout, (1,)), lambda model: GoalCost(model.layout, (1,))):
        run = learning(cost=cost, horizon=4)
        planner = run.planner(begun.model, 0)
        assert planner.goal_index == (1,)
        assert planner.horizon == 4


def test_the_environment_is_made_with_its_options():
    run = learning("ebm/Reacher-v0", env_kwargs={"goal": (0.7, 0.5)})
    goals = [env.reset(seed=i)[0]["desired_goal"] for i, env in enumerate(run.environments.all)]
    np.testing.assert_allclose(goals, [(0.7, 0.5)] * 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"learner": "linear"},
            r"learner: expected a Learner or one of \('energy', 'feed-forward', 'ensemble'\), got 'linear'",
        ),
        ({"cost": GoalCost, "reward": print}, "cost: expected one of them, got a reward too"),
        ({"cost": 3}, "cost: expected a function, got int"),
        ({"planner": print, "cost": print}, "cost: expected None, as the planner has its own"),
        ({"planner": print, "reward": print}, "reward: expected None, as the planner has its own"),
        ({"planner": print, "goal_index": (0, 1)}, "goal_index: expected None, as the planner has its own"),
        ({"planner": 3}, "planner: expected a function that makes planners, got 3"),
        ({"horizon": 0}, "horizon: expected a whole number of at least 1"),
        ({"env": Point(), "env_kwargs": {"dim": 3}}, "env: expected an id or a function, to make"),
        ({"env_kwargs": {"nonsense": 1}}, "env_kwargs: expected arguments that .* takes, got .*nonsense"),
    ],
)
def test_what_does_not_go_together_is_refused_and_named(given, message):
    with pytest.raises(InputError, match=message):
        learning(**given)


def test_goals_that_cannot_be_found_are_named():
    def make():
        return Shown(lambda s: [s[0], s[1], s[1]], lambda s: s)

    with pytest.raises(InputError, match=r"goal_index: expected one .*give goal_index"):
        learning(make)
    assert learning(make, goal_index=(0, 2)).planner.goal_index == (0, 2)


def test_a_planner_of_no_run_says_so(begun):
    with pytest.raises(InputError, match="planner: expected one that OnlineLearning was given"):
        OnlinePlanner()(begun.model, 0)


def test_progress_comes_back_from_json_as_it_has_always_been_written():
    progress = Progress(40, 2, 60, 1.5, [EpisodeEnd(20, -3.0, -0.5), EpisodeEnd(40, -2.0, 0.0)])
    written = {"step": 40, "rounds": 2, "next_round": 60, "effort": 1.5,
               "episodes": [[20, -3.0, -0.5], [40, -2.0, 0.0]]}  # fmt: skip
    assert json.loads(json.dumps(progress.plain())) == written
    assert Progress.from_plain(written) == progress
