"""What a method and a run of it are, and the evaluation that all methods share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from ebm_control.planning import run_episodes
from ebm_control.planning.episodes import Agent
from experiments.mujoco.problems import Problem

Row = dict[str, Any]
EPISODES, QUICK_EPISODES = 10, 2
QUICK_STEPS = 500
EVALUATION_SEED = 10_000  # far from the training seeds, and the same for every method
TIMED_STEPS = 50


@dataclass(frozen=True)
class Method:
    """A method, on the problems it is made for.

    Attributes:
        name: name in the table and on the command line.
        run: rows of a run, see `evaluated`; it learns with `job.steps` steps under `job.seed`.
        problems: names of its problems in the order of runs.
        optional: those of them that are only run if both method and environment are named: they take long.
        factor: factor of the problems' steps; 0 for a method that learns nothing.
        transitions: steps of its data, whatever the problem's; None for the problems' steps.
        part: whether it acts while it learns, or learns from a fixed data set.

    """

    name: str
    run: Callable[[Job], list[Row]]
    problems: tuple[str, ...]
    optional: tuple[str, ...] = ()
    factor: int = 1
    transitions: int | None = None
    part: Literal["online", "offline"] = "online"


@dataclass(frozen=True)
class Job:
    """One run."""

    compared: Method
    problem: Problem
    seed: int
    quick: bool

    @property
    def method(self) -> str:
        return self.compared.name

    @property
    def env(self) -> str:
        return self.problem.name

    @property
    def name(self) -> str:
        return f"{self.compared.part}, {self.env}, {self.method}"

    @property
    def steps(self) -> int:
        """Environment steps of learning."""
        full = self.compared.transitions or self.problem.steps
        return (QUICK_STEPS if self.quick else full) * self.compared.factor

    @property
    def episodes(self) -> int:
        """Number of evaluation episodes."""
        return QUICK_EPISODES if self.quick else EPISODES

    @property
    def optional(self) -> bool:
        """Whether it is only run if both method and environment are named."""
        return self.env in self.compared.optional


def dt_ms(problem: Problem) -> float | None:
    """Milliseconds of an environment step; None if the environment does not say. Mazes hide theirs in the point's."""
    env = problem.make()
    inner = getattr(env.unwrapped, "point_env", env.unwrapped)
    dt = getattr(inner, "dt", None)
    env.close()
    return None if dt is None else 1e3 * float(dt)


def evaluated(agent: Agent, problem: Problem, seed: int, episodes: int = EPISODES) -> Row:
    """Return, success and time per action in episodes that are the same for every method.

    `agent` chooses actions of `problem.make()`. Success is that of an episode's last step; None if the environment
    reports none. The time is the median for one episode alone, as the others are run side by side.
    """
    environments = [problem.make() for _ in range(episodes)]
    single = gym.wrappers.TimeLimit(problem.make(), TIMED_STEPS)
    first = EVALUATION_SEED + 1000 * seed
    found = run_episodes(agent, environments, seed=first)
    alone = run_episodes(agent, [single], seed=first)
    for env in (*environments, single):
        env.close()
    return {
        "return": found.mean,
        "returns": found.returns.tolist(),
        "success": found.success_rate,
        "episodes": episodes,
        "evaluation_seed": first,
        "plan_ms_p50": float(np.median(alone.seconds) * 1e3),
    }
