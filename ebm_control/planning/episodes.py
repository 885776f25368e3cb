"""Run an agent on many episodes side by side, and keep what a report needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from ebm_control.data.scalars import scalar_flag, scalar_reward
from ebm_control.statistics import half_interval

Array = NDArray[np.float64]


class Agent(Protocol):
    """Anything with Stable-Baselines3's `predict`."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Actions and the state to hand to the next call."""
        ...


@dataclass(frozen=True)
class Episodes:
    """Outcome of N episodes of up to T steps.

    Attributes:
        returns: `(N,)` sums of rewards.
        last_rewards: `(N,)` reward of each episode's last step.
        observations: `(T + 1, N, obs_dim)`; an episode that ended repeats its last one.
        actions: `(T, N, act_dim)`.
        seconds: `(T,)` of each call of `predict`, for all N at once.
        states: the agent's state after each step (plans, for an `MPCAgent`).

    """

    returns: Array
    last_rewards: Array
    observations: Array
    actions: Array
    seconds: Array
    states: list[Any]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def ci95(self) -> float:
        """Half the width of the 95 % interval of the mean return, by Student's t; 0 for one episode, which has none."""
        return half_interval(self.returns) or 0.0


def run_episodes(
    agent: Agent,
    environments: Sequence[gym.Env[Any, Any]],
    *,
    seed: int = 0,
    options: Callable[[int], dict[str, Any]] | None = None,
    progress: str = "",
) -> Episodes:
    """One episode in each environment, the agent acting for all of them in one call a step.

    Args:
        agent: see `Agent`.
        environments: of one kind, each with a step limit.
        seed: environment `i` is reset with `seed + i`.
        options: reset options of environment `i`.
        progress: title of a progress bar; empty for none.

    Raises:
        InputError: a reward that is not one finite number, or a flag that is not one of True and False, of whatever
            type; the message names environment and step.

    """
    given = [None if options is None else options(i) for i in range(len(environments))]
    observations = [
        env.reset(seed=seed + i, options=o)[0]
        for i, (env, o) in enumerate(zip(environments, given, strict=True))
    ]
    count, state, seconds = len(environments), None, []
    returns, last = np.zeros(count), np.zeros(count)
    alive = np.ones(count, dtype=bool)
    seen, acted, states = [_plain(observations)], [], []
    limit = max(_limit(env) for env in environments)
    steps = track(range(limit), progress, transient=True) if progress else range(limit)
    for step in steps:
        started = time.perf_counter()
        actions, state = agent.predict(_stack(observations), state)
        seconds.append(time.perf_counter() - started)
        for i, env in enumerate(environments):
            if not alive[i]:
                continue
            observations[i], reward, terminated, truncated, _ = env.step(actions[i])
            where = f"environment {i}, step {step}"
            last[i] = scalar_reward(reward, where)
            returns[i] += last[i]
            ends = scalar_flag(terminated, f"terminated of {where}")
            alive[i] = not (ends or scalar_flag(truncated, f"truncated of {where}"))
        seen.append(_plain(observations))
        acted.append(np.asarray(actions, np.float64))
        states.append(state)
        if not alive.any():
            break
    return Episodes(returns, last, np.stack(seen), np.stack(acted), np.array(seconds), states)


def _limit(env: gym.Env[Any, Any]) -> int:
    limit = None if env.spec is None else env.spec.max_episode_steps
    return 10_000 if limit is None else limit


def _stack(observations: Sequence[Any]) -> Any:
    if isinstance(observations[0], Mapping):
        return {key: np.stack([o[key] for o in observations]) for key in observations[0]}
    return np.stack(observations)


def _plain(observations: Sequence[Any]) -> Array:
    parts = [o["observation"] if isinstance(o, Mapping) else o for o in observations]
    return np.stack(parts).astype(np.float64)
