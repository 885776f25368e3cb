"""Regimes and schedules of no sense are refused by name, and nothing is switched."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from ebm_envs.switch import DynamicsSwitch, Obstacles, RotatedActions, ScaledDamping, ScaledGear
from tests.envs.helpers import MAZE, PARTICLE, REACHER, rollout, switched


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RotatedActions(np.inf), "degrees: expected a finite number, got inf"),
        (lambda: RotatedActions("90"), "degrees: expected a finite number, got '90'"),
        (lambda: RotatedActions(axes=(1, 1)), r"axes: expected two different .* got \(1, 1\)"),
        (lambda: RotatedActions(axes=(-1, 0)), "axes: expected two different"),
        (lambda: RotatedActions(axes=(0, 1, 2)), "axes: expected two different"),
        (lambda: RotatedActions(axes=(0, 0.5)), "axes: expected two different"),
        (lambda: RotatedActions(axes=0), "axes: expected two different"),
        (lambda: ScaledGear(np.nan), "factor: expected a finite number, got nan"),
        (lambda: ScaledGear(1, "elbow"), "joints: expected None for all, or a sequence .* got 'elbow'"),
        (lambda: ScaledGear(1, 0), "joints: expected None for all, or a sequence"),
        (lambda: ScaledGear(1, []), "joints: expected None for all, or a sequence"),
        (lambda: ScaledDamping(-1), "factor: expected 0 or more, got -1"),
        (lambda: Obstacles([[[0.3, 0.0], [0.1, 0.1]]]), "boxes: expected every low corner below"),
    ],
)
def test_bad_regimes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("name", "schedule", "message"),
    [
        (PARTICLE, {0: None}, r"schedule: expected positive, increasing whole steps, got \[0\]"),
        (PARTICLE, {5: None, 3: None}, "schedule: expected positive, increasing"),
        (PARTICLE, [(5, None), (5, None)], "schedule: expected positive, increasing"),
        (PARTICLE, {1.5: None}, "schedule: expected positive, increasing"),
        (PARTICLE, 5, r"schedule: expected a mapping or pairs \(step, regime\), got 5"),
        (PARTICLE, [None], "schedule: expected a mapping or pairs"),
        (PARTICLE, {5: "rotated"}, r"schedule\[5\]: expected a Regime or None, got 'rotated'"),
        (PARTICLE, {5: RotatedActions}, r"schedule\[5\]: expected a Regime or None"),
        (PARTICLE, {5: RotatedActions(axes=(0, 2))}, r"axes: expected coordinates below 2, .* got \(0, 2\)"),
        ("CartPole-v1", {5: RotatedActions()}, "env: expected a Box of action vectors for RotatedActions"),
        (PARTICLE, {5: ScaledGear(-1)}, "env: expected a MuJoCo model at env.unwrapped.model for ScaledGear"),
        (MAZE, {5: ScaledDamping(2)}, "env: expected a MuJoCo model .* for ScaledDamping"),
        (
            REACHER,
            {5: ScaledGear(2, ["wrist"])},
            r"joints: expected names among \['shoulder', 'elbow'\] .*wrist",
        ),
        (REACHER, {5: ScaledGear(2, [2])}, "joints: expected .* indices below 2"),
        (REACHER, {5: ScaledDamping(2, [0.5])}, "joints: expected .* indices below 2"),
        (REACHER, {5: Obstacles([[[0, 0], [1, 1]]])}, "env: expected a point environment for Obstacles"),
        (
            PARTICLE,
            {5: Obstacles([[[0.4, 0.4], [1, 1]]])},
            r"boxes: expected .* environment's goal \(0.5, 0.5\)",
        ),
    ],
)
def test_a_bad_schedule_is_refused_before_any_step(name, schedule, message):
    with pytest.raises(ValueError, match=message):
        DynamicsSwitch(gym.make(name), schedule)


@pytest.mark.parametrize("regime", [-1, 2, 0.5, "0"])
def test_an_unknown_regime_is_named_and_nothing_switched(regime):
    env = switched(REACHER, ScaledGear(-1))
    with pytest.raises(ValueError, match="regime: expected None or an index from 0 to 1, got"):
        env.switch_to(regime)
    assert env.regime == 1


def test_a_second_switch_around_the_same_environment_is_refused():
    env = gym.wrappers.TimeLimit(DynamicsSwitch(gym.make(REACHER), {}), 5)
    with pytest.raises(ValueError, match="env: expected an environment without a DynamicsSwitch"):
        DynamicsSwitch(env, {})


def test_a_refused_regime_leaves_the_environment_as_it_was():
    env, plain = gym.make(REACHER), rollout(gym.make(REACHER))
    with pytest.raises(ValueError, match="joints"):
        DynamicsSwitch(env, {1: ScaledGear(-1), 2: ScaledGear(-1, ["wrist"])})
    np.testing.assert_array_equal(rollout(env), plain)
