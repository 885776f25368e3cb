"""Dynamics that change while an agent learns, and change back: how fast is each method right again, what does it keep?

Reacher; the motors turn the other way from a third to two thirds of the run.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np

from ebm_control.online import OnlineLearning, OnlineSettings
from ebm_control.planning import run_episodes
from ebm_envs.switch import DynamicsSwitch, ScaledGear
from experiments.online.methods import learner_of, planners
from experiments.planning.problems import REACHER

Row = dict[str, Any]
ENVIRONMENTS, EPISODES = 20, 5
MEMORY = 2000  # transitions, of the methods that forget
CHANGE = 5.0  # times the usual error
STAGES = ("first", "changed", "changed back")


def switching(each: int) -> gym.Env[Any, Any]:
    """Reacher that changes after `each` steps of its own, and back after as many more."""
    return DynamicsSwitch(REACHER.make(), {each: ScaledGear(-1.0), 2 * each: None})


def switch(method: str, seed: int, quick: bool) -> list[Row]:
    """A row a round of training: return in the dynamics of now, and in those of the other regime."""
    model, _, way = method.partition(", ")
    stage = 1200 if quick else 2000
    total = 3 * stage
    learning = OnlineLearning(
        lambda: switching(stage // ENVIRONMENTS),
        learner_of(model, seed, total),
        planners(model, REACHER, REACHER.make().action_space),
        OnlineSettings(
            steps=total,
            environments=ENVIRONMENTS,
            noise=0.1,
            every=400,
            growth=0.0,
            memory=MEMORY if way.startswith("last") else None,
            change=CHANGE if way == "regimes" else None,
            seed=seed,
        ),
        progress=False,
    )
    rows: list[Row] = []
    began = time.perf_counter()

    def report(step: int, run: OnlineLearning) -> None:
        now = min(2, (step - 1) // stage)
        since = step - now * stage
        last = since + 400 > stage
        if since not in (400, 800) and not last:
            return
        row: Row = {
            "part": "switch",
            "env": REACHER.name,
            "method": method,
            "seed": seed,
            "stage": STAGES[now],
        }
        row |= {"env_steps": step, "checkpoint": step, "since_change": since}
        row |= {"return": returned(run, regime=now % 2, seed=seed)}
        # What is kept of the other regime, asked once it has been gone for a while.
        row |= {"return_other": returned(run, regime=1 - now % 2, seed=seed) if last and now else None}
        rows.append(row | {"seconds": time.perf_counter() - began})
        print(rows[-1], flush=True)

    learning.run(report=report)
    return rows


def returned(run: OnlineLearning, regime: int, seed: int) -> float:
    """Mean return of episodes under one regime, replanned at every step, without noise."""
    environments = [switching(1) for _ in range(EPISODES)]
    for env in environments:
        env.switch_to(regime)  # type: ignore[attr-defined]
    found = run_episodes(run.agent(), environments, seed=20_000 + 1000 * seed)
    return float(np.mean(found.returns))
