"""Run an agent on many episodes in parallel and record their outcome."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from ebm_control.checks import InputError, require, require_number, shown
from ebm_control.data.actions import as_actions
from ebm_control.data.environments import EnvLike, make_env, make_envs
from ebm_control.data.scalars import scalar_flag
from ebm_control.data.spaces import rows_of
from ebm_control.data.stepping import Environments
from ebm_control.planning.plan import Plan
from ebm_control.progress import Bar
from ebm_control.seeds import seeds
from ebm_control.statistics import half_interval
from ebm_control.tensors import as_array

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
MAX_STEPS = 10_000  # of an episode, by default
_SUCCESS = ("is_success", "success")  # Gymnasium-Robotics uses the first


class Agent(Protocol):
    """An agent that chooses actions from observations through the `predict` method of Stable-Baselines3."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Return actions and the state to pass to the next call."""
        ...


@dataclass(frozen=True, repr=False)
class Episodes:
    """Outcome of N episodes of up to T steps.

    Attributes:
        returns: `(N,)` sums of rewards.
        last_rewards: `(N,)` reward of each episode's last step.
        observations: `(T + 1, N, obs_dim)` as vectors, without a history; padded with an episode's last observation
            after its end.
        actions: `(T, N, act_dim)` as executed: clipped to the space, rounded if the space holds integers, and one-hot
            if it is discrete; 0 after an episode's end.
        seconds: `(T,)` duration of each call of `predict`, which acts for all running episodes at once.
        states: the agent's state after each step (plans for an `MPCAgent`), for the episodes that were running before
            it, in order: those with `lengths` above the step's index. For episodes that ran one after the other, a
            list of each episode's state.
        lengths: `(N,)` steps of each episode.
        success: `(N,)` `is_success` (or `success`) in the last step's `info`; None if an episode reports neither.

    """

    returns: Array
    last_rewards: Array
    observations: Array
    actions: Array
    seconds: Array
    states: list[Any]
    lengths: NDArray[np.int64] | None = None
    success: NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        """Number of episodes, and their mean return with its interval if there are several."""
        rate = "" if self.success_rate is None else f", success rate {self.success_rate:.2f}"
        spread = "" if math.isnan(self.ci95) else f" ± {self.ci95:.2g}"
        return f"Episodes({len(self.returns)}: mean return {self.mean:.5g}{spread}{rate})"

    @property
    def mean(self) -> float:
        """Mean of the episodes' undiscounted returns."""
        return float(self.returns.mean())

    @property
    def ci95(self) -> float:
        """Half the width of the 95 % interval of the mean return (Student's t); NaN for a single episode."""
        width = half_interval(self.returns)
        return math.nan if width is None else width

    @property
    def success_rate(self) -> float | None:
        """Fraction of episodes that ended in success; None if the environment does not report it."""
        return None if self.success is None else float(self.success.mean())


def evaluate(
    agent: Agent,
    env: EnvLike,
    episodes: int = 10,
    *,
    seed: int = 0,
    env_kwargs: Mapping[str, Any] | None = None,
    max_steps: int = MAX_STEPS,
    progress: bool = False,
) -> Episodes:
    """Run an agent on `episodes` episodes of an environment.

    Args:
        agent: see `Agent`.
        env: id, or a function that builds an environment at each call: `episodes` of them run in parallel and are
            closed afterwards. Or one environment: its episodes run one after the other, from the same starts.
        episodes: number of episodes, at least 1.
        seed: seed of the environments, see `run_episodes`. The agent's own noise goes on from call to call.
        env_kwargs: arguments of the environment (or of the function), if it is built here.
        max_steps: see `run_episodes`.
        progress: show a progress bar; without a terminal, print a line per minute on stderr.

    Raises:
        InputError: see `make_env` and `run_episodes`; also `env_kwargs` for an environment that exists already.

    """
    require_number("episodes", episodes, 1, whole=True)
    # A model has `predict` too, of futures.
    acts = callable(getattr(agent, "predict", None)) and not hasattr(agent, "recorded")
    require(acts, "agent", given=shown(agent), expected="an agent, of make_agent for example")
    title = "evaluating" if progress else ""
    if isinstance(env, gym.Env):
        made = make_env(env, env_kwargs)  # refuses arguments
        begun = seeds(seed, "episodes", episodes)
        return _joined([_run(agent, [made], [begun[i]], None, max_steps, title) for i in range(episodes)])
    environments = make_envs(env, episodes, env_kwargs)
    try:
        return run_episodes(agent, environments, seed=seed, max_steps=max_steps, progress=title)
    finally:
        for one in environments:
            one.close()


def run_episodes(
    agent: Agent,
    environments: Sequence[gym.Env[Any, Any]],
    *,
    seed: int = 0,
    options: Callable[[int], dict[str, Any]] | None = None,
    max_steps: int = MAX_STEPS,
    progress: str = "",
) -> Episodes:
    """Run one episode in each environment; one call of the agent per step acts for all of them.

    After an episode has ended, the agent acts only for the others and gets their entries of its state. Entries are
    selected in a `Plan`, in arrays and tensors with an axis of that length, and in lists, tuples and dictionaries of
    these. The axis is the first one; for three-dimensional arrays in a tuple the second is tried first, as recurrent
    policies of Stable-Baselines3 need it. None, numbers and text are passed on unchanged. With a state of any other
    type the agent acts for all episodes to the end.

    Args:
        agent: see `Agent`.
        environments: different environments of one kind.
        seed: seed of the environments. Starts differ from those of other seeds and from those of `collect`.
        options: returns the reset options of environment `i`.
        max_steps: steps within which every episode has to end. A registered step limit below it ends episodes too.
        progress: title of a progress bar, or of lines on stderr; empty for no progress display.

    Raises:
        InputError: there is no environment, or one is passed twice; an environment fails, or an observation or reward
            is not finite: the message names environment and step. Or an episode has not ended after `max_steps`.

    """
    require(len(environments) > 0, "environments", given="none", expected="at least one")
    count = len(environments)
    given = None if options is None else [options(i) for i in range(count)]
    return _run(agent, environments, seeds(seed, "episodes", count), given, max_steps, progress)


def _run(
    agent: Agent,
    environments: Sequence[gym.Env[Any, Any]],
    begun: Sequence[int],
    options: Sequence[dict[str, Any]] | None,
    max_steps: int,
    progress: str,
) -> Episodes:
    require_number("max_steps", max_steps, 1, whole=True)
    envs, count = Environments(environments), len(environments)
    envs.reset(None, begun, options)
    returns, last, lengths = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
    rows, alive = np.arange(count), np.ones(count, bool)  # indices acted for, and whether episodes still run
    seen, acted, seconds = [envs.states.copy()], list[Array](), list[float]()
    states, state = list[Any](), None
    registered = max(_registered_limit(env) for env in environments)
    limit = int(min(registered, max_steps))
    with Bar(show=bool(progress), transient=True) as bar:
        task = bar.add_task(progress, total=limit)
        while alive.any() and len(acted) < limit:
            started = time.perf_counter()
            asked, state = agent.predict(_seen(envs, rows), state)
            seconds.append(time.perf_counter() - started)
            actions = _checked(asked, envs, rows)
            step = envs.step(actions, alive)
            if not step.finite.all():
                where = envs.where(int(np.flatnonzero(~step.finite)[0]))
                raise InputError(f"env: expected a finite observation and reward, got others ({where})")
            last[alive] = step.rewards[alive]
            returns += step.rewards
            lengths += alive
            acted.append(np.where(alive[:, None], actions.astype(np.float64), 0.0))
            alive &= ~(step.terminated | step.truncated)
            seen.append(envs.states.copy())
            states.append(state)
            left = np.flatnonzero(alive[rows])
            if 0 < len(left) < len(rows):
                with suppress(TypeError):  # entries of this state cannot be selected: the agent acts for all
                    state, rows = _taken(state, left, len(rows)), rows[left]
            bar.advance(task)
    if alive.any() and max_steps < registered:
        raise InputError(
            f"max_steps: expected episodes that end within {max_steps:,} steps, got {int(alive.sum())} of {count} that "
            "did not; wrap the environment: gymnasium.wrappers.TimeLimit(env, steps)"
        )
    return Episodes(
        returns,
        last,
        np.stack(seen),
        np.stack(acted),
        np.array(seconds),
        states,
        lengths,
        _success(envs.infos),
    )


def _seen(envs: Environments, rows: Rows) -> Any:
    """Observations of the environments `rows`."""
    seen = envs.seen
    return seen if len(rows) == len(envs) else rows_of(seen, rows)


def _taken(value: Any, rows: Rows, count: int, axes: tuple[int, ...] = (0,)) -> Any:
    """Select `rows` in a state with one entry for each of `count` episodes, along the first of `axes` of that length.

    Raises:
        TypeError: entries of this type cannot be selected.

    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Plan):
        return value.select(torch.from_numpy(rows))
    if isinstance(value, Mapping):
        return {name: _taken(part, rows, count) for name, part in value.items()}
    if isinstance(value, list):
        return [_taken(part, rows, count) for part in value]
    if isinstance(value, tuple):
        return tuple(_taken(part, rows, count, (1, 0)) for part in value)
    if isinstance(value, np.ndarray | torch.Tensor):
        if value.ndim == 0:
            return value
        for axis in axes if value.ndim == 3 else (0,):
            if value.shape[axis] == count:
                index: Any = rows if isinstance(value, np.ndarray) else torch.from_numpy(rows)
                return value[(slice(None),) * axis + (index,)]
    raise TypeError(f"no rows of {type(value).__name__}")


def _success(infos: Sequence[Any]) -> NDArray[np.bool_] | None:
    """Success flags of the last steps; None if one of them is missing."""
    found = []
    for info in infos:
        said = [info[name] for name in _SUCCESS if isinstance(info, Mapping) and name in info]
        try:
            found.append(scalar_flag(said[0], "is_success"))
        except (IndexError, InputError):
            return None
    return np.array(found)


def _joined(parts: Sequence[Episodes]) -> Episodes:
    """Combine episodes that ran one after the other as if they had run in parallel."""
    longest = max(len(part.actions) for part in parts)

    def side_by_side(name: str, rows: int, mode: Any) -> Array:
        arrays = [getattr(part, name) for part in parts]
        padded = [np.pad(a, ((0, rows - len(a)), (0, 0), (0, 0)), mode=mode) for a in arrays]
        return np.concatenate(padded, axis=1)

    steps = range(longest)
    successes = [part.success for part in parts if part.success is not None]
    return Episodes(
        np.concatenate([part.returns for part in parts]),
        np.concatenate([part.last_rewards for part in parts]),
        side_by_side("observations", longest + 1, "edge"),
        side_by_side("actions", longest, "constant"),
        np.array([sum(part.seconds[t] for part in parts if t < len(part.seconds)) for t in steps]),
        [[part.states[t] for part in parts if t < len(part.states)] for t in steps],
        np.array([len(part.actions) for part in parts]),
        np.concatenate(successes) if len(successes) == len(parts) else None,
    )


def _checked(given: Any, envs: Environments, rows: Rows) -> NDArray[Any]:
    """Actions `(n, act_dim)` for `rows`, as `(N, act_dim)` for the environments: clipped, rounded and cast."""
    actions = as_array("actions", envs.flat_actions("actions", given))
    shape = (len(rows), *envs.action_space.shape)
    require(actions.shape == shape, "actions", given=f"shape {actions.shape}", expected=f"shape {shape}")
    require(
        bool(np.isfinite(actions).all()),
        "actions",
        given="values that are not finite",
        expected="finite values",
    )
    whole = np.zeros((len(envs), *envs.action_space.shape))
    whole[rows] = actions
    return as_actions(whole, envs.action_space)


def _registered_limit(env: gym.Env[Any, Any]) -> float:
    limit = None if env.spec is None else env.spec.max_episode_steps
    return math.inf if limit is None else limit
