"""What changes at test time: the problems, their oracles and measures, and agents with other costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ebm_control.data import collect
from ebm_control.energies import SpeedCost, TrajectoryLayout
from ebm_control.planning import Guided
from ebm_envs.oracles import maze_oracle
from experiments.planning import changes as c
from experiments.planning import methods as m
from experiments.planning.problems import PARTICLE
from experiments.planning.rows import each_alone, episodes, row, together


class Straight:
    """Each axis straight to the goal in view, `speed` a step."""

    def __init__(self, speed: float) -> None:
        self.speed = speed

    def predict(
        self, observation: dict[str, np.ndarray], state: object = None, *_: object
    ) -> tuple[np.ndarray, object]:
        away = observation["desired_goal"] - observation["observation"]
        return np.clip(away, -self.speed, self.speed), state


def test_a_moved_goal_shows_after_half_of_the_episode_and_the_oracle_is_straight_pursuit() -> None:
    env, options = c.MOVED.make(), c.moved(3)
    observation, _ = env.reset(seed=0, options=options)
    for taken in range(c.HALF + 1):
        wanted = options["goal"] if taken < c.HALF else options["then"]
        assert np.array_equal(observation["desired_goal"], wanted)
        observation, reward, *_ = env.step(np.zeros(2))
        paid = options["goal"] if taken < c.HALF else options["then"]
        assert reward == pytest.approx(-np.abs(options["start"] - paid).sum())
    found = episodes(c.MOVED, Straight(0.05), 3, seed=900_000, first=900_000)
    assert np.mean(found["returns"]) == pytest.approx(found["oracle"], abs=1e-4)
    assert all(found["solved"])


def test_the_oracle_of_the_speed_limit_is_straight_pursuit_at_the_limit() -> None:
    found = episodes(c.SLOW, Straight(c.SPEED), 3, seed=900_000, first=900_000)
    assert np.mean(found["returns"]) == pytest.approx(found["oracle"], abs=1e-4)
    assert all(found["solved"])
    assert not c.over_limit(found["observations"]).any()
    faster = episodes(c.SLOW, Straight(0.05), 3, seed=900_000, first=900_000)
    assert np.mean(faster["returns"]) > faster["oracle"]
    assert c.over_limit(faster["observations"]).any(0).all()


def test_boxes_in_the_maze_lie_on_the_way_and_leave_a_passage() -> None:
    options = c.maze_obstacle(900_000)
    free = maze_oracle(options["start"], options["goal"], c.MAZE_STEPS)
    ((low, high),) = options["obstacles"]
    assert ((free.states > low - 0.06) & (free.states < high + 0.06)).all(-1).any()
    found = maze_oracle(options["start"], options["goal"], c.MAZE_STEPS, options["obstacles"])
    assert np.abs(found.states[-1] - options["goal"]).sum() < c.MAZE_BOX.success
    assert found.return_ <= free.return_ + 1e-6


def test_places_are_joined_only_where_a_way_is_left() -> None:
    below, above = np.array([-0.75, -0.8]), np.array([-0.75, 0.8])
    assert c.joined(below, above, np.array([-0.9, -0.1]), np.array([-0.7, 0.1]))
    assert not c.joined(below, above, np.array([-1.0, -0.1]), np.array([-0.4, 0.1]))


def test_jerkiness_is_zero_at_constant_speed_and_counts_turns() -> None:
    line = np.linspace(0, 1, 11)[:, None, None] * np.array([1.0, 2.0])
    assert c.jerkiness(line) == pytest.approx(0)
    turn = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])[:, None]
    assert c.jerkiness(turn) == pytest.approx(2.0)


def test_a_further_cost_reaches_the_plans_of_every_method() -> None:
    layout = TrajectoryLayout(2)
    limit = torch.tensor([0.1, 0.1])
    problem = replace(PARTICLE, further=lambda layout: 3 * SpeedCost(layout, limit))
    x = torch.tensor([[[0.0, 0.0], [0.3, 0.0]]])
    extra = problem.goal_cost(layout)(x) - PARTICLE.goal_cost(layout)(x)
    assert float(extra) == pytest.approx(3 * 0.5 * 0.2**2, rel=1e-4)


def test_other_costs_keep_the_guide_and_slow_the_plan() -> None:
    data = collect(PARTICLE.make, 3000, seed=0, progress=False)
    fine, coarse = m.fine_and_coarse(data, 0, updates=3)
    env, limit = c.SLOW.make(), c.slow_limit(fine)
    guided = m.guided_method(c.SLOW, fine, coarse, data, seed=0)
    terms = c.slowness(fine.model.layout, limit)
    held = c.with_terms(guided, c.SLOW, "slower", limit, terms, 0, steps=0.25)
    assert (held.planner, held.trained) == ("slower", guided.trained)
    plain, slow = guided.agent, held.agent
    assert isinstance(plain.planner, Guided)
    assert isinstance(slow.planner, Guided)
    assert slow.planner.guide is plain.planner.guide
    observation, _ = env.reset(seed=0, options={"start": (-0.1, -0.1), "goal": (0.2, 0.2)})
    fast, slowed = (np.abs(agent.predict(observation)[0]).max() for agent in (plain, slow))
    assert slowed <= c.TOLERANCE * c.SPEED < fast


def test_episodes_run_one_at_a_time_make_one_row() -> None:
    straight: Any = [Straight(0.02)] * 2
    found = each_alone(c.SLOW, straight, 900_000, 900_000)
    apart = [
        episodes(c.SLOW, straight[0], 1, seed=900_000, first=900_000 + i, oracle=i == 0) for i in range(2)
    ]
    assert found["returns"] == [part["returns"][0] for part in apart]
    method = m.Method("straight", [m.Trained(None, 2.0, "none"), m.Trained(None, 3.0)], straight[0])
    made = row(c.SLOW, method, 0, together(apart), {"jerkiness": c.jerkiness(found["observations"])})
    assert found["observations"].shape == (51, 2, 2)
    assert (made["method"], made["planner"], made["train_seconds"]) == ("none", "straight", 5.0)
    assert made["oracle"] is None  # one part has none
    assert found["oracle"] is not None
    assert made["return"] == pytest.approx(np.mean(found["returns"]))
    assert made["extra"]["jerkiness"] > 0
    assert "extra" not in row(c.SLOW, method, 0, found)
