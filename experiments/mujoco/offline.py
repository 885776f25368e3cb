"""HalfCheetah from data alone: 100,000 steps of a half-trained SAC, and methods that learn from them.

The data are those of the random policy. All methods learn from the same data, and the policy's own return, with its
mean actions, is what they have to exceed. `planned` is the return that the plans of these very episodes expected.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import SAC

from ebm_control import RolloutBuffer, collect
from ebm_control.online import OnlinePreset, learn_offline
from ebm_control.online.presets import PRESETS
from ebm_control.online.recipe import Kind
from ebm_control.planning import MPCAgent
from experiments.mujoco.methods import Job, Method, Row, dt_ms, evaluated
from experiments.mujoco.model_free import build
from experiments.mujoco.own import searched
from experiments.planning.reinforcement import Deterministic

TRAINED, QUICK_TRAINED = 50_000, 300  # steps of SAC, which needs a million
WORKERS = 20


def no_behaviour_cost(preset: OnlinePreset) -> OnlinePreset:
    """Plans without behaviour regularisation."""
    return replace(preset, policy={**(preset.policy or {}), "behaviour_weight": 0.0})


# The policy of the data under every model; then searches that are free to leave the data.
CONTENDERS: dict[str, tuple[Kind, Callable[[OnlinePreset], OnlinePreset]]] = {
    "energy": ("energy", lambda preset: preset),
    "energy, no behaviour cost": ("energy", no_behaviour_cost),
    "feed-forward": ("feed-forward", lambda preset: preset),
    "ensemble": ("ensemble", lambda preset: preset),
    "feed-forward, CEM": ("feed-forward", searched),
    "PETS": ("ensemble", searched),
}


def half_trained(job: Job) -> SAC:
    """The policy whose data are given: SAC with small networks, one update per step."""
    own = replace(job, compared=replace(job.compared, transitions=TRAINED))
    settings = {"learning_starts": 1000, "policy_kwargs": {"net_arch": [128, 128]}}
    model = build(own, SAC, settings, "MlpPolicy")
    assert isinstance(model, SAC)
    model.learn(QUICK_TRAINED if job.quick else TRAINED)
    return model


@dataclass(frozen=True)
class Random:
    """A policy's random actions."""

    model: SAC

    def __call__(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.model.predict(observation, deterministic=False)[0]


class PlannedRewards:
    """An agent that keeps the mean reward that its plans expect of a step.

    Args:
        agent: the agent.
        rated: rewards and ends of states `(N, H, obs_dim)`, actions and next states, as the agent's plans have them.

    """

    def __init__(self, agent: MPCAgent, rated: Callable[..., Any]) -> None:
        self.agent, self.rated = agent, rated
        self.expected: list[float] = []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        actions, plan = self.agent.predict(observation, state, episode_start)
        rewards, _ = self.rated(plan.states[:, :-1], plan.actions, plan.states[:, 1:])
        self.expected.append(float(rewards.mean()))
        return actions, plan


def _learned(job: Job, data: RolloutBuffer, name: str) -> Row:
    """The row of a contender."""
    kind, changed = CONTENDERS[name]
    began = time.perf_counter()
    run = learn_offline(
        job.problem.make,
        data,
        rounds=2 if job.quick else 20,
        learner=kind,
        preset=changed(PRESETS["offline"]),
        seed=job.seed,
        progress=False,
    )
    seconds = time.perf_counter() - began
    planner: Any = run.planner
    agent = PlannedRewards(run.agent(), planner.reward.rated)
    row = evaluated(agent, job.problem, job.seed, job.episodes)
    env = job.problem.make()
    assert env.spec is not None
    steps = env.spec.max_episode_steps or 0
    env.close()
    # The first episodes are those of the return; the one after them is for timing.
    return row | {
        "method": name,
        "planned": float(np.sum(agent.expected[:steps])),
        "learning_seconds": seconds,
        "minutes": (time.perf_counter() - began) / 60,
    }


def from_policy(job: Job) -> list[Row]:
    """Rows of the policy of the data, and of all contenders on the same data."""
    model = half_trained(job)
    data = collect(
        job.problem.make, job.steps, policy=Random(model), num_envs=WORKERS, seed=job.seed, progress=False
    )
    own = evaluated(Deterministic(model), job.problem, job.seed, job.episodes)
    rows = [own | {"method": "the policy of the data"}]
    rows += [_learned(job, data, name) for name in CONTENDERS]
    common = {"data_return": own["return"], "dt_ms": dt_ms(job.problem), "bar": 1.2 * own["return"]}
    return [row | common for row in rows]


METHODS = (
    Method(
        "data of a policy",
        from_policy,
        ("HalfCheetah-v5",),
        optional=("HalfCheetah-v5",),
        transitions=100_000,
        part="offline",
    ),
)
