"""Episodes from any Gymnasium environment with any policy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ebm_control.checks import InputError, require
from ebm_control.data.environments import (
    action_box,
    make_env,
    observation_box,
    observation_periods,
    plain_observation,
    require_steps,
)
from ebm_control.data.rollout_buffer import RolloutBuffer


@runtime_checkable
class Predictor(Protocol):
    """What Stable-Baselines3 policies and algorithms look like, and all that is asked of one."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None
    ) -> tuple[NDArray[Any], Any]:
        """Actions `(num_envs, act_dim)` for a batch of observations, and the policy's next hidden state."""
        ...


Policy = str | Predictor | Callable[[Any], NDArray[Any]]
Starts = Callable[[np.random.Generator], dict[str, Any]]


def collect(
    env: str | Callable[[], gym.Env],
    steps: int,
    policy: Policy = "random",
    *,
    num_envs: int = 8,
    seed: int = 0,
    progress: bool = True,
    starts: Starts | None = None,
) -> RolloutBuffer:
    """Collect exactly `steps` single-environment steps; equal arguments give equal data.

    Episodes end where the environment ends them and keep their final observation; those cut off by the end of
    collection are kept as not terminated. Actions are clipped to the action space before they are taken and
    recorded. Where observations are dictionaries the policy sees the whole, the buffer keeps `observation`.

    Args:
        env: id, or a function that makes one environment.
        steps: transitions to collect, over all environments together.
        policy: "random" (uniform in the action space), an object with `predict` as in Stable-Baselines3, or a
            function from a batch of observations to actions `(num_envs, act_dim)`.
        num_envs: environments stepped side by side.
        seed: environment `i` is seeded with `seed + i`; also seeds the random policy and `starts`.
        progress: show a progress bar.
        starts: function of a random generator that gives the `options` of a reset, such as `{"goal": ...}`.

    Returns:
        Buffer of `steps` transitions with rewards, its periods those that the environment declares.

    Raises:
        InputError: an unknown id, spaces other than flat Boxes, actions of a wrong shape, non-finite data.

    """
    require_steps(steps)
    given = "one environment" if isinstance(env, gym.Env) else env
    require(
        isinstance(env, str) or callable(env),
        "env",
        given=given,
        expected="an id or a function that makes one",
    )
    require(num_envs >= 1, "num_envs", given=num_envs, expected="at least 1")
    num_envs = min(num_envs, steps)
    first = make_env(env)
    actions, observations = action_box(first.action_space), observation_box(first.observation_space)
    makers = [lambda: first, *[lambda: make_env(env)] * (num_envs - 1)]
    envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)
    buffer = RolloutBuffer(observations.shape[0], actions.shape[0], periods=observation_periods(first))
    act = _actor(policy, actions, envs, seed)
    try:
        with _bar(progress) as bar:
            _run(envs, act, buffer, steps, seed, starts, bar)
    finally:
        envs.close()
    return buffer


Actor = Callable[[Any, NDArray[np.bool_]], NDArray[Any]]


def _actor(policy: Policy, space: Box, envs: SyncVectorEnv, seed: int) -> Actor:
    """Any policy as a function of observations and of which episodes have just begun."""
    if policy == "random":
        envs.action_space.seed(seed)
        return lambda observation, begun: envs.action_space.sample()
    if isinstance(policy, str) or not (isinstance(policy, Predictor) or callable(policy)):
        raise InputError(
            f"policy: expected 'random', an object with predict or a function of observations, got {policy!r}"
        )
    hidden: Any = None
    shape = (envs.num_envs, *space.shape)

    def act(observation: Any, begun: NDArray[np.bool_]) -> NDArray[Any]:
        nonlocal hidden
        if isinstance(policy, Predictor):
            given, hidden = policy.predict(observation, state=hidden, episode_start=begun)
        else:
            given = policy(observation)
        given = np.asarray(given)
        require(given.shape == shape, "policy", given=f"actions {given.shape}", expected=f"actions {shape}")
        return np.clip(given, space.low, space.high).astype(space.dtype)

    return act


def _run(
    envs: SyncVectorEnv,
    act: Actor,
    buffer: RolloutBuffer,
    steps: int,
    seed: int,
    starts: Starts | None,
    bar: Progress,
) -> None:
    rng = np.random.default_rng(seed)
    count = envs.num_envs
    everyone = np.ones(count, dtype=bool)
    observation, _ = envs.reset(seed=seed)
    if starts is not None:
        observation = _reset(envs, everyone, starts, rng)
    states = plain_observation(observation)
    rows: list[list[tuple[Any, ...]]] = [[] for _ in range(count)]  # (s, a, r) of the episodes under way
    task = bar.add_task("collecting", total=steps)
    begun = everyone
    rounds = math.ceil(steps / count)
    for t in range(rounds):
        actions = act(observation, begun)
        observation, rewards, terminated, truncated, _ = envs.step(actions)
        following = plain_observation(observation)
        # The last round of steps may be more than was asked for; the surplus is not recorded.
        wanted = min(count, steps - t * count)
        for i in range(wanted):
            rows[i].append((states[i], actions[i], rewards[i]))
        begun = terminated | truncated
        last = t == rounds - 1
        for i in np.flatnonzero(begun | last).tolist():
            # An environment that is past its share keeps the state its last recorded step led to.
            final = following[i] if i < wanted else states[i]
            _close(buffer, rows[i], final, bool(terminated[i]) and i < wanted)
        if begun.any() and not last:
            observation = _reset(envs, begun, starts, rng)
        states = plain_observation(observation)
        bar.advance(task, wanted)


def _close(buffer: RolloutBuffer, rows: list[tuple[Any, ...]], final: NDArray[Any], terminated: bool) -> None:
    """Move the rows of an episode that is over into the buffer."""
    if rows:
        states, actions, rewards = zip(*rows, strict=True)
        buffer.add_episode(np.stack([*states, final]), np.stack(actions), np.array(rewards), terminated)
        rows.clear()


def _reset(
    envs: SyncVectorEnv,
    mask: NDArray[np.bool_],
    starts: Starts | None,
    rng: np.random.Generator,
) -> Any:
    """Reset the environments in `mask`, each with options of its own where `starts` gives them."""
    if starts is None:
        return envs.reset(options={"reset_mask": mask})[0]
    for i in np.flatnonzero(mask):
        options = {**starts(rng), "reset_mask": np.arange(envs.num_envs) == i}
        observation, _ = envs.reset(options=options)
    return observation


def _bar(progress: bool) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, disable=not progress)
