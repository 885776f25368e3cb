"""Online experiments: what is counted, what is compared, and with what."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from experiments.online.bonus import CountBonus
from experiments.online.control import PROBLEMS, evaluated
from experiments.online.report import first, levels, summarised
from experiments.online.switch import EPISODES, returned
from experiments.planning import reinforcement as rl
from experiments.planning.problems import PROBLEMS as POSED
from experiments.planning.problems import REACHER_GOALS


def test_a_place_is_worth_less_at_each_visit() -> None:
    counts, seen = Counter[tuple[int, ...]](), []
    make = lambda: CountBonus(  # noqa: E731
        gym.make("ebm/Particle-v0"), lambda x: tuple(np.floor(x / 0.5).astype(int)), counts, seen.append
    )
    one, other = make(), make()
    for env in (one, other):
        observation, _ = env.reset()
        assert observation.shape == (2,)
    rest, right = np.zeros(2, np.float32), np.array([1.0, 0.0], np.float32)
    rewards = [env.step(rest)[1] for env in (one, other, one)]
    assert rewards == pytest.approx([1, 2**-0.5, 3**-0.5])
    moved = [one.step(right) for _ in range(10)]
    assert np.allclose(moved[-1][0], [0.5, 0.0])
    assert moved[-1][1] == pytest.approx(1.0)
    assert [len(batch) for batch in seen] == [1] * 13


@pytest.mark.parametrize("problem", ["reacher", "particle"])
def test_reinforcement_learning_meets_the_episodes_that_planners_meet(problem: Any) -> None:
    class Rest:
        """Does nothing, whatever it is shown."""

        def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> Any:
            return np.zeros((2, 2), np.float32), state

    plain = evaluated(PROBLEMS[problem], Rest(), 2, seed=3)
    flat = evaluated(PROBLEMS[problem], Rest(), 2, 3, lambda env: rl.make(POSED[problem], bare=lambda: env))
    same = ("return", "oracle", "success", "episodes")
    assert {k: plain[k] for k in same} == pytest.approx({k: flat[k] for k in same}, rel=1e-5)
    assert plain["return"] < plain["oracle"] - 10


def test_a_change_of_dynamics_is_the_same_for_reinforcement_learning() -> None:
    class Push:
        """Pushes on, whatever it is shown."""

        def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> Any:
            return np.full((EPISODES, 2), 0.3, np.float32), state

    returns = [[returned(Push(), flat, regime, 0) for flat in (False, True)] for regime in (0, 1)]
    assert returns[0][0] == pytest.approx(returns[0][1], rel=1e-5)
    assert returns[1][0] == pytest.approx(returns[1][1], rel=1e-5)
    assert abs(returns[0][0] - returns[1][0]) > 1


def test_a_level_is_reached_when_every_seed_is_there() -> None:
    plain = {"part": "control", "env": "Reacher", "oracle": -5.3, "success": 1.0, "stage": None}
    rows = [
        plain
        | {"method": "EBM", "checkpoint": step, "env_steps": step, "seed": seed}
        | {"return": value, "acting_return": None if step == 400 else -7.0}
        for step, values in ((400, (-7.0, -8.0)), (1000, (-7.0, -7.4)), (2000, (-6.0, -6.0)))
        for seed, value in enumerate(values)
    ]
    (line,) = levels(summarised(rows), [])
    assert line == ("Reacher", "-7.5", "EBM", "1,000", "1,000")
    assert first([], 2000) == "not in 2,000"
    sac = {
        "problem": "reacher",
        "method": "sac",
        "seed": 3,
        "training_curve": [[5000, -9.0], [10_000, -7.4]],
    }
    ppo = sac | {"method": "ppo"}
    assert list(levels(summarised(rows), [ppo, sac]))[1:] == [
        ("Reacher", "-7.5", "SAC, seed 3", "–", "10,000")
    ]


@pytest.mark.parametrize("seen", [None, lambda env: rl.make(POSED["reacher"], bare=lambda: env)])
def test_the_oracle_is_that_of_the_starts_that_were_met(seen):
    met = []

    class Still:
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            count = len(observation["observation"] if seen is None else observation)
            return np.zeros((count, 2)), None

    def oracle(start, goal, options):
        met.append((start, goal))
        return 0.0

    problem = replace(REACHER_GOALS, name=f"seen as {seen}", oracle=oracle)  # oracles are kept by name
    row = evaluated(problem, Still(), 3, seed=123, seen=seen)
    assert row["oracle"] == 0.0
    # Nothing moves without torque: what an episode loses a step is the distance of its start from its goal.
    apart = [np.abs((start[:2] - goal + 1) % 2 - 1).sum() for start, goal in met]
    assert len(met) == 3
    assert row["return"] == pytest.approx(-50 * np.mean(apart), rel=0.02)
