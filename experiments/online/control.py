"""Control from scratch: returns as a function of environment steps, for every model in the same loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from ebm_control.online import OnlineLearning, OnlineSettings
from ebm_control.planning import run_episodes
from ebm_control.planning.episodes import Agent
from experiments.online.methods import ENSEMBLE, Method, learner_of, planners
from experiments.planning.problems import ARM, PARTICLE, REACHER, Problem
from experiments.planning.rows import best_return, goal_of

Row = dict[str, Any]
Seen = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]
PROBLEMS = {"particle": PARTICLE, "reacher": REACHER, "arm7": ARM}
# Steps and seeds of long runs, which test for collapse. Other runs take 10,000 steps, as does the ensemble, which costs
# more and is no better than one network from 1,000 steps on.
LONG = {"reacher": (50_000, 5), "particle": (50_000, 5), "arm7": (20_000, 2)}
STEPS = 10_000
EFFORT_STEPS = 2100  # steps of a run with more sampler steps per plan
EPISODES = {"particle": 2, "reacher": 5, "arm7": 10}
CHECKPOINTS = (400, 1000, 2000, 5000, 10_000, 20_000, 50_000)


def control(problem: str, method: Method, seed: int, quick: bool) -> list[Row]:
    """One row per checkpoint: the return of an agent that replans at every step, without noise."""
    case, count = PROBLEMS[problem], 2 if quick else EPISODES[problem]
    long, seeds = LONG[problem]
    total = 2000 if quick else long if seed < seeds and method.model != ENSEMBLE.model else STEPS
    if method.effort > 1:
        total = EFFORT_STEPS
    learning = OnlineLearning(
        case.make,
        learner_of(method, seed, total),
        planners(case, case.make().action_space, shooting=method.shooting),
        OnlineSettings(steps=total, environments=20, noise=0.1, growth=0.2, effort=method.effort, seed=seed),
        progress=False,
    )
    rows: list[Row] = []
    clock = {"evaluating": 0.0}
    began = time.perf_counter()

    def report(step: int, run: OnlineLearning) -> None:
        due = [c for c in CHECKPOINTS if c <= step and c not in {row["checkpoint"] for row in rows}]
        # A round may end after the checkpoint; `env_steps` of the row is the number of steps trained on.
        if not due or (quick and len(rows) and step < total):
            return
        paused = time.perf_counter()
        rows.append(evaluated(case, run.agent(), count, seed) | {"checkpoint": due[-1], "env_steps": step})
        clock["evaluating"] += time.perf_counter() - paused
        rows[-1] |= {
            "part": "control",
            "method": method.name,
            "seed": seed,
            "train_seconds": time.perf_counter() - began - clock["evaluating"],
            "acting_return": _acting(run),
            "effort": run.progress.effort,
        }
        print({k: v for k, v in rows[-1].items() if k != "part"}, flush=True)

    learning.run(report=report)
    return rows


class Begun(gym.Wrapper[Any, Any, Any, Any]):
    """Stores the first observation of the episode as `start` `(obs_dim,)`."""

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode and store its first observation."""
        observation, info = self.env.reset(**given)
        self.start = observation["observation"].astype(np.float64)
        return observation, info


def evaluated(
    case: Problem,
    agent: Agent,
    count: int,
    seed: int,
    seen: Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]] | None = None,
) -> Row:
    """Return, success and the oracle of `count` episodes, the same for every method.

    `seen` wraps the environments for agents whose observations differ from those of `case.make`.
    """
    bare = [Begun(case.make()) for _ in range(count)]
    environments: list[gym.Env[Any, Any]] = [env if seen is None else seen(env) for env in bare]
    found = run_episodes(agent, environments, seed=10_000 + 1000 * seed)
    best = [best_return(case, env.start, goal_of(env), {}) for env in bare]
    return {
        "env": case.name,
        "episodes": count,
        "return": found.mean,
        "oracle": float(np.mean(best)),
        "success": float(np.mean(-found.last_rewards / case.reward_unit <= case.success)),
        "plan_ms_p50": float(np.median(found.seconds) * 1e3),
    }


def _acting(run: OnlineLearning, last: int = 20) -> float | None:
    """Mean return of the last training episodes, with noise and old plans; None before the first has ended."""
    ended = run.progress.episodes[-last:]
    return float(np.mean([episode.return_ for episode in ended])) if ended else None
