"""The oracle: plans of whole episodes on the simulator itself, on the same episodes as every method.

Each plan is optimised on the true dynamics by CEM, iLQR and hill climbing (`ebm_envs.oracles`). The dynamics are
deterministic, so the best plan for the whole episode would not change if it were planned again on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm_envs.oracles import crane_oracle
from experiments.mujoco.methods import Job, Method, Row, evaluated

Array = NDArray[np.float64]


def _crane(observation: Array) -> Array:
    return crane_oracle(observation[:5], observation[5]).actions


PLANS: dict[str, Callable[[Array], Array]] = {"ebm/Crane-v0": _crane}
"""By problem: an episode's actions (steps, act_dim) from its first observation."""


@dataclass(frozen=True)
class Oracle:
    """Follows plans that are made at the start of each episode."""

    plan: Callable[[Array], Array]

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Array, dict[str, Any]]:
        if state is None:
            state = {"plans": np.stack([self.plan(first) for first in observation]), "step": 0}
        return state["plans"][:, state["step"]], state | {"step": state["step"] + 1}


def oracle(job: Job) -> list[Row]:
    """The oracle's row. It has no time per action, as it acts only by plans made before."""
    row = evaluated(Oracle(PLANS[job.env]), job.problem, job.seed, job.episodes)
    return [row | {"plan_ms_p50": None, "hyperparameters": {"plans": "CEM, iLQR, hill climbing"}}]


METHODS = (Method("oracle", oracle, tuple(PLANS), factor=0),)
