"""Oracles: what they claim can be replayed, and it is hard to beat."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from ebm_envs.oracles import OracleResult, maze_oracle, particle_oracle, reacher_oracle
from ebm_envs.oracles.refine import refine
from ebm_envs.point import segments_blocked
from tests.envs.helpers import replay

pytestmark = pytest.mark.slow

BAR = [[[0.2, 0.1], [0.3, 0.5]]]


def assert_replays(name: str, result: OracleResult, **options) -> None:
    total, states = replay(name, result.actions, **options)
    assert total == pytest.approx(result.return_, abs=1e-6)
    np.testing.assert_allclose(states, result.states, atol=1e-6)
    total, _ = replay(name, result.actions.astype(np.float32), **options)
    assert total == pytest.approx(result.return_, abs=1e-4)


def test_the_particle_oracle_is_the_closed_form():
    assert particle_oracle((0, 0), (0.5, 0.5)).return_ == pytest.approx(-4.5, abs=1e-12)


@pytest.mark.parametrize(("start", "goal"), [((0, 0), (0.5, 0.5)), ((-0.93, 0.11), (0.8, -0.42))])
def test_the_particle_oracle_is_what_a_greedy_policy_scores(start, goal):
    env = gym.make("ebm/Particle-v0")
    observation, _ = env.reset(options={"start": start, "goal": goal})
    total = 0.0
    for _ in range(50):
        observation, reward, *_ = env.step(np.clip(goal - observation["observation"], -0.05, 0.05))
        total += reward
    result = particle_oracle(start, goal)
    assert result.return_ == pytest.approx(total, abs=1e-9)
    assert_replays("ebm/Particle-v0", result, start=start, goal=goal)


def test_the_grid_oracle_agrees_with_the_closed_form_where_nothing_is_in_the_way():
    start, goal = (-0.31, 0.12), (0.24, -0.2)
    far_off = [[[0.9, 0.9], [0.95, 0.95]]]
    on_grid = particle_oracle(start, goal, obstacles=far_off, steps=20)
    assert on_grid.return_ == pytest.approx(particle_oracle(start, goal, steps=20).return_, abs=1e-6)


def test_the_particle_oracle_goes_round_obstacles():
    start, goal = (0.0, 0.0), (0.5, 0.5)
    result = particle_oracle(start, goal, obstacles=BAR)
    assert -7 < result.return_ < -4.6
    assert_replays("ebm/Particle-v0", result, start=start, goal=goal, obstacles=BAR)


@pytest.mark.parametrize(("goal", "returns"), [((-0.45, 0.8), -28.55), ((0.7, -0.8), -73.82)])
def test_the_maze_oracle_walks_to_the_goal(goal, returns):
    start = (-0.85, -0.85)
    result = maze_oracle(start, goal)
    assert result.return_ == pytest.approx(returns, abs=0.02)
    np.testing.assert_allclose(result.states[-1], goal, atol=1e-9)
    assert_replays("ebm/Maze-v0", result, start=start, goal=goal)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_maze_oracle_goes_round_obstacles_between_any_two_points(seed):
    env = gym.make("ebm/Maze-v0", start="random", goal="random", obstacles=[[[0.1, 0.2], [0.33, 0.44]]])
    observation, _ = env.reset(seed=seed)
    options = {"start": observation["observation"], "goal": observation["desired_goal"]}
    options["obstacles"] = env.unwrapped.obstacles
    result = maze_oracle(**options)
    np.testing.assert_allclose(result.states[-1], options["goal"], atol=1e-6)
    assert_replays("ebm/Maze-v0", result, **options)


def test_refining_takes_a_path_off_its_grid():
    """A detour on the left of a box, 0.2 wide, shrinks to the corner that is on the straight way."""
    box = np.array([[[0.0, 0.0], [0.2, 0.2]]])
    goal = np.array([0.3, 0.1])
    up, across, down = (
        np.linspace(a, b, 9)
        for a, b in (([-0.1, 0.1], [-0.1, 0.4]), ([-0.1, 0.4], [0.3, 0.4]), ([0.3, 0.4], goal))
    )
    path = np.concatenate([up, across[1:], down[1:]])
    better = refine(path, goal, box, max_step=0.07)
    assert np.abs(better[1:] - goal).sum() < 0.6 * np.abs(path[1:] - goal).sum()
    assert not segments_blocked(better[:-1], better[1:], box).any()
    assert np.abs(np.diff(better, axis=0)).max() <= 0.07
    np.testing.assert_array_equal(better[0], path[0])


def test_the_maze_oracle_honours_the_step_limit():
    """The goal is just behind the wall and out of reach in 5 steps: leaning on the wall is best."""
    result = maze_oracle((-0.6, -0.8), (0.05, -0.8), steps=5)
    distances = np.maximum(0.65 - 0.05 * np.arange(1, 6), 0.55)
    assert result.return_ == pytest.approx(-distances.sum(), abs=1e-4)


def test_the_reacher_oracle_replays_and_beats_sampling_planners():
    result = reacher_oracle((0, 0), (0.7, 0.5))
    assert result.return_ >= -5.4
    assert_replays("ebm/Reacher-v0", result, start=(0, 0), goal=(0.7, 0.5))


@pytest.mark.parametrize(
    ("start", "goal"), [((0.1, -0.2, 2.0, -1.5), (-0.6, 0.9)), ((0.9, -0.9), (-0.95, 0.95))]
)
def test_the_reacher_oracle_turns_either_way(start, goal):
    result = reacher_oracle(start, goal)
    assert_replays("ebm/Reacher-v0", result, start=start, goal=goal)
    assert np.abs(result.states[-1, :2] - goal).sum() < 1e-2


def test_the_reacher_oracle_is_a_local_best():
    start, goal = (0.0, 0.0), (0.4, -0.3)
    result = reacher_oracle(start, goal, steps=25)
    generator = np.random.default_rng(0)
    for size in (0.3, 0.03, 0.003):
        for _ in range(10):
            other = np.clip(result.actions + size * generator.normal(size=result.actions.shape), -1, 1)
            assert replay("ebm/Reacher-v0", other, start=start, goal=goal)[0] < result.return_


def test_a_supplied_plan_is_never_made_worse():
    start, goal = (0.0, 0.0), (0.4, -0.3)
    plain = reacher_oracle(start, goal, steps=25)
    helped = reacher_oracle(start, goal, steps=25, plans=[np.zeros((25, 2))])
    assert helped.return_ >= plain.return_
    assert helped.return_ == pytest.approx(plain.return_, abs=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: particle_oracle((0, 0), (1.5, 0)), "goal: expected"),
        (lambda: maze_oracle((-0.2, 0), (0.2, 0)), "start: expected a point outside"),
        (lambda: maze_oracle((-0.85, 0), (0.2, 0), resolution=0), "resolution: expected"),
        (lambda: reacher_oracle((0, 0, 0), (0, 0)), "start: expected"),
        (lambda: reacher_oracle((0, 0), (0, 0), steps=0), "steps: expected"),
        (lambda: reacher_oracle((0, 0), (0, 0), plans=[np.zeros((3, 2))]), r"plans\[0\]: expected"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
