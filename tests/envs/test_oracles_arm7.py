"""Contests of trajectory optimisers: what the oracles of the arms claim can be replayed, and it is hard to beat."""

from __future__ import annotations

import numpy as np
import pytest

import ebm_envs  # noqa: F401  (registers the environments)
from ebm_envs.arm7 import LIMITS, NEUTRAL, joint_points
from ebm_envs.oracles import OracleResult, arm7_oracle, reacher_oracle
from ebm_envs.oracles.arm7 import arm7_problem
from tests.envs.helpers import replay

pytestmark = pytest.mark.slow

GOAL = (0.3, 0.3, 0.2)
STEPS = 50


@pytest.fixture(scope="module")
def result() -> OracleResult:
    return arm7_oracle(NEUTRAL, GOAL, STEPS)


@pytest.mark.parametrize("pose", ["neutral", "at its limits and moving"])
def test_the_arm7_oracle_replays(pose, result):
    start = NEUTRAL
    if pose != "neutral":
        start = np.concatenate([LIMITS[:, 1] + 0.1, np.full(7, 0.2)])
        result = arm7_oracle(start, GOAL, STEPS, methods=("ilqr",))
    total, states = replay("ebm/Arm7-v0", result.actions, start=start, goal=GOAL)
    assert total == pytest.approx(result.return_, abs=1e-8)
    np.testing.assert_allclose(states, result.states, atol=1e-8)


def test_the_arm7_oracle_is_the_best_of_its_methods(result):
    assert set(result.returns) == {"pursuit", "cem", "ilqr", "refine"}
    assert result.return_ == max(result.returns.values()) == result.returns[result.method]
    assert result.return_ > 0.85 * result.returns["pursuit"]  # returns are negative


def test_the_arm7_oracle_drives_to_the_goal_at_full_torque_and_stays(result):
    distance = np.linalg.norm(result.states[:, -3:] - GOAL, axis=-1)
    arrived = int(np.argmax(distance < 0.01))
    assert 0 < arrived < 25
    assert distance[arrived:].max() < 0.02
    assert distance[30:].mean() < 1e-3
    # Each joint is at its limit, one way or the other, most of the way there.
    assert np.mean(np.abs(result.actions[: arrived - 1]) > 0.99) > 0.6


def test_the_arm7_oracle_is_a_local_best(result):
    problem = arm7_problem(NEUTRAL, GOAL, STEPS)
    rng = np.random.default_rng(0)
    for size in (0.3, 0.03, 0.01):
        noise = size * rng.normal(size=(30, *result.actions.shape))
        assert problem.returns(np.clip(result.actions + noise, -1, 1)).max() < result.return_


def test_the_arm7_oracle_reaches_wherever_a_posture_does():
    rng = np.random.default_rng(1)
    start, there = rng.uniform(*LIMITS.T, size=(2, 7))
    goal = joint_points(there)[-1]
    result = arm7_oracle(start, goal, STEPS, methods=("pursuit", "ilqr"))
    assert result.method == "ilqr"
    assert np.linalg.norm(result.states[-1, -3:] - goal) < 5e-3


def test_a_supplied_plan_is_never_made_worse(result):
    helped = arm7_oracle(NEUTRAL, GOAL, STEPS, plans=[result.actions], methods=("pursuit",))
    assert helped.method == "plans"
    assert helped.return_ == pytest.approx(result.return_, abs=1e-9)
    refined = arm7_oracle(NEUTRAL, GOAL, STEPS, plans=[result.actions], methods=("refine",))
    assert refined.return_ >= result.return_ - 1e-9


def test_equal_seeds_give_equal_results():
    first, same, other = (
        arm7_oracle(NEUTRAL, GOAL, 15, seed=seed, methods=("cem", "refine")) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.actions, same.actions)
    assert first.returns == same.returns != other.returns


def test_no_method_beats_the_linear_programmes_on_the_reacher():
    start, goal = (0.0, 0.0), (0.7, 0.5)
    linear = reacher_oracle(start, goal)
    assert linear.method == "lp"
    assert linear.returns == {"lp": linear.return_}
    every = ("lp", "pursuit", "cem", "ilqr", "refine")
    best = reacher_oracle(start, goal, methods=every)
    assert set(best.returns) == set(every)
    assert best.return_ == pytest.approx(linear.return_, abs=1e-3)
    assert best.returns["pursuit"] < best.returns["ilqr"] <= linear.return_ + 1e-3
    total, _ = replay("ebm/Reacher-v0", best.actions, start=start, goal=goal)
    assert total == pytest.approx(best.return_, abs=1e-8)


def test_the_reacher_oracle_without_linear_programmes_replays():
    options = {"start": (0.9, -0.9, 1.0, 0.0), "goal": (-0.95, 0.95)}
    result = reacher_oracle(**options, steps=25, methods=("ilqr",))
    assert result.method == "ilqr"
    assert replay("ebm/Reacher-v0", result.actions, **options)[0] == pytest.approx(result.return_, abs=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arm7_oracle((0, 0), GOAL), "start: expected"),
        (lambda: arm7_oracle(NEUTRAL, (0, 0)), "goal: expected"),
        (lambda: arm7_oracle(NEUTRAL, (2.0, 0, 0)), "goal: expected"),
        (lambda: arm7_oracle(NEUTRAL, GOAL, steps=0), "steps: expected"),
        (lambda: arm7_oracle(NEUTRAL, GOAL, plans=[np.zeros((3, 7))]), r"plans\[0\]: expected"),
        (lambda: arm7_oracle(NEUTRAL, GOAL, plans=[np.full((200, 7), np.inf)]), r"plans\[0\]: expected"),
        (lambda: arm7_oracle(NEUTRAL, GOAL, methods=("lp",)), "methods: expected"),
        (lambda: arm7_oracle(NEUTRAL, GOAL, methods="ilqr"), "methods: expected"),
        (lambda: arm7_oracle(NEUTRAL, GOAL, methods=()), "methods: expected"),
        (lambda: reacher_oracle((0, 0), (0, 0), methods=("simplex",)), "methods: expected"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
