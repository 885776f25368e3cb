"""Trajectory optimisers: each improves on its start, and on the Reacher they agree with the linear programmes."""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np
import pytest

from ebm_envs.arm7 import NEUTRAL
from ebm_envs.oracles import reacher_oracle
from ebm_envs.oracles.arm7 import arm7_problem
from ebm_envs.oracles.problem import Problem
from ebm_envs.oracles.reacher import reacher_problem
from ebm_envs.oracles.trajopt import _box_qp, coloured_noise, coloured_noise_cem, hill_climb, ilqr, pursuit

pytestmark = pytest.mark.slow

REACH = (0.3, 0.3, 0.2)


def reacher(steps: int = 25) -> Problem:
    return reacher_problem((0.0, 0.0), (0.4, -0.3), steps)


def arm(steps: int = 40) -> Problem:
    return arm7_problem(NEUTRAL, REACH, steps)


def wiggle(problem: Problem, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, size=problem.idle().shape)


@pytest.mark.parametrize(
    ("start", "goal", "methods"),
    [
        ((0.0, 0.0), (0.7, 0.5), ["ilqr"]),
        ((0.1, -0.2, 2.0, -1.5), (-0.6, 0.9), ["cem", "ilqr"]),  # the best way round is not that of coasting
    ],
)
def test_ilqr_gets_within_two_percent_of_the_linear_programmes(start, goal, methods):
    linear = reacher_oracle(start, goal).return_
    assert 1.02 * linear < reacher_oracle(start, goal, methods=methods).returns["ilqr"] <= linear + 1e-3


@pytest.mark.parametrize("make", [reacher, arm])
def test_every_method_improves_on_its_start(make):
    problem = make()
    start, rng = wiggle(problem), np.random.default_rng(1)
    returns = [
        problem.score(plan)
        for plan in (
            start,
            hill_climb(problem, rng, start),
            coloured_noise_cem(problem, rng, start),
            ilqr(problem, start),
        )
    ]
    assert returns == sorted(returns)
    assert all(np.diff(returns) > 0.05 * np.abs(returns[-1]))


@pytest.mark.parametrize("make", [reacher, arm])
def test_pursuit_drives_to_the_goal(make):
    problem = make()
    plan = pursuit(problem)
    far, near = problem.residual(problem.simulate(plan)[[0, -1], : problem.model.nv])
    assert np.linalg.norm(near) < 0.3 * np.linalg.norm(far)
    assert np.abs(plan).max() == 1.0


@pytest.mark.parametrize("make", [reacher, arm])
def test_no_method_makes_a_good_plan_worse(make):
    problem, rng = make(), np.random.default_rng(2)
    good = ilqr(problem, problem.idle(), smoothing=(0.1, 0.01, 0.001, 1e-4))
    score = problem.score(good)
    assert problem.score(hill_climb(problem, rng, good, rounds=3)) >= score
    assert problem.score(coloured_noise_cem(problem, rng, good, population=8, iterations=1)) >= score
    assert problem.score(ilqr(problem, good, smoothing=(1.0,), iterations=3)) >= score


def test_equal_seeds_give_equal_plans():
    problem = reacher()
    first, same, other = (
        hill_climb(problem, rng, coloured_noise_cem(problem, rng, population=16))
        for rng in map(np.random.default_rng, (3, 3, 4))
    )
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize("make", [reacher, arm])
def test_derivatives_of_the_simulator_are_those_of_its_rollouts(make):
    """Half the controls lie at their limit, where probes from outside would be clipped."""
    problem, h = make(6), 1e-4
    plan = wiggle(problem)
    plan[::2] = 1.0
    states = problem.simulate(plan)[:-1]
    A, B = problem.linearised(states, plan)
    rng = np.random.default_rng(5)
    drift, ease = rng.normal(size=states.shape), np.abs(rng.normal(size=plan.shape))
    ahead = problem.advance(states + h * drift, plan[:, None])[:, 0]
    behind = problem.advance(states - h * drift, (plan - 2 * h * ease)[:, None])[:, 0]
    predicted = np.einsum("tnk,tk->tn", A, drift) + np.einsum("tnm,tm->tn", B, ease)
    np.testing.assert_allclose(predicted, (ahead - behind) / (2 * h), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("make", [reacher, arm])
def test_the_quadratic_cost_has_the_slope_of_the_smoothed_cost(make):
    problem, h = make(5), 1e-6
    states = problem.simulate(wiggle(problem))[1:]
    gradient, hessian = problem.quadratic_cost(states, 0.05)
    change = np.random.default_rng(6).normal(size=states.shape)
    rise = problem.cost(states + h * change, 0.05) - problem.cost(states - h * change, 0.05)
    assert (gradient * change).sum() == pytest.approx(rise / (2 * h), rel=1e-5)
    assert np.linalg.eigvalsh(hessian).min() > -1e-9


def test_the_box_quadratic_programme_meets_its_optimality_conditions():
    rng = np.random.default_rng(7)
    for _ in range(50):
        root = rng.normal(size=(5, 5))
        H, g = root @ root.T + 0.01 * np.eye(5), 3 * rng.normal(size=5)
        low, high = -rng.uniform(0, 1, 5), rng.uniform(0, 1, 5)
        x, free = _box_qp(H, g, low, high)
        slope = H @ x + g
        np.testing.assert_allclose(slope[free], 0, atol=1e-6)
        assert np.all(np.where(slope[~free] > 0, x[~free] == low[~free], x[~free] == high[~free]))
        assert np.all((low <= x) & (x <= high))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_coloured_noise_has_unit_variance_and_its_colour(exponent):
    noise = coloured_noise(np.random.default_rng(8), (4000, 32, 2), exponent)
    # 8,000 series; slow noise moves as a whole, so count one independent figure in each.
    assert noise.var() == pytest.approx(1, abs=4 * np.sqrt(2 / 8000))
    power = np.square(np.abs(np.fft.rfft(noise, axis=1))).mean((0, 2))
    assert power[2] / power[8] == pytest.approx(4.0**exponent, rel=0.12)
    assert coloured_noise(np.random.default_rng(8), (4000, 1, 2), exponent).std() == pytest.approx(
        1, abs=0.04
    )


def test_a_return_that_is_not_finite_ranks_last():
    problem = reacher()
    failed = dataclasses.replace(problem, residual=lambda angles: np.full((*angles.shape, 1), np.nan))
    assert failed.score(problem.idle()) == -np.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ilqr(reacher(), np.zeros((3, 2))), "start: expected"),
        (lambda: ilqr(reacher(), np.full((25, 2), np.nan)), "start: expected finite"),
        (lambda: ilqr(reacher(), np.zeros((25, 2)), smoothing=(0.1, 0.0)), "smoothing: expected"),
        (lambda: hill_climb(reacher(), np.random.default_rng(), np.zeros(25)), "start: expected"),
        (lambda: coloured_noise_cem(reacher(), np.random.default_rng(), elites=99), "elites: expected"),
        (lambda: coloured_noise_cem(reacher(), np.random.default_rng(), commit=0), "commit: expected"),
        (lambda: reacher(steps=0), "steps: expected"),
        (lambda: dataclasses.replace(reacher(), frame_skip=0), "frame_skip: expected"),
        (
            lambda: dataclasses.replace(
                reacher(),
                model=mujoco.MjModel.from_xml_string(
                    "<mujoco><worldbody><body><freejoint/><geom size='.1'/></body></worldbody></mujoco>"
                ),
            ),
            "model: expected hinges",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
