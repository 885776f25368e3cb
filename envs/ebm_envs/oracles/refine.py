"""Sequential linear programming that improves a grid path off its grid."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.optimize import linprog

from ebm_envs.base import Array
from ebm_envs.point import segments_blocked

_SLACK = 2e-7  # safety margin for the solver's tolerance of 1e-7


def refine(path: Array, goal: Array, boxes: Array, max_step: float) -> Array:
    """A path (T+1, 2) with no greater sum of L1 distances to `goal` that passes `boxes` (n, 2, 2) on the same side.

    Each segment is separated from each box by an axis or by its own normal, whichever separates them more. Axes give
    linear constraints. Normals give bilinear ones, linearised within a trust region with a margin that covers the
    second-order term, so that every iterate is feasible; the region shrinks, and the margin with it.
    """
    steps = len(path) - 1
    arrived = np.all(np.abs(path - goal) < 1e-9, axis=-1)
    n = max(int(np.argmax(arrived)), 1) if arrived.any() else steps
    weights = np.ones(n)
    weights[-1] += steps - n  # the rest of the episode is spent at the end of the path

    def cost(points: Array) -> float:
        return float(weights @ np.abs(points[1:] - goal).sum(-1))

    current = best = path[: n + 1]
    for radius in 0.012 * 0.9 ** np.arange(48):
        proposal = _propose(current, goal, boxes, weights, max_step, radius)
        if proposal is None or segments_blocked(proposal[:-1], proposal[1:], boxes).any():
            continue
        current = proposal
        best = min(best, current, key=cost)
    return np.concatenate([best, np.repeat(best[-1:], steps - n, axis=0)])


def _propose(
    path: Array, goal: Array, boxes: Array, weights: Array, max_step: float, radius: float
) -> Array | None:
    """Solve the linear programme about `path` (n+1, 2); None if the margin makes it infeasible."""
    n = len(weights)
    size = 2 * n
    identity = np.eye(size)
    move = identity - np.eye(size, k=-2)  # p_t - p_{t-1}; the first point is fixed
    first = np.zeros(size)
    first[:2] = path[0]
    limit = np.full(size, max_step - _SLACK)
    clear, clearance = _separations(path, boxes, radius)
    target = np.tile(goal, n)
    zero = np.zeros_like(identity)
    solution = linprog(
        np.concatenate([np.zeros(size), np.repeat(weights, 2)]),
        A_ub=np.block(
            [
                [move, zero],
                [-move, zero],
                [identity, -identity],
                [-identity, -identity],
                [-clear, np.zeros_like(clear)],
            ]
        ),
        b_ub=np.concatenate([limit + first, limit - first, target, -target, -clearance]),
        bounds=np.concatenate(
            [
                np.clip(path[1:].ravel()[:, None] + [-radius, radius], -1, 1),
                np.tile([0, np.inf], (size, 1)),
            ]
        ),
        method="highs",
    )
    return None if solution.x is None else np.concatenate([path[:1], solution.x[:size].reshape(n, 2)])


def _separations(path: Array, boxes: Array, radius: float) -> tuple[Array, Array]:
    """Rows (m, 2n) and bounds (m,): `rows @ points >= bounds` separates all segments from all nearby boxes."""
    n = len(path) - 1
    rows, bounds = [], []

    def require(at_p: Array, at_q: Array, t: int, bound: float) -> None:
        row = np.zeros(2 * n + 2)
        row[2 * t : 2 * t + 2], row[2 * t + 2 : 2 * t + 4] = at_p, at_q
        rows.append(row[2:])
        bounds.append(bound - row[:2] @ path[0])

    for t, (p, q) in enumerate(pairwise(path)):
        for low, high in boxes:
            gaps = np.concatenate([low - np.maximum(p, q), np.minimum(p, q) - high])
            if gaps.max() > 2 * radius:
                continue
            corners = np.array([(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])])
            normal = np.array([p[1] - q[1], q[0] - p[0]])
            sides = (corners - p) @ normal
            sign = 1.0 if sides.sum() > 0 else -1.0
            if (sign * sides).min() > gaps.max() * np.linalg.norm(normal):
                for corner in corners:  # sign · (q - p) × (corner - p) >= 0, linearised
                    at_p = sign * np.array([q[1] - corner[1], corner[0] - q[0]])
                    at_q = sign * np.array([corner[1] - p[1], p[0] - corner[0]])
                    value = sign * normal @ (corner - p)
                    require(at_p, at_q, t, at_p @ p + at_q @ q - value + 4 * radius**2)
            else:
                side = int(np.argmax(gaps))
                axis = np.eye(2)[side % 2] * (-1 if side < 2 else 1)
                bound = -low[side] if side < 2 else high[side - 2]
                require(axis, np.zeros(2), t, bound + _SLACK)
                require(np.zeros(2), axis, t, bound + _SLACK)
    return np.array(rows).reshape(-1, 2 * n), np.array(bounds)
