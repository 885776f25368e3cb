"""Oracle of the seven-joint arm: trajectory optimisation on the true simulator."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ebm_envs.arm7 import (
    FRAME_SKIP,
    JOINTS,
    Arm7Env,
    checked_start,
    joint_points,
    load_model,
    observe,
    physical_state,
)
from ebm_envs.base import Array, checked_vector
from ebm_envs.oracles.contest import METHODS, Contest, require_methods
from ebm_envs.oracles.problem import Problem
from ebm_envs.oracles.result import OracleResult, require_steps

_NUDGE = 1e-6 * np.eye(JOINTS)


def arm7_problem(start: ArrayLike, goal: ArrayLike, steps: int = 200) -> Problem:
    """An episode of `ebm/Arm7-v0`: the residual is the vector (3,) from the goal to the fingertip, in metres.

    Raises:
        ValueError: a start or goal of the wrong shape or outside its space; `steps` below 1.

    """
    require_steps(steps)
    qpos, qvel = physical_state(checked_start("start", start))
    target = checked_vector("goal", goal, Arm7Env().goal_space)

    def residual(angles: Array) -> Array:
        return (_fingertip(angles) - target)[..., None, :]

    return Problem(load_model(), FRAME_SKIP, qpos, qvel, steps, residual, _jacobian, Arm7Env.reward_scale)


def arm7_oracle(
    start: ArrayLike,
    goal: ArrayLike,
    steps: int = 200,
    plans: Sequence[ArrayLike] = (),
    seed: int = 0,
    *,
    methods: Collection[str] = METHODS,
) -> OracleResult:
    """Best plan for `ebm/Arm7-v0` on its own simulator by several methods, see `Contest.run`.

    The arm has more joints than the goal needs, so there are many local optima, usually within 1 % of each other. The
    result is a lower bound of the best return that is hard to beat, not a proven optimum.

    Args:
        start: 7 angles (at rest), 7 angles and 7 velocities, or an observation, in observation units.
        goal: position (3,) of the fingertip in metres.
        steps: length of the episode.
        plans: further action sequences (steps, 7) to start from, for instance those of a planner.
        seed: seed of the methods that draw noise.
        methods: some of "pursuit", "cem", "ilqr", "refine"; the best plan of all is the result.

    Raises:
        ValueError: a start, goal or plan of the wrong shape or outside its space; `steps` below 1; an unknown method.

    """
    require_methods(methods, METHODS)
    problem = arm7_problem(start, goal, steps)
    given = [problem.checked(f"plans[{i}]", plan) for i, plan in enumerate(plans)]
    began = time.perf_counter()
    contest = Contest(problem)
    contest.run(methods, np.random.default_rng(seed), given)
    return contest.result(observe, began)


def _fingertip(angles: Array) -> Array:
    return joint_points(angles)[..., -1, :]


def _jacobian(angles: Array) -> Array:
    """Derivatives (..., 1, 3, 7) of the fingertip with respect to the angles (..., 7), by central differences."""
    around = angles[..., None, :]
    difference = _fingertip(around + _NUDGE) - _fingertip(around - _NUDGE)
    return np.swapaxes(difference / (2 * _NUDGE[0, 0]), -1, -2)[..., None, :, :]
