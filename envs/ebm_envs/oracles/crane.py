"""Oracle of the crane: trajectory optimisation of whole episodes on the true simulator."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ebm_envs.base import Array, box_space, checked_vector
from ebm_envs.crane import FRAME_SKIP, REACH, ROPE, checked_start, load_model, observe, offset
from ebm_envs.oracles.contest import Contest, require_methods
from ebm_envs.oracles.problem import Problem
from ebm_envs.oracles.result import OracleResult, require_steps

METHODS = ("cem", "ilqr", "refine")
"""The methods of `Contest.run` other than "pursuit", which needs a motor for each joint."""


def crane_problem(start: ArrayLike, target: float, steps: int = 100) -> Problem:
    """An episode of `ebm/Crane-v0`: the residual is the vector (2,) from the target to the load, in metres.

    Raises:
        ValueError: a start or target of the wrong shape or outside its space; `steps` below 1.

    """
    require_steps(steps)
    state = checked_start("start", start)
    (at,) = checked_vector("target", np.reshape(target, -1), box_space([-REACH], [REACH]))

    def residual(qpos: Array) -> Array:
        return offset(qpos, at)[..., None, :]

    return Problem(load_model(), FRAME_SKIP, state[:2], state[2:4], steps, residual, _jacobian, act=state[4:])


def crane_oracle(
    start: ArrayLike,
    target: float,
    steps: int = 100,
    plans: Sequence[ArrayLike] = (),
    *,
    methods: Collection[str] = METHODS,
    seed: int = 0,
) -> OracleResult:
    """Best plan for `ebm/Crane-v0` on its own simulator, see `Contest.run`.

    The whole episode is planned at once. Where the way is long, "ilqr" alone may get stuck in a poor local optimum. The
    result is a lower bound of the best return that is hard to beat, not a proven optimum.

    Args:
        start: position of the cart and angle of the rope (at rest), or these, their velocities and the activation.
        target: position of the target.
        steps: length of the episode.
        plans: further action sequences (steps, 1) to start from, for instance those of a planner.
        methods: some of "cem", "ilqr", "refine"; the best plan of all is the result.
        seed: seed of the methods that draw noise.

    Raises:
        ValueError: a start, target or plan of the wrong shape or outside its space; `steps` below 1; an unknown method.

    """
    require_methods(methods, METHODS)
    problem = crane_problem(start, target, steps)
    given = [problem.checked(f"plans[{i}]", plan) for i, plan in enumerate(plans)]
    began = time.perf_counter()
    contest = Contest(problem)
    contest.run(methods, np.random.default_rng(seed), given)
    return contest.result(lambda qpos, qvel, act: observe(qpos, qvel, act, target), began)


def _jacobian(qpos: Array) -> Array:
    """Derivatives (..., 1, 2, 2) of the load's position with respect to the cart's position and the angle."""
    angle = qpos[..., 1]
    found = np.zeros((*qpos.shape[:-1], 1, 2, 2))
    found[..., 0, 0, 0] = 1.0
    found[..., 0, 0, 1] = ROPE * np.cos(angle)
    found[..., 0, 1, 1] = ROPE * np.sin(angle)
    return found
