"""The particle and the maze: walls, obstacles and inverse dynamics."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebm_envs.maze import MazeEnv
from ebm_envs.particle import ParticleEnv
from ebm_envs.point import segments_blocked

BOX = np.array([[[0.2, -0.5], [0.23, 0.5]]])
coordinate = st.floats(-1, 1, allow_nan=False, width=32)
point = st.tuples(coordinate, coordinate).map(np.array)


def maze_is_free(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    column = np.where((x < -0.5) | ((x >= 0) & (x < 0.5)), True, np.where(x < 0, y > 0.25, y < -0.25))
    return column & (np.abs(points) < 0.99).all(axis=-1)


def test_the_maze_has_the_corridors_it_promises():
    points = np.random.default_rng(0).uniform(-1, 1, size=(20_000, 2))
    env = MazeEnv()
    np.testing.assert_array_equal(~segments_blocked(points, points, env.boxes), maze_is_free(points))


@given(start=point, end=point)
def test_a_segment_is_blocked_where_any_of_its_points_is(start, end):
    along = start + np.linspace(0, 1, 400)[:, None] * (end - start)
    low, high = BOX[0]
    meets = np.all((along >= low) & (along <= high), axis=-1).any()
    if segments_blocked(start, end, BOX):  # a finite sample may miss a grazed corner: let it see a larger box
        spacing = np.abs(end - start).max() / 399 + 1e-6
        meets = np.all((along >= low - spacing) & (along <= high + spacing), axis=-1).any()
        assert meets
    else:
        assert not meets


def test_moves_do_not_tunnel_through_a_thin_wall():
    env = gym.make("ebm/Particle-v0", obstacles=BOX)
    env.reset(options={"start": [0.19, 0.0], "goal": [0.5, 0.5]})
    observation, *_ = env.step(np.array([0.05, 0.0]))  # (0.24, 0) is free, the way there is not
    np.testing.assert_array_equal(observation["observation"], [0.19, 0.0])


def test_random_walks_stay_in_the_maze():
    env = MazeEnv(start="random")
    env.reset(seed=0)
    generator = np.random.default_rng(0)
    states = env.sample_free(500)
    assert maze_is_free(states).all()
    drift = generator.uniform(-0.05, 0.05, size=(500, 2))
    for _ in range(100):
        moved = env.dynamics(states, drift + generator.uniform(-0.03, 0.03, size=(500, 2)))
        assert maze_is_free((states + moved) / 2).all()
        states = moved
    assert maze_is_free(states).all()


def test_actions_are_clipped_and_the_plane_has_an_edge():
    env = ParticleEnv()
    env.reset(options={"start": [0.97, 0.0]})
    observation, *_ = env.step([1.0, 1.0])
    np.testing.assert_allclose(observation["observation"], [1.0, 0.05])


def test_obstacles_hold_for_one_episode():
    env = gym.make("ebm/Maze-v0")
    obstacle = [[[-0.9, -0.8], [-0.7, -0.75]]]
    up = np.array([0.0, 0.05])
    env.reset(options={"start": [-0.85, -0.81], "obstacles": obstacle})
    assert env.step(up)[0]["observation"][1] == -0.81
    env.reset(options={"start": [-0.85, -0.81]})
    assert env.step(up)[0]["observation"][1] == pytest.approx(-0.76)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"obstacles": [[0.0, 0.1], [0.2, 0.3]]}, r"obstacles: expected shape \(n, 2, 2\)"),
        ({"obstacles": [[[0.3, 0.0], [0.1, 0.1]]]}, "obstacles: expected every low corner below"),
        ({"obstacles": [[[-1, -1], [1, 1]]], "start": "random"}, "obstacles: expected some of the plane"),
        ({"obstacles": [[[0.4, 0.4], [0.6, 0.6]]], "goal": [0.5, 0.5]}, "goal: expected a point outside"),
        ({"obstacles": [[[0.4, 0.4], [0.6, 0.6]]], "start": [0.5, 0.5]}, "start: expected a point outside"),
    ],
)
def test_bad_obstacles_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        gym.make("ebm/Particle-v0").reset(seed=0, options=options)


def test_a_goal_in_the_maze_wall_is_named():
    with pytest.raises(ValueError, match="goal: expected a point outside walls"):
        MazeEnv(goal=(-0.2, 0.0))


@pytest.mark.parametrize("env", [ParticleEnv(start="random"), MazeEnv(start="random")])
def test_inverse_dynamics_inverts_the_environment(env):
    env.reset(seed=1)
    states = env.sample_free((10, 30))
    actions = np.random.default_rng(1).uniform(-0.05, 0.05, size=states.shape)
    after = env.dynamics(states, actions)
    recovered = env.inverse_dynamics(states, after)
    np.testing.assert_allclose(env.dynamics(states, recovered), after, atol=1e-12)
    made = np.all(after == states + actions, axis=-1)
    assert made.mean() > 0.8
    np.testing.assert_allclose(recovered[made], actions[made], atol=1e-12)
