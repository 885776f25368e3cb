"""Episodes of a method, and their row of the table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm_control.planning import MPCAgent, run_episodes
from experiments.planning.methods import Method
from experiments.planning.problems import TRANSITIONS, Problem

Row = dict[str, Any]
_ORACLES: dict[tuple[Any, ...], float] = {}


def episodes(
    problem: Problem, agent: Any, count: int, seed: int, first: int = 0, oracle: bool = True
) -> dict[str, Any]:
    """Returns, successes, times and paths of `count` episodes, with the same starts for every method.

    `observations` is `(T + 1, count, obs_dim)`, the start first.
    """
    environments = [problem.make() for _ in range(count)]
    begin = 10_000 + 1000 * seed

    def options(i: int) -> dict[str, Any]:
        return {} if problem.options is None else problem.options(first + i)

    outcome = run_episodes(agent, environments, seed=begin + first, options=options)
    starts = zip(outcome.observations[0], environments, strict=True) if oracle else ()
    best = [best_return(problem, start, goal_of(env), options(i)) for i, (start, env) in enumerate(starts)]
    return {
        "returns": outcome.returns.tolist(),
        "oracle": float(np.mean(best)) if best else None,
        "solved": (-outcome.last_rewards / problem.reward_unit <= problem.success).tolist(),
        "milliseconds": float(np.median(outcome.seconds) * 1e3),
        "observations": outcome.observations,
    }


def best_return(problem: Problem, start: NDArray[Any], goal: NDArray[Any], options: dict[str, Any]) -> float:
    """The oracle's return, computed once for all methods with the same episode."""
    key = (problem.name, start.tobytes(), goal.tobytes(), repr(options))
    if key not in _ORACLES:
        _ORACLES[key] = problem.oracle(start, goal, options)
    return _ORACLES[key]


def goal_of(env: Any) -> NDArray[Any]:
    return np.asarray(env.unwrapped.goal)


def measured(
    problem: Problem, method: Method, seed: int, count: int, first: int = 0, *, oracle: bool = True
) -> Row:
    """Run `count` episodes and return their row."""
    return row(problem, method, seed, episodes(problem, method.agent, count, seed, first, oracle))


def row(
    problem: Problem,
    method: Method,
    seed: int,
    found: dict[str, Any],
    extra: dict[str, float] | None = None,
) -> Row:
    """A row of the table; `extra` metrics, which only some rows have, are under a key of their own."""
    made = {
        "env": problem.name,
        "method": method.trained[0].name,
        "planner": method.planner,
        "data": f"{TRANSITIONS:,} random transitions",
        "seed": seed,
        "episodes": len(found["returns"]),
        "return": float(np.mean(found["returns"])),
        "oracle": found["oracle"],
        "success": float(np.mean(found["solved"])),
        "env_steps": TRANSITIONS,
        "train_seconds": sum(trained.seconds for trained in method.trained),
        "batch_plan_ms_p50": found["milliseconds"],
    }
    made |= {} if extra is None else {"extra": extra}
    print(made, flush=True)
    return made


def each_alone(
    problem: Problem, agents: Iterable[MPCAgent], seed: int, first: int = 0, *, oracle: bool = True
) -> dict[str, Any]:
    """One episode per agent, from number `first` on, for agents whose costs contain the box of their episode."""
    return together([episodes(problem, agent, 1, seed, first + i, oracle) for i, agent in enumerate(agents)])


def together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Joins episodes that were run one at a time, as if run in parallel; no oracle unless all have one."""
    oracles = [part["oracle"] for part in parts]
    return {
        "returns": [r for part in parts for r in part["returns"]],
        "oracle": None if None in oracles else float(np.mean(oracles)),
        "solved": [s for part in parts for s in part["solved"]],
        "milliseconds": float(np.median([part["milliseconds"] for part in parts])),
        "observations": np.concatenate([part["observations"] for part in parts], axis=1),
    }
