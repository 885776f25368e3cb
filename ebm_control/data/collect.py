"""Episodes from any Gymnasium environment with any policy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import InputError, require, require_number
from ebm_control.data.actions import as_actions, random_actions
from ebm_control.data.environments import EnvLike, ended_early, make_envs, require_steps
from ebm_control.data.periods import observation_periods
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.data.stepping import Environments
from ebm_control.interrupts import uninterrupted
from ebm_control.progress import Bar
from ebm_control.seeds import seeds, stream


@runtime_checkable
class Predictor(Protocol):
    """The interface of a policy object, as in Stable-Baselines3."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None
    ) -> tuple[NDArray[Any], Any]:
        """Actions `(num_envs, act_dim)` for a batch of observations, and the policy's next hidden state."""
        ...


Policy = str | Predictor | Callable[[Any], NDArray[Any]]
Starts = Callable[[np.random.Generator], dict[str, Any]]
_FEW = 10  # steps that may be left out, however short the collection


def collect(
    env: EnvLike,
    steps: int,
    policy: Policy = "random",
    *,
    num_envs: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    max_episode_steps: int | None = None,
    seed: int = 0,
    progress: bool = True,
    starts: Starts | None = None,
    periods: Sequence[float] | None = None,
    history: int = 1,
) -> RolloutBuffer:
    """Collect exactly `steps` single-environment steps; equal arguments give equal data.

    Episodes end when the environment ends them and include their final observation; those cut off by the end of
    collection are marked as not terminated. Actions are clipped to the action space, and rounded if it holds integers,
    before they are taken and recorded. The buffer stores vectors (see `ebm_control.adapt`), such as one-hot actions.
    A step whose observation or reward is not finite is left out, and its episode ends before it; a warning counts them.

    Args:
        env: id, function that makes one environment, or one environment.
        steps: transitions to collect, over all environments together.
        policy: "random" (uniform between the bounds of the action space), an object with a `predict` method like those
            of Stable-Baselines3, or a function of a batch of observations: actions `(num_envs, ...)`.
        num_envs: environments stepped in turn; None for 8, or 1 if `env` is one.
        env_kwargs: arguments of the environment (or of the function), if it is built here.
        max_episode_steps: step limit of an episode instead of the registered one, for an id.
        seed: seed of the environments, the random policy and `starts`, whose streams are independent.
        progress: show a progress bar; without a terminal, one line per minute on stderr.
        starts: function of a random generator that returns the `options` of a reset, such as `{"goal": ...}`.
        periods: period of each observation coordinate, 0 if it does not wrap; None for those the environment declares.
        history: observations that each stored observation holds, with the actions between; see `ebm_control.adapt`.

    Returns:
        Buffer of `steps` transitions with rewards.

    Raises:
        InputError: an unknown id, spaces that have no vectors (images, text), one environment for `num_envs` > 1, or
            actions of the wrong shape. If the environment or the policy fails during collection, the error's `rollouts`
            holds the finished episodes, and so does that of the KeyboardInterrupt of a collection that is stopped.

    """
    require_steps(steps)
    one = isinstance(env, gym.Env)
    num_envs = (1 if one else 8) if num_envs is None else num_envs
    require_number("num_envs", num_envs, 1, whole=True)  # checked before min() with `steps`
    envs = Environments(make_envs(env, min(steps, num_envs), env_kwargs, max_episode_steps), history)
    try:
        sizes = envs.observation_space.shape[0], envs.action_space.shape[0]
        buffer = RolloutBuffer(*sizes, periods=observation_periods(envs.all[0], periods), form=envs.form)
        collection = _Collection(envs, buffer, _actor(policy, envs, seed), starts, seed)
        with Bar(show=progress) as bar:
            collection.run(steps, bar)
    finally:
        if not one:
            envs.close()
    collection.warn()
    return buffer


Actor = Callable[[Any, NDArray[np.bool_]], NDArray[Any]]


def _actor(policy: Policy, envs: Environments, seed: int) -> Actor:
    """Any policy as a function of the observations and a mask of episodes that have just begun."""
    space, count = envs.action_space, len(envs)
    if isinstance(policy, str) and policy == "random":
        rng = stream(seed, "collect actions")
        return lambda observation, begun: random_actions(space, rng, (count,))
    if isinstance(policy, str) or not (isinstance(policy, Predictor) or callable(policy)):
        raise InputError(
            f"policy: expected 'random', an object with predict or a function of observations, got {policy!r}"
        )
    hidden: Any = None
    shape = (count, *space.shape)

    def act(observation: Any, begun: NDArray[np.bool_]) -> NDArray[Any]:
        nonlocal hidden
        if isinstance(policy, Predictor):
            given, hidden = policy.predict(observation, state=hidden, episode_start=begun)
        else:
            given = policy(observation)
        given = np.asarray(envs.flat_actions("policy", given))
        require(given.shape == shape, "policy", given=f"actions {given.shape}", expected=f"actions {shape}")
        finite = bool(np.isfinite(given).all())
        require(finite, "policy", given="actions that are not finite", expected="finite ones")
        return as_actions(given, space)

    return act


class _Collection:
    """Running episodes of several environments, and the buffer that stores them when they end."""

    def __init__(
        self, envs: Environments, buffer: RolloutBuffer, act: Actor, starts: Starts | None, seed: int
    ) -> None:
        self.envs, self.buffer, self.act, self.starts = envs, buffer, act, starts
        self.rng = stream(seed, "collect starts")
        self.seeds = seeds(seed, "collect environments", len(envs))
        self.rows: list[list[tuple[Any, ...]]] = [[] for _ in envs.all]  # (s, a, r) of the running episodes
        self.begun = np.ones(len(envs), dtype=bool)
        self.last = envs.states.copy()  # state after the last recorded step of each
        self.left_out, self.first = 0, ""

    def run(self, steps: int, bar: Bar) -> None:
        """Step all environments until `steps` transitions are collected."""
        task = bar.add_task("collecting", total=steps)
        try:
            self._reset(self.begun, self.seeds)
            done = 0
            while done < steps:
                # The last round may take more steps than requested; the surplus is not recorded.
                found = self._advance(steps - done)
                done += found
                bar.advance(task, found)
        except Exception as error:  # code of the environment, the policy or `starts` may raise anything
            self._cut_off()
            said = str(error) if isinstance(error, InputError) else f"policy or starts: {_said(error)}"
            raise ended_early(
                f"{said}; {len(self.buffer)} transitions before it are whole, in `rollouts` of this error",
                self.buffer,
            ) from error
        except KeyboardInterrupt as error:
            self._cut_off()
            error.rollouts = self.buffer  # type: ignore[attr-defined]
            raise
        self._cut_off()

    def _advance(self, wanted: int) -> int:
        """One step of every environment; the first `wanted` are recorded. Returns the number recorded."""
        envs, before = self.envs, self.last
        actions = self.act(envs.seen, self.begun)
        with uninterrupted():
            step = envs.step(actions)
            recorded = 0
            for i in range(len(envs)):
                if not step.finite[i]:
                    self._leave_out(i)
                    self._close(i, before[i], terminated=False)
                elif recorded < wanted:
                    self.rows[i].append((before[i], actions[i], step.rewards[i]))
                    recorded += 1
                    if step.terminated[i] or step.truncated[i]:
                        self._close(i, envs.states[i], bool(step.terminated[i]))
                else:
                    # No more steps are recorded here: its episode ends with the state after the last recorded step.
                    self._close(i, before[i], terminated=False)
            self.last = envs.states.copy()
        self.begun = step.terminated | step.truncated | ~step.finite
        if self.left_out > max(_FEW, len(self.buffer) // 10):
            raise InputError(
                f"env: expected finite observations and rewards, got {self.left_out} that are not; the first is "
                f"{self.first}"
            )
        if self.begun.any() and recorded < wanted:
            self._reset(self.begun)
        return recorded

    def _leave_out(self, i: int) -> None:
        self.left_out += 1
        if not self.first:
            bad = np.flatnonzero(~np.isfinite(self.envs.states[i])).tolist()
            what = f"observation coordinate {bad[0]}" if bad else "the reward"
            self.first = f"{what} of {self.envs.where(i)}"

    def _reset(self, mask: NDArray[np.bool_], given: Sequence[int] | None = None) -> None:
        """Reset the environments in `mask`, each with its own options if `starts` is given."""
        options = None if self.starts is None else [self.starts(self.rng) for _ in np.flatnonzero(mask)]
        self.envs.reset(mask, given, options)
        self.last = self.envs.states.copy()

    def _cut_off(self) -> None:
        """End the running episodes at their current step."""
        for i in range(len(self.envs)):
            self._close(i, self.last[i], terminated=False)

    def _close(self, i: int, final: NDArray[Any], terminated: bool) -> None:
        """Move a finished episode into the buffer."""
        rows = self.rows[i]
        if rows:
            states, actions, rewards = zip(*rows, strict=True)
            self.buffer.add_episode(
                np.stack([*states, final]), np.stack(actions), np.array(rewards), terminated
            )
            rows.clear()

    def warn(self) -> None:
        """Warn of steps left out because of values that are not finite, if there were any."""
        if self.left_out:
            warnings.warn(
                f"collect: {self.left_out} steps left out whose observation or reward is not finite; "
                f"the first is {self.first}",
                stacklevel=3,
            )


def _said(error: Exception) -> str:
    return f"expected no error, got {type(error).__name__}: {' '.join(str(error).split())}"
