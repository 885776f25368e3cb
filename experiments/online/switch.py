"""Dynamics that change during learning, and change back: how fast does each method recover, and what does it forget?

On Reacher, the motors are reversed from one third to two thirds of the run.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

from ebm_control.online import OnlineLearning, OnlineSettings
from ebm_control.planning import run_episodes
from ebm_control.planning.episodes import Agent
from ebm_envs.switch import DynamicsSwitch, ScaledGear
from experiments.online.methods import SAC as MODEL_FREE
from experiments.online.methods import Method, learner_of, planners
from experiments.planning import reinforcement as rl
from experiments.planning.problems import REACHER

Row = dict[str, Any]
ENVIRONMENTS, EPISODES = 20, 5
MEMORY = 2000  # transitions, for methods that train on the latest only
CHANGE = 5.0  # factor of the usual error
STAGES = ("first", "changed", "changed back")
SAC_STAGE, SAC_EVERY = 20_000, 1000  # steps; SAC does not learn Reacher in fewer


def switching(each: int) -> gym.Env[Any, Any]:
    """Reacher that changes after `each` steps of its own, and back after as many more."""
    return DynamicsSwitch(REACHER.make(), {each: ScaledGear(-1.0), 2 * each: None})


def switch(method: Method, seed: int, quick: bool) -> list[Row]:
    """One row per training round: return under the current dynamics, and under those of the other regime."""
    stage = 1200 if quick else 2000
    total = 3 * stage
    learning = OnlineLearning(
        lambda: switching(stage // ENVIRONMENTS),
        learner_of(method, seed, total),
        planners(REACHER, REACHER.make().action_space),
        OnlineSettings(
            steps=total,
            environments=ENVIRONMENTS,
            noise=0.1,
            every=400,
            growth=0.0,
            memory=method.memory,
            change=CHANGE if method.regimes else None,
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
        rows.append(row_of(method, run.agent(), step, stage, seed, last=last))
        rows[-1]["seconds"] = time.perf_counter() - began
        print(rows[-1], flush=True)

    learning.run(report=report)
    return rows


def model_free(seed: int, quick: bool) -> list[Row]:
    """The same for SAC, in stages ten times as long, with one row per 1,000 steps."""
    stage = 2000 if quick else SAC_STAGE
    problem, rows, began = REACHER, [], time.perf_counter()
    model = rl.build(
        problem, rl.LEARNERS["sac"], seed, 3 * stage, lambda: switching(stage // rl.ENVIRONMENTS)
    )
    assert isinstance(model, SAC)

    class Evaluations(BaseCallback):
        """Adds a row at every multiple of 1,000 steps."""

        def _on_step(self) -> bool:
            step = self.num_timesteps
            if step % SAC_EVERY == 0:
                last = step % stage == 0
                rows.append(row_of(MODEL_FREE, rl.Deterministic(model), step, stage, seed, last=last))
                rows[-1]["seconds"] = time.perf_counter() - began
                print(rows[-1], flush=True)
            return True

    model.learn(3 * stage, callback=Evaluations())
    return rows


def row_of(method: Method, agent: Agent, step: int, stage: int, seed: int, *, last: bool) -> Row:
    """Row of returns under the current dynamics and, at the end of a stage, under the inactive ones."""
    now = min(2, (step - 1) // stage)
    other = returned(agent, method.model_free, regime=1 - now % 2, seed=seed) if last and now else None
    return {
        "part": "switch",
        "env": REACHER.name,
        "method": method.name,
        "seed": seed,
        "stage": STAGES[now],
        "env_steps": step,
        "checkpoint": step,
        "since_change": step - now * stage,
        "return": returned(agent, method.model_free, regime=now % 2, seed=seed),
        "return_other": other,
    }


def returned(agent: Agent, flat: bool, regime: int, seed: int) -> float:
    """Mean return of episodes under one regime, with replanning at every step, without noise.

    `flat`: whether the agent's observation is a single vector, as for SAC.
    """

    def bare() -> gym.Env[Any, Any]:
        env = switching(1)
        env.switch_to(regime)  # type: ignore[attr-defined]
        return env

    environments = [rl.make(REACHER, bare=bare) if flat else bare() for _ in range(EPISODES)]
    found = run_episodes(agent, environments, seed=20_000 + 1000 * seed)
    return float(np.mean(found.returns))
