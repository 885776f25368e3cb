"""Coordinates that no action can move do not decide how closely plans keep to the dynamics."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from ebm_control.control import planner_for
from ebm_control.data import collect
from ebm_control.data.windows import steady_coordinates, window_batches
from ebm_control.energies import GoalCost
from ebm_control.models import ModelSettings, TrainSettings, TrajectoryModel, fit_model
from ebm_control.planning import MPCAgent, run_episodes
from ebm_control.planning.stiffness import moved_by_actions, tempered
from tests.data.environments import Point

pytestmark = pytest.mark.slow

EXTRAS = {
    "none": lambda env: [],
    "constant": lambda env: [1.0],
    "large constant": lambda env: [-7000.1],
    "five zeros": lambda env: [0.0] * 5,
    "of the episode": lambda env: [env.own],
    "clock": lambda env: [env.t / 60],
    "phase": lambda env: [math.sin(env.t / 5), math.cos(env.t / 5)],
}


class Cart(Point):
    """Noisy position and velocity of one axis, beside coordinates that no action moves."""

    def __init__(self, extra):
        super().__init__(dim=1, limit=25)
        self.extra, self.own, self.s, self.t = EXTRAS[extra], 0.0, np.zeros(2), 0
        self.observation_space = Box(-np.inf, np.inf, self.seen().shape, np.float64)

    def seen(self):
        return np.concatenate([self.s, self.extra(self)])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.own = self.np_random.uniform()
        self.s = np.array([self.s[0], 0.0])
        return self.seen(), {}

    def step(self, action):
        p, v = self.s
        v = 0.9 * v + 0.1 * float(action[0]) + 0.05 * self.np_random.normal()
        self.s, self.t = np.array([p + 0.3 * v + 0.02 * self.np_random.normal(), v]), self.t + 1
        return self.seen(), -abs(self.s[0] - 0.5), False, self.t >= self.limit, {}


SETTINGS = TrainSettings(
    ModelSettings(hidden=(16, 16), base_hidden=(48, 48)),
    updates=5,
    base_updates=1200,
    batch_size=128,
    langevin_steps=2,
)


@cache
def model_of(extra):
    data = collect(lambda: Cart(extra), 4000, progress=False)
    return fit_model(data, SETTINGS, progress=False)


def steady_planner(extra):
    model = model_of(extra)
    costs = 20 * GoalCost(model.layout, (0,), smooth=0.02)
    return planner_for(model, costs, 8, action_space=Cart(extra).action_space)


@cache
def mean_return(extra):
    space, normalizer = Cart(extra).action_space, model_of(extra).normalizer
    agent = MPCAgent(steady_planner(extra), normalizer, space, goal=np.array([0.5]), replan_every=3)
    return run_episodes(agent, [Cart(extra) for _ in range(8)], seed=50).mean


@pytest.mark.parametrize("extra", [name for name in EXTRAS if name != "none"])
def test_the_return_is_that_without_them(extra):
    # The same starts and noise: what differs is training alone.
    assert mean_return(extra) == pytest.approx(mean_return("none"), rel=0.15)
    energy = model_of(extra).energy
    assert moved_by_actions(energy).tolist() == [True, True] + [False] * (energy.layout.obs_dim - 2)
    assert energy.steady.tolist()[2:] == [extra != "phase"] * (energy.layout.obs_dim - 2)
    softened, stiffest = tempered(energy)
    assert stiffest == pytest.approx(float(energy.base.std[:2].min()))
    assert (softened.base.std >= stiffest).all()


def test_steady_coordinates_are_planned_where_they_will_be():
    model, env = model_of("clock"), Cart("clock")
    start = model.normalizer.normalize_observations(torch.as_tensor(env.reset(seed=0)[0])).float()
    plan = steady_planner("clock").plan(start[None], torch.zeros(1))
    raw = model.normalizer.denormalize_observations(plan.states[0])[:, 2]
    assert torch.allclose(raw.double(), torch.arange(9).double() / 60, atol=1e-4)


def test_what_is_steady_survives_saving_and_older_checkpoints_load(tmp_path):
    data = collect(lambda: Cart("clock"), 400, progress=False)
    tiny = TrainSettings(
        ModelSettings(hidden=(8,), base_hidden=(8,)), updates=1, base_updates=1, langevin_steps=1
    )
    model = fit_model(data, tiny, folder=tmp_path, progress=False)
    loaded = TrajectoryModel.load(tmp_path / "checkpoints").energy
    assert torch.equal(loaded.steady, model.energy.steady)
    assert torch.equal(loaded.rate, model.energy.rate)
    assert loaded.rate[2] > 0
    older = {k: v for k, v in model.energy.state_dict().items() if k not in ("steady", "rate")}
    loaded.load_state_dict(older)
    assert not loaded.steady.any()


def test_a_coordinate_that_hardly_ever_moves_is_not_steady():
    class Button(Cart):
        def seen(self):
            return np.append(super().seen(), float(self.s[0] > 1.5))

    data = collect(lambda: Button("constant"), 4000, progress=False)
    assert 0 < np.abs(np.diff(data.observations[:, 3])).sum() < 200
    batches = window_batches(data, data.normalizer())
    steady, rate = steady_coordinates(batches, data.normalizer().layout)
    assert steady.tolist() == [False, False, True, False]
    assert (rate[steady] == 0).all()
