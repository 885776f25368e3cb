"""Oracle of the Reacher: linear programming on the true simulator, and the general trajectory optimisers."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from ebm_envs.base import Array, checked_vector, wrap
from ebm_envs.oracles.contest import METHODS, Contest, require_methods
from ebm_envs.oracles.problem import Problem
from ebm_envs.oracles.result import OracleResult, require_steps
from ebm_envs.reacher import FRAME_SKIP, ReacherEnv, checked_start, load_model, observe, physical_state


def reacher_problem(start: ArrayLike, goal: ArrayLike, steps: int = 50) -> Problem:
    """An episode of `ebm/Reacher-v0`: the residuals are the two wrapped angle errors / π.

    Raises:
        ValueError: a start or goal of the wrong shape or outside its space; `steps` below 1.

    """
    require_steps(steps)
    qpos, qvel = physical_state(checked_start("start", start))
    target = checked_vector("goal", goal, ReacherEnv().goal_space) * np.pi

    def residual(angles: Array) -> Array:
        return wrap((angles - target) / np.pi, (2.0, 2.0))[..., None]

    def jacobian(angles: Array) -> Array:
        return np.broadcast_to(np.eye(2)[:, None] / np.pi, (*angles.shape[:-1], 2, 1, 2))

    return Problem(load_model(), FRAME_SKIP, qpos, qvel, steps, residual, jacobian)


def reacher_oracle(
    start: ArrayLike,
    goal: ArrayLike,
    steps: int = 50,
    plans: Sequence[ArrayLike] = (),
    *,
    methods: Collection[str] = ("lp",),
    seed: int = 0,
) -> OracleResult:
    """Best plan for `ebm/Reacher-v0` on its own simulator.

    With fixed turns of each joint, the L1 cost of a linear system under bounded controls is a linear programme.
    The arm is nearly two independent linear joints, so "lp" searches in two stages: (1) Linearise the simulator by
    finite differences about rest or coasting, solve each joint for every way round, and take the best ways. (2) From
    that plan, and from each of `plans`, relinearise and solve within a trust region as long as the simulated return
    rises (sequential linear programming). "lp" is deterministic. The other methods, see `Contest.run`, do not use the
    structure of the arm; they find no better plan and take longer.

    Args:
        start: 2 angles (at rest) or 2 angles and 2 velocities, in observation units.
        goal: 2 angles / π.
        steps: length of the episode.
        plans: further action sequences (steps, 2) to start from, for instance those of a planner.
        methods: some of "lp", "pursuit", "cem", "ilqr", "refine"; the best plan of all is the result.
        seed: seed of the methods that draw noise.

    Raises:
        ValueError: a start, goal or plan of the wrong shape or outside its space; `steps` below 1; an unknown method.

    """
    require_methods(methods, ("lp", *METHODS))
    problem = reacher_problem(start, goal, steps)
    given = [problem.checked(f"plans[{i}]", plan) for i, plan in enumerate(plans)]
    began = time.perf_counter()
    contest = Contest(problem)
    if "lp" in methods:
        contest.enter("lp", *(_ascend(problem, plan) for plan in [_best_ways_round(problem), *given]))
    contest.run(methods, np.random.default_rng(seed), given)
    return contest.result(observe, began)


def _sensitivity(problem: Problem, plan: Array, states: Array) -> Array:
    """Derivatives (T, 2, T, 2) of the angles after each step with respect to every control."""
    by_control = np.zeros((4, *plan.shape))
    rows = []
    for t, (A, B) in enumerate(zip(*problem.linearised(states[:-1], plan), strict=True)):
        by_control = np.tensordot(A, by_control, axes=1)
        by_control[:, t] += B
        rows.append(by_control[:2])
    return np.stack(rows)


def _ascend(problem: Problem, plan: Array, iterations: int = 30, tolerance: float = 1e-5) -> Array:
    """Sequential linear programming from `plan` (T, 2) with a trust region in control units; never a worse plan."""
    score, radius, size = problem.score(plan), 1.0, 2 * problem.steps
    for _ in range(iterations):
        states = problem.simulate(plan)
        # The number of turns of each step is fixed to the nearest: the wrapped distance is smooth about this plan.
        error = np.pi * problem.residual(states[1:, :2])
        gain = _sensitivity(problem, plan, states).reshape(size, size)
        low, high = np.maximum(-1 - plan, -radius), np.minimum(1 - plan, radius)
        change = _least_l1(gain, error.ravel(), low.ravel(), high.ravel())
        proposal = np.clip(plan + change.reshape(plan.shape), -1, 1)
        risen = (new := problem.score(proposal)) - score
        if risen > 0:
            plan, score = proposal, new
        else:
            radius /= 4
        if 0 < risen < tolerance or radius < 1e-3:
            break
    return plan


def _best_ways_round(problem: Problem) -> Array:
    """Plan (T, 2) from each joint's own linear model, the best over the turns of its goal."""
    plan = problem.idle()
    states = problem.simulate(plan)
    gain = _sensitivity(problem, plan, states)
    goal = states[1, :2] - np.pi * problem.residual(states[1, :2])[:, 0]  # the nearest way round
    bound = np.ones(problem.steps)
    for joint in range(2):
        response, coasting = gain[:, joint, :, joint], states[1:, joint] - goal[joint]
        best = np.inf
        ends = np.round(coasting[[0, -1]] / (2 * np.pi)).astype(int)
        for turns in range(ends.min() - 1, ends.max() + 2):
            error = coasting - 2 * np.pi * turns
            controls = _least_l1(response, error, -bound, bound)
            cost = np.abs(wrap(error + response @ controls, 2 * np.pi)).sum()
            if cost < best:
                best, plan[:, joint] = cost, controls
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
