"""Oracles of the point environments: in closed form without obstacles, else dynamic programming on a grid."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebm_envs.base import Array, wrap
from ebm_envs.maze import MazeEnv
from ebm_envs.oracles.refine import refine
from ebm_envs.oracles.result import OracleResult, require_steps
from ebm_envs.particle import ParticleEnv
from ebm_envs.point import MAX_STEP, PointEnv, segments_blocked

_ROUNDING = 1e-12
_CLEARANCE = 1e-6  # boxes are enlarged by this, so that rounding cannot turn a touch into a collision


def particle_oracle(
    start: ArrayLike,
    goal: ArrayLike,
    steps: int = 50,
    obstacles: ArrayLike | None = None,
    resolution: int = 1,
) -> OracleResult:
    """Best return of `ebm/Particle-v0`: in closed form, or with obstacles on a grid, see `maze_oracle`.

    Each axis moves straight to the goal: the return is `-Σ_t Σ_i max(0, |g_i - s_i| - 0.05 t)`, t = 1..steps.

    Raises:
        ValueError: an argument that the environment rejects; `steps` or `resolution` below 1.

    """
    env = ParticleEnv(start, goal, obstacles)
    if len(env.boxes):
        return _grid_oracle(env, start, goal, steps, resolution)
    require_steps(steps)
    began = time.perf_counter()
    begin, end = np.asarray(start, np.float64), np.asarray(goal, np.float64)
    reach = MAX_STEP * np.arange(steps + 1)[:, None]
    states = begin + np.clip(end - begin, -reach, reach)
    return _result(states, end, began, "closed form")


def maze_oracle(
    start: ArrayLike,
    goal: ArrayLike,
    steps: int = 200,
    obstacles: ArrayLike | None = None,
    resolution: int = 1,
) -> OracleResult:
    """Best return of `ebm/Maze-v0`: dynamic programming on a grid, refined by linear programmes.

    Backward induction, `V_{k+1}(s) = max_a r(s') + V_k(s')`, over every grid move of at most 0.05 per axis whose
    segment is free. Unlike a shortest path, this also respects the step limit: if the goal is out of reach, the
    result is the path that gets near it. The grid's lines are whole moves away from the start, the goal and the
    corners of the boxes, where the best paths turn; `resolution` above 1 adds lines between those of the start.
    `refine` then improves the best grid path off the grid. The resulting path is feasible in the environment.

    Raises:
        ValueError: an argument that the environment rejects; `steps` or `resolution` below 1.

    """
    return _grid_oracle(MazeEnv(start, goal, obstacles), start, goal, steps, resolution)


def _grid_oracle(
    env: PointEnv, start: ArrayLike, goal: ArrayLike, steps: int, resolution: int
) -> OracleResult:
    require_steps(steps)
    if resolution < 1:
        raise ValueError(f"resolution: expected at least 1 grid step in each move, got {resolution}")
    began = time.perf_counter()
    begin, end = np.asarray(start, np.float64), np.asarray(goal, np.float64)
    boxes = env.boxes + np.array([[-_CLEARANCE], [_CLEARANCE]])
    between = begin + MAX_STEP * np.linspace(0, 1, resolution, endpoint=False)[:, None]
    nodes, neighbours = _grid(np.concatenate([between, end[None], _free_corners(boxes)]), boxes)
    distance = np.abs(nodes - end).sum(-1)
    to_go = [np.zeros(len(nodes))]  # to_go[k]: least sum of distances over the last k steps
    for _ in range(steps - 1):
        last = (distance + to_go[-1])[neighbours].min(axis=0)
        to_go.append(to_go[-1] if np.array_equal(last, to_go[-1]) else last)
        if to_go[-1] is to_go[-2]:  # converged: more steps change nothing
            to_go += [last] * (steps - len(to_go))
            break
    path = [int(np.argmin(np.abs(nodes - begin).sum(-1)))]
    for remaining in reversed(to_go):
        options = neighbours[:, path[-1]]
        path.append(int(options[np.argmin((distance + remaining)[options])]))
    return _result(_walk(env, refine(nodes[path], end, boxes, MAX_STEP), nodes[path]), end, began, "grid")


def _walk(env: PointEnv, refined: Array, path: Array) -> Array:
    """The states of the refined path, executed in the environment; the grid path if a move fails."""
    states = [path[0]]
    for there in refined[1:]:
        states.append(env.dynamics(states[-1], there - states[-1]))
    walked = np.array(states)
    return walked if np.allclose(walked, refined, rtol=0, atol=1e-6) else path


def _grid(anchors: Array, boxes: Array) -> tuple[Array, NDArray[np.int32]]:
    """Free nodes (n, 2) of the grid through `anchors` (k, 2), and the index (m, n) of the node after each of m moves.

    Moves that are blocked or too long lead back to the node they started from.
    """
    axes = [_lines(anchor) for anchor in anchors.T]
    # Largest number of grid lines that a move can cross, per axis.
    width = [int((np.searchsorted(a, a + MAX_STEP + _ROUNDING) - np.arange(len(a))).max()) - 1 for a in axes]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    free = ~segments_blocked(lattice, lattice, boxes)
    nodes = lattice[free]
    here = np.arange(len(nodes), dtype=np.int32)
    index = np.full(np.add(free.shape, 2 * np.array(width)), -1, dtype=np.int32)  # padded: -1 off the lattice
    index[width[0] : -width[0], width[1] : -width[1]][free] = here
    cells = np.argwhere(free) + width

    moves = []
    for offset in np.ndindex(2 * width[0] + 1, 2 * width[1] + 1):
        there = index[tuple((cells + offset - width).T)]
        there = np.where(there < 0, here, there)
        too_long = np.any(np.abs(nodes[there] - nodes) > MAX_STEP + _ROUNDING, axis=-1)
        moves.append(np.where(too_long | segments_blocked(nodes, nodes[there], boxes), here, there))
    return nodes, np.stack(moves)


def _free_corners(boxes: Array) -> Array:
    """Points (k, 2) just outside those corners of `boxes` around which a path can turn."""
    low, high = boxes[:, 0] - _CLEARANCE, boxes[:, 1] + _CLEARANCE
    corners = np.concatenate(
        [np.stack([x[:, 0], y[:, 1]], axis=-1) for x in (low, high) for y in (low, high)]
    )
    inside = np.all(np.abs(corners) <= 1, axis=-1)
    return corners[inside & ~segments_blocked(corners, corners, boxes)]


def _lines(anchors: Array) -> Array:
    """Sorted coordinates in [-1, 1] that are whole moves away from any of the anchors."""
    kept: list[float] = []
    for anchor in anchors:
        if all(abs(float(wrap(anchor - other, MAX_STEP))) > _ROUNDING for other in kept):
            kept.append(float(anchor))
    reach = MAX_STEP * np.arange(-np.ceil(2 / MAX_STEP), np.ceil(2 / MAX_STEP) + 1)
    lines = np.add.outer(kept, reach).ravel()
    return np.sort(lines[np.abs(lines) <= 1])


def _result(states: Array, goal: Array, began: float, method: str) -> OracleResult:
    return_ = -float(np.abs(states[1:] - goal).sum())
    return OracleResult(
        return_=return_,
        actions=np.diff(states, axis=0),
        states=states,
        seconds=time.perf_counter() - began,
        method=method,
        returns={method: return_},
    )
