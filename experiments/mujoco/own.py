"""Methods of the library: an energy, and the same recipe with other models of the dynamics, from nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from ebm_control.online import OnlineLearning, OnlinePreset, prepare_online
from ebm_control.online.presets import PRESETS
from ebm_control.samplers.population import CEM
from experiments.mujoco.methods import Job, Method, Row, dt_ms, evaluated
from experiments.mujoco.problems import PROBLEMS

Changed = Callable[[OnlinePreset], OnlinePreset]
BY_REWARD = tuple(name for name, problem in PROBLEMS.items() if not problem.success)
_LOCOMOTION = tuple(name for name in BY_REWARD if PROBLEMS[name].preset == "locomotion")


def same(preset: OnlinePreset) -> OnlinePreset:
    return preset


def no_tilt(preset: OnlinePreset) -> OnlinePreset:
    """Plans that leave out the tilt: only the base, a regression, is left of the energy."""
    return replace(preset, weight=0.0)


def executed_only(preset: OnlinePreset) -> OnlinePreset:
    """The policy and the value learn from executed transitions alone."""
    return preset if preset.policy is None else replace(preset, policy={**preset.policy, "imagined": 0.0})


def searched(preset: OnlinePreset) -> OnlinePreset:
    """Plans over actions by CEM, without a policy and a value (PETS, Chua et al. 2018)."""
    sampler = CEM(4, 100, elites=10, noise=1.0, colour=0.0, smooth=False)
    return replace(preset, policy=None, sampler=sampler, horizon=20, chains=1)


def from_nothing(job: Job, *, learner: Any = "energy", changed: Changed = same) -> list[Row]:
    """Learn online with the preset of the environment, then evaluate an agent that replans at every step."""
    preset = changed(PRESETS[job.problem.preset])
    began = time.perf_counter()
    learning = prepare_online(
        job.problem.make,
        job.steps,
        learner=learner,
        preset=preset,
        seed=job.seed,
        progress=False,
    )
    parts = Shares(learning)
    learning.run()
    seconds = time.perf_counter() - began
    row = evaluated(learning.agent(), job.problem, job.seed, job.episodes)
    policy = getattr(learning.planner, "policy", None)
    alone = None if policy is None else evaluated(policy, job.problem, job.seed, job.episodes)["return"]
    ended = [episode.return_ for episode in learning.progress.episodes][-10:]
    return [
        row
        | {
            "policy_return": alone,
            "learning_seconds": seconds,
            "steps_per_second": job.steps / seconds,
            **parts.of(seconds),
            "acting_return": sum(ended) / len(ended) if ended else None,
            "dt_ms": dt_ms(job.problem),
        }
    ]


class Shares:
    """Seconds that the parts of a run take: acting, the environment, model, reward, policy."""

    def __init__(self, learning: OnlineLearning) -> None:
        self.seconds: dict[str, float] = {}
        planner: Any = learning.planner
        self._time(learning, "_act", "planning")
        self._time(learning, "_execute", "environment")
        self._time(learning.learner, "update", "model")
        if planner.reward is not None:
            self._time(planner.reward, "fit", "reward")
        if planner.policy is not None:
            self._time(planner.policy, "learn", "policy")

    def _time(self, owner: Any, name: str, part: str) -> None:
        inner = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return inner(*given, **named)
            finally:
                self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began

        setattr(owner, name, timed)

    def of(self, total: float) -> dict[str, float]:
        """The parts' shares of `total` seconds, as `share_<part>`."""
        return {f"share_{part}": seconds / total for part, seconds in self.seconds.items()}


METHODS = (
    Method("energy", from_nothing, tuple(PROBLEMS)),
    Method("energy, no tilt", partial(from_nothing, changed=no_tilt), BY_REWARD, optional=BY_REWARD),
    Method(
        "energy, executed only", partial(from_nothing, changed=executed_only), BY_REWARD, optional=BY_REWARD
    ),
    Method("feed-forward", partial(from_nothing, learner="feed-forward"), tuple(PROBLEMS)),
    Method("ensemble", partial(from_nothing, learner="ensemble"), _LOCOMOTION),
    Method(
        "PETS", partial(from_nothing, learner="ensemble", changed=searched), _LOCOMOTION, optional=_LOCOMOTION
    ),
)
