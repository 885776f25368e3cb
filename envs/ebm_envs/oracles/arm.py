"""Oracle of the Reacher: linear programmes on the true simulator."""

from __future__ import annotations

import time
from collections.abc import Sequence

import mujoco
import numpy as np
from mujoco import rollout
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from ebm_envs.base import Array, checked_vector, wrap
from ebm_envs.oracles.result import OracleResult, require_steps
from ebm_envs.reacher import FRAME_SKIP, ReacherEnv, checked_start, load_model, observe, physical_state


def reacher_oracle(
    start: ArrayLike, goal: ArrayLike, steps: int = 50, plans: Sequence[ArrayLike] = ()
) -> OracleResult:
    """Best plan found for `ebm/Reacher-v0` on its own simulator.

    With fixed turns of each joint, the L1 cost of a linear system under bounded controls is a linear programme.
    The arm is nearly two independent linear joints, so the search is: (1) linearise the simulator by finite
    differences about rest or coasting; solve each joint for every way round; keep the best ways. (2) From that
    plan, and from each of `plans`, relinearise and solve within a trust region as long as the simulated return
    rises (sequential linear programming). The result is the best plan seen. No randomness.

    Args:
        start: 2 angles (at rest) or 2 angles and 2 velocities, in observation units.
        goal: 2 angles / π.
        steps: length of the episode.
        plans: further action sequences (steps, 2) to start from, for instance a planner's own.

    Raises:
        ValueError: a start, goal or plan of the wrong shape or outside its space; `steps` below 1.

    """
    require_steps(steps)
    state = checked_start("start", start)
    target = checked_vector("goal", goal, ReacherEnv().goal_space)
    candidates = [np.asarray(plan, np.float64) for plan in plans]
    for i, plan in enumerate(candidates):
        if plan.shape != (steps, 2) or not np.all(np.isfinite(plan)):
            raise ValueError(f"plans[{i}]: expected finite figures of shape {(steps, 2)}, got {plan.shape}")
    began = time.perf_counter()
    arm = _Arm(np.concatenate(physical_state(state)), target * np.pi, steps)
    candidates = [arm.ascend(np.clip(u, -1, 1)) for u in [_best_ways_round(arm), *candidates]]
    best = max(candidates, key=arm.score)
    states = arm.simulate(best)
    return OracleResult(
        return_=arm.score(best),
        actions=best,
        states=observe(states[:, :2], states[:, 2:]),
        seconds=time.perf_counter() - began,
    )


class _Arm:
    """The simulator from one start (4,), towards one goal (2,); radians throughout."""

    def __init__(self, start: Array, goal: Array, steps: int) -> None:
        self.start, self.goal, self.steps = start, goal, steps
        self._model = load_model()
        self._data = mujoco.MjData(self._model)

    def _roll(self, states: Array, controls: Array) -> Array:
        """States (n, T, 4) after each of the controls (n, T, 2) from `states` (n, 4)."""
        initial = np.concatenate([np.zeros((len(states), 1)), states], axis=1)  # time comes first
        held = np.repeat(controls, FRAME_SKIP, axis=1)
        full, _ = rollout.rollout(self._model, self._data, initial, held)
        return full[:, FRAME_SKIP - 1 :: FRAME_SKIP, 1:]

    def simulate(self, u: Array) -> Array:
        """States (T + 1, 4) under the plan `u` (T, 2)."""
        return np.concatenate([self.start[None], self._roll(self.start[None], u[None])[0]])

    def score(self, u: Array) -> float:
        """The environment's return of the plan `u`."""
        error = wrap((self.simulate(u)[1:, :2] - self.goal) / np.pi, (2.0, 2.0))
        return -float(np.abs(error).sum())

    def sensitivity(self, u: Array, states: Array, eps: float = 1e-5) -> Array:
        """Derivatives (T, 2, T, 2) of the angles after each step by every control, by central differences."""
        x = np.concatenate([states[:-1], u], axis=1)[:, None]  # (T, 1, 6)
        probes = np.concatenate([x + eps * np.eye(6), x - eps * np.eye(6)], axis=1).reshape(-1, 6)
        ends = self._roll(probes[:, :4], probes[:, None, 4:]).reshape(self.steps, 2, 6, 4)
        jacobians = (ends[:, 0] - ends[:, 1]).transpose(0, 2, 1) / (2 * eps)  # (T, 4, 6)
        by_control = np.zeros((4, self.steps, 2))
        rows = []
        for t, jacobian in enumerate(jacobians):
            by_control = np.tensordot(jacobian[:, :4], by_control, axes=1)
            by_control[:, t] += jacobian[:, 4:]
            rows.append(by_control[:2])
        return np.stack(rows)

    def ascend(self, u: Array, iterations: int = 30, tolerance: float = 1e-5) -> Array:
        """Sequential linear programming from `u` (T, 2): trust region in control units, never a worse plan."""
        score, radius = self.score(u), 1.0
        for _ in range(iterations):
            states = self.simulate(u)
            angles = states[1:, :2]
            # Each step keeps the turns that are nearest now: the wrapped distance, smooth about this plan.
            error = wrap(angles - self.goal, (2 * np.pi, 2 * np.pi))
            gain = self.sensitivity(u, states).reshape(2 * self.steps, 2 * self.steps)
            bounds = (np.maximum(-1 - u, -radius), np.minimum(1 - u, radius))
            change = _least_l1(gain, error.ravel(), bounds[0].ravel(), bounds[1].ravel())
            proposal = np.clip(u + change.reshape(u.shape), -1, 1)
            new = self.score(proposal)
            risen = new - score
            if risen > 0:
                u, score = proposal, new
            else:
                radius /= 4
            if 0 < risen < tolerance or radius < 1e-3:
                break
        return u


def _best_ways_round(arm: _Arm) -> Array:
    """Plan (T, 2) from each joint's own linear model, the best over turns of its goal."""
    idle = np.zeros((arm.steps, 2))
    states = arm.simulate(idle)
    gain = arm.sensitivity(idle, states)
    plan = np.zeros((arm.steps, 2))
    bound = np.ones(arm.steps)
    for joint in range(2):
        response, coasting = gain[:, joint, :, joint], states[1:, joint]
        best = np.inf
        nearest = np.round((coasting[-1] - arm.goal[joint]) / (2 * np.pi))
        here = np.round((coasting[0] - arm.goal[joint]) / (2 * np.pi))
        for turns in range(int(min(nearest, here)) - 1, int(max(nearest, here)) + 2):
            error = coasting - arm.goal[joint] - 2 * np.pi * turns
            u = _least_l1(response, error, -bound, bound)
            cost = np.abs(wrap(error + response @ u, 2 * np.pi)).sum()
            if cost < best:
                best, plan[:, joint] = cost, u
    return plan


def _least_l1(gain: Array, error: Array, low: Array, high: Array) -> Array:
    """Argmin over `low <= u <= high` of `|error + gain u|₁`, as a linear programme."""
    m, n = gain.shape
    identity = np.eye(m)
    solution = linprog(
        np.concatenate([np.zeros(n), np.ones(m)]),
        A_ub=np.block([[gain, -identity], [-gain, -identity]]),
        b_ub=np.concatenate([-error, error]),
        bounds=np.stack(
            [np.concatenate([low, np.zeros(m)]), np.concatenate([high, np.full(m, np.inf)])], axis=1
        ),
        method="highs",
    )
    if solution.x is None:
        raise RuntimeError(f"linear programme of the Reacher oracle failed: {solution.message}")
    return np.asarray(solution.x[:n])
