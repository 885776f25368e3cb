"""Run an agent on many episodes side by side, and keep what a report needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from ebm_control.checks import InputError, require
from ebm_control.data.actions import as_actions
from ebm_control.data.stepping import Environments
from ebm_control.seeds import seeds
from ebm_control.statistics import half_interval
from ebm_control.tensors import as_array

Array = NDArray[np.float64]


class Agent(Protocol):
    """Whatever chooses actions from observations by the `predict` of Stable-Baselines3."""

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
        actions: `(T, N, act_dim)`, as they were taken: clipped to the space, and rounded where it holds whole numbers.
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
        """Mean over episodes of their undiscounted returns."""
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
        environments: of one kind, all different, each with a step limit.
        seed: of the environments: starts that are those of no other seed, and none of what `collect` starts from.
        options: reset options of environment `i`.
        progress: title of a progress bar; empty for none.

    Raises:
        InputError: no environment, or one given twice; an environment that fails, an observation or a reward that is
            not finite: the message names environment and step.

    """
    require(len(environments) > 0, "environments", given="none", expected="at least one")
    envs, count = Environments(environments), len(environments)
    given = None if options is None else [options(i) for i in range(count)]
    envs.reset(None, seeds(seed, "episodes", count), given)
    state, seconds = None, []
    returns, last = np.zeros(count), np.zeros(count)
    alive = np.ones(count, dtype=bool)
    seen, acted, states = [envs.states.copy()], [], []
    limit = max(_limit(env) for env in environments)
    for _ in track(range(limit), progress, transient=True) if progress else range(limit):
        started = time.perf_counter()
        actions, state = agent.predict(envs.observations, state)
        seconds.append(time.perf_counter() - started)
        actions = _checked(actions, envs)
        step = envs.step(actions, alive)
        if not step.finite.all():
            where = envs.where(int(np.flatnonzero(~step.finite)[0]))
            raise InputError(f"env: expected a finite observation and reward, got others ({where})")
        last[alive] = step.rewards[alive]
        returns += step.rewards
        alive = alive & ~(step.terminated | step.truncated)
        seen.append(envs.states.copy())
        acted.append(np.asarray(actions, np.float64))
        states.append(state)
        if not alive.any():
            break
    return Episodes(returns, last, np.stack(seen), np.stack(acted), np.array(seconds), states)


def _checked(given: Any, envs: Environments) -> NDArray[Any]:
    """An agent's actions `(N, act_dim)` as the environments take them: clipped, rounded to whole numbers, cast."""
    actions = as_array("actions", given)
    shape = (len(envs), *envs.action_space.shape)
    require(actions.shape == shape, "actions", given=f"shape {actions.shape}", expected=f"shape {shape}")
    require(bool(np.isfinite(actions).all()), "actions", given="figures that are not", expected="finite ones")
    return as_actions(actions, envs.action_space)


def _limit(env: gym.Env[Any, Any]) -> int:
    limit = None if env.spec is None else env.spec.max_episode_steps
    return 10_000 if limit is None else limit
