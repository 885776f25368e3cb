"""Online learning in one call, with the settings of a family of environments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.extras import MissingExtraError
from ebm_control.online import PRESETS, OnlinePlanner, learn_online, prepare_online, preset_of
from ebm_control.online import presets as module
from ebm_control.planning import run_episodes
from ebm_control.planning.shooting import AlongMean
from ebm_control.samplers import CEM, GaussNewton
from tests.data.environments import Point

TINY = replace(
    PRESETS["reward"],
    horizon=3,
    policy={"hidden": (16,), "batch_size": 32, "learning_rate": 1e-2, "updates": 1.0},
    acting={**PRESETS["reward"].acting, "environments": 2, "warm_up": 200, "every": 100},
    tilt=(8,),
    base=(16,),
    updates=2,
    base_updates=60,
    reward_updates=60,
)


@pytest.mark.parametrize(
    ("env", "kind", "name"),
    [
        ("HalfCheetah-v5", {}, "locomotion"),
        ("Hopper-v4", {}, "locomotion"),
        ("Reacher-v5", {}, "reaching"),
        ("Pusher-v5", {}, "reaching"),
        ("AntMaze_UMaze-v4", {"goals": True}, "goals"),
        ("gymnasium_robotics:PointMaze_Large-v3", {"goals": True}, "mazes"),
        ("FetchReach-v4", {"goals": True}, "goals"),
        ("CartPole-v1", {"choices": True}, "choices"),
        ("Pendulum-v1", {}, "reward"),
        ("my/Robot-v0", {}, "reward"),
        (None, {}, "reward"),
    ],
)
def test_an_environment_has_the_preset_of_its_family_or_its_kind(env, kind, name):
    assert preset_of(env, **kind) == name
    assert name in PRESETS


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["energy", "feed-forward"])
def test_one_call_learns_a_task_of_ones_own(learner):
    told = []
    run = learn_online(
        Point,
        500,
        learner=learner,
        preset=TINY,
        progress=False,
        report=lambda step, run: told.append((step, run.progress.rounds)),
    )
    assert [step for step, _ in told] == [200, 300, 400, 500]
    assert isinstance(run.planner, OnlinePlanner)
    assert run.planner.policy is not None
    assert run.planner.policy.rounds == 4
    starts = [Point() for _ in range(5)]
    assert run_episodes(run.agent(), starts, seed=1).mean > -15.0, "random actions: about -25"


def test_a_known_reward_is_taken_as_it_is():
    def reward(states, actions, after):
        return -(after - 0.5).abs().sum(dim=-1)

    run = prepare_online(Point, 500, reward=reward, preset=TINY, progress=False)
    assert isinstance(run.planner, OnlinePlanner)
    assert run.planner.reward.known is reward


def test_a_reward_beside_a_cost_is_refused():
    with pytest.raises(InputError, match=r"^cost: expected one of them, got a reward too"):
        prepare_online(Point, 100, reward=lambda s, a, n: a[..., 0], cost=lambda model: None, progress=False)


def test_without_stable_baselines3_plans_are_longer_and_a_warning_says_so(monkeypatch):
    def missing(**given):
        raise MissingExtraError("ActorCritic: no package")

    monkeypatch.setattr(module, "ActorCritic", missing)
    with pytest.warns(UserWarning, match="ActorCritic: no package; plans go without"):
        run = prepare_online(Point, 500, preset=TINY, progress=False)
    assert isinstance(run.planner, OnlinePlanner)
    assert run.planner.policy is None
    assert run.planner.horizon == 12


@pytest.mark.slow
def test_a_weight_of_zero_leaves_the_tilt_out_of_plans():
    found = []
    for weight in (None, 0.0):
        run = prepare_online(Point, 220, preset=replace(TINY, policy=None, weight=weight), progress=False)
        run.run()
        energy = run.agent().planner.energy
        x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 4, 4))).float()
        (tilt,) = [part for part in energy.modules() if isinstance(part, AlongMean)]
        with torch.no_grad():
            tilted = energy(x)
            for weights in tilt.energy.network.parameters():
                weights.add_(0.5)
            found.append(float((energy(x) - tilted).abs().max()))
    assert found[0] > 1e-3
    assert found[1] == 0.0


@pytest.mark.parametrize("name", ["walking", 3])
def test_an_unknown_preset_is_refused(name):
    with pytest.raises(InputError, match=r"^preset: expected an OnlinePreset or one of \['choices'"):
        prepare_online(Point, 100, preset=name)


@pytest.mark.slow
def test_reaching_plans_by_second_order_steps_on_the_learned_reward():
    small = {"tilt": (8,), "base": (16,), "updates": 2, "base_updates": 60, "reward_updates": 60}
    preset = replace(PRESETS["reaching"], acting={**PRESETS["reaching"].acting, "warm_up": 200}, **small)
    run = prepare_online(Point, 220, preset=preset, progress=False)
    run.run()
    planner = run.agent().planner
    assert isinstance(planner.sampler, GaussNewton)
    assert planner.rolled_out is None, "over states and actions"
    network = prepare_online(Point, 220, learner="feed-forward", preset=preset, progress=False)
    network.run()
    assert isinstance(network.agent().planner.sampler, CEM), (
        "a network has no energy to be nearly a sum of squares"
    )
