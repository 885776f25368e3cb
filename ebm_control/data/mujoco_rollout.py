"""Random episodes of a MuJoCo environment on native threads: the same data, several times faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import InputError, require_number
from ebm_control.data.actions import random_actions
from ebm_control.data.environments import (
    EnvLike,
    action_box,
    ended_early,
    make_env,
    observation_box,
    require_steps,
)
from ebm_control.data.mujoco_check import DisagreementError, EnvironmentCheck, Observe, telling_states
from ebm_control.data.mujoco_simulator import (
    ADVICE,
    CHUNK_FLOATS,
    MujocoSimulator,
    Physics,
    unstable_message,
)
from ebm_control.data.periods import observation_periods
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.interrupts import uninterrupted
from ebm_control.seeds import seeds, stream

Starts = Callable[[np.random.Generator, int], tuple[NDArray[Any], NDArray[Any]]]

_MODEL_BYTES = 64_000_000  # copies of models per chunk, if resets change the model
_LEAST_CHUNK = 8
_RESETS = 12  # compared before anything is collected
_SHORT = 8  # compared steps after each of them except the first
_LONG = 250  # compared steps after the first, or one in `_LONG_SHARE` of those to collect
_LONG_SHARE = 400
_CHECKED_SHARE = 200  # while collecting, one step is compared for about this many collected


def collect_mujoco(
    env: EnvLike,
    steps: int,
    *,
    episode_length: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    starts: Starts | None = None,
    observe: Observe | None = None,
    periods: Sequence[float] | None = None,
) -> RolloutBuffer:
    """Collect exactly `steps` transitions under random actions, several times faster than stepping.

    The environment's physics run in `mujoco.rollout`; observations are recomputed from positions and
    velocities. Every episode uses the model, applied forces, active equalities and mocap poses that its own reset
    left. Rollouts are compared with the environment itself, one step at a time. Before collection this covers 250
    steps of an episode (one in 400 of those to collect, if that is more) and 8 steps after each of 11 more resets;
    later, steps after resets and from the fastest and outermost states collected. Changes that the environment makes
    by its own step count after more steps than these are not detected.

    All episodes last `episode_length` steps, except a shorter last one: **terminations are not applied**, so a
    hopper goes on after it has fallen. Rewards are not recorded. Equal arguments give equal data.

    Args:
        env: MuJoCo environment, its id, or a function that makes it.
        steps: transitions to collect.
        episode_length: steps per episode; None for the environment's own limit, or 1000 without one.
        seed: seed of the resets, the starts and the actions, each with its own stream.
        threads: number of native threads; None for all usable cores.
        starts: function of a random generator and `n` that returns start positions `(n, nq)` and velocities
            `(n, nv)`; None for the environment's own resets. If resets randomise physics, each episode is reset too.
        observe: function from positions `(..., nq)` and velocities `(..., nv)` to observations
            `(..., obs_dim)`; None for the environment's own `observe`, or else for Gymnasium's
            `observation_structure`.
        periods: period of each observation coordinate, 0 if it does not wrap; None for those the environment declares.

    Raises:
        InputError: the environment is not a MuJoCo one, its actions are not its actuators' controls, its observations
            cannot be derived from positions and velocities alone, or rollouts disagree with it; the message then says
            to use `collect`. Also if a simulation became unstable (see `MUJOCO_LOG.TXT` in the working directory) or if
            `env`, `starts` or `observe` failed during collection: `rollouts` of the error then holds the complete
            episodes collected so far, and so does that of the KeyboardInterrupt of a collection that is stopped.

    """
    require_steps(steps)
    made = make_env(env)
    try:
        with MujocoSimulator(made, threads) as simulator:
            return _Collector(made, simulator, steps, episode_length, seed, starts, observe, periods).run()
    finally:
        if made is not env:
            made.close()


class _Collector:
    """The state of one call of `collect_mujoco`."""

    def __init__(
        self,
        env: gym.Env,
        simulator: MujocoSimulator,
        steps: int,
        episode_length: int | None,
        seed: int,
        starts: Starts | None,
        observe: Observe | None,
        periods: Sequence[float] | None,
    ) -> None:
        self.box, obs_dim = action_box(env.action_space), observation_box(env.observation_space).shape[0]
        limit = env.spec.max_episode_steps if env.spec else None
        length = (limit or 1000) if episode_length is None else episode_length
        require_number("episode_length", length, 1, whole=True)
        self.simulator, self.steps, self.seed, self.starts = simulator, steps, seed, starts
        self.length = min(steps, length)
        self.observe = observe or _observe_of(env)
        self.check = EnvironmentCheck(env, simulator, self.observe)
        self.buffer = RolloutBuffer(obs_dim, self.box.shape[0], periods=observation_periods(env, periods))
        self.actions = stream(seed, "collect_mujoco actions")
        self.placing = stream(seed, "collect_mujoco starts")

    def run(self) -> RolloutBuffer:
        """Check that simulator and environment agree, then collect the rollouts."""
        varying = self._compare_resets()
        try:
            self._collect(varying)
        except Exception as error:  # code of the environment, `starts` or `observe` may raise anything
            known = isinstance(error, DisagreementError) or getattr(error, "rollouts", None) is not None
            if known:
                raise
            ours = isinstance(error, InputError)
            said = str(error) if ours else f"env, starts or observe: {type(error).__name__}: {error}"
            whole = f"{len(self.buffer)} transitions before it are whole, in `rollouts` of this error"
            raise ended_early(f"{said}; {whole}", self.buffer) from error
        except KeyboardInterrupt as error:
            error.rollouts = self.buffer  # type: ignore[attr-defined]
            raise
        return self.buffer

    def _collect(self, varying: bool) -> None:
        row = self.simulator.frame_skip * (self.simulator.state_size + self.box.shape[0])
        chunk = max(_LEAST_CHUNK, CHUNK_FLOATS // (self.length * row))  # independent of the number of threads
        last = self.check.reset(seeds(self.seed, "collect_mujoco environment", 1)[0])
        first = True
        while (missing := self.steps - len(self.buffer)) > 0:
            n = min(chunk, -(-missing // self.length))
            actions = random_actions(self.box, self.actions, (n, self.length))
            own = self.starts is None or varying
            begun = self._resets(actions, last if first else None) if own else [last] * n
            if self.starts is not None:
                begun = self._placed(begun, self.starts)
            self._roll(begun, actions[: len(begun)])
            first = False

    def _compare_resets(self) -> bool:
        """Compare steps after some resets; returns whether resets change more than positions and velocities."""
        rng = stream(self.seed, "collect_mujoco check")
        long = min(self.length, max(_LONG, self.steps // _LONG_SHARE))
        found = []
        for i in range(_RESETS):
            first = i == 0
            found.append(self.check.reset(seeds(self.seed, "collect_mujoco check", 1)[0] if first else None))
            for action in random_actions(self.box, rng, (long if first else min(_SHORT, self.length),)):
                if not self.check.step(action):
                    break
        self.check.require_agreement()
        rest = self.simulator.qvel.stop
        return any(
            p.model is not found[0].model
            or not np.array_equal(p.inputs, found[0].inputs)
            or not np.array_equal(p.state[rest:], found[0].state[rest:])
            for p in found
        )

    def _resets(self, actions: NDArray[Any], reset: Physics | None) -> list[Physics]:
        """Physics after one reset per episode, `reset` being the first; fewer than requested if models are big.

        After some resets the environment takes the episode's first action itself.
        """
        every, size = -(-_CHECKED_SHARE // self.length), self.simulator.model_bytes
        found: list[Physics] = []
        models = 0
        for i, action in enumerate(actions[:, 0]):
            found.append(reset if reset is not None and i == 0 else self.check.reset())
            if i % every == 0:
                self.check.step(action)
            models += i > 0 and found[-1].model is not found[-2].model
            if models * size >= _MODEL_BYTES:
                break
        self.check.require_agreement()
        return found

    def _placed(self, begun: list[Physics], starts: Starts) -> list[Physics]:
        """The same physics at the positions and velocities of `starts`."""
        like = np.stack([physics.state for physics in begun])
        states = self.simulator.states(*starts(self.placing, len(begun)), like)
        still = np.zeros(self.simulator.model.nv)
        return [p._replace(state=s, warmstart=still) for p, s in zip(begun, states, strict=True)]

    def _roll(self, begun: list[Physics], actions: NDArray[Any]) -> None:
        """Roll out, compare from the most informative states, and store the episodes."""
        paths, sound = self.simulator.paths(begun, actions)
        whole = np.flatnonzero(sound == self.length)
        kept = paths if len(whole) == len(paths) else paths[whole]
        if len(kept):
            moving = slice(self.simulator.qpos.start, self.simulator.qvel.stop)
            episode, step = telling_states(kept, moving)
            self.check.step_from(kept[episode, step], actions[whole[episode], step])
            self.check.require_agreement()
        observations = self.observe(kept[..., self.simulator.qpos], kept[..., self.simulator.qvel])
        done = self.buffer.num_episodes
        for s, a in zip(observations, actions[whole], strict=True):
            if (left := self.steps - len(self.buffer)) > 0:
                with uninterrupted():
                    self.buffer.add_episode(s[: left + 1], a[:left])
        if len(whole) < len(paths):
            bad = int(np.flatnonzero(sound < self.length)[0])
            message = unstable_message("episode", done + bad, int(sound[bad]))
            raise ended_early(f"{'env' if self.starts is None else 'starts'}: {message}", self.buffer)


def _observe_of(env: gym.Env) -> Observe:
    """The environment's own `observe`, or one from `observation_structure`: some positions, all velocities."""
    base: Any = env.unwrapped
    if hasattr(base, "observe"):
        own: Observe = base.observe
        return own
    structure = {k: v for k, v in getattr(base, "observation_structure", {}).items() if v}
    known = {"skipped_qpos", "qpos", "qvel"}
    if not structure or not structure.keys() <= known:
        raise InputError(
            f"observe: expected a function, since observations of {env} are not known to be just positions and "
            f"velocities (structure: {structure or 'not given'}), got None; give one, or {ADVICE}"
        )
    skip = structure.get("skipped_qpos", 0)
    # Hopper and Walker2d clip velocities without declaring it: test the environment with a very fast state.
    env.reset()
    base.set_state(base.init_qpos, np.full(base.model.nv, 1e3))
    limit = float(np.max(base._get_obs()[-base.model.nv :]))
    bound = np.inf if limit == 1e3 else limit
    return lambda qpos, qvel: np.concatenate([qpos[..., skip:], qvel.clip(-bound, bound)], axis=-1)
