"""Trials of settings for the presets of online learning, on seeds that no table has.

`python -m experiments.mujoco.trials [--envs ...] [--methods ...] [--seeds N] [--out DIR]` writes `DIR/trials.json`
after every run; `--resume` continues a stopped one. Seeds begin at 100. A candidate is the environment's own preset
with one change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import tyro

from ebm_control.online import OnlinePreset
from ebm_control.online.presets import CHOICE, SEARCH
from experiments.mujoco.jobs import run
from experiments.mujoco.methods import Job, Method
from experiments.mujoco.own import BY_REWARD, from_nothing, same
from experiments.mujoco.problems import PROBLEMS
from experiments.mujoco.report import summarised, table
from experiments.processes import as_program
from experiments.runs import Experiment, MethodRuns, carry_out, chosen

Change = Callable[[OnlinePreset], OnlinePreset]
FIRST = 100


def policy(preset: OnlinePreset, **changes: Any) -> OnlinePreset:
    """Change settings of the policy, if there is one."""
    return preset if preset.policy is None else replace(preset, policy={**preset.policy, **changes})


def acting(preset: OnlinePreset, **changes: Any) -> OnlinePreset:
    """Change settings of the loop."""
    return replace(preset, acting={**(preset.acting or {}), **changes})


CANDIDATES: dict[str, Change] = {
    "preset": same,
    "choice": partial(replace, sampler=CHOICE, horizon=5, chains=4),
    "search": partial(replace, sampler=SEARCH, horizon=12, chains=2),
    "search, horizon 5": partial(replace, sampler=SEARCH, horizon=5, chains=2),
    "horizon x 2": lambda preset: replace(preset, horizon=2 * preset.horizon),
    "no policy": partial(replace, policy=None, sampler=None, horizon=15, chains=None),
    "updates x 2": lambda preset: policy(preset, updates=2 * (preset.policy or {}).get("updates", 1.0)),
    "executed only": partial(policy, imagined=0.0),
    "imagined 0.8": partial(policy, imagined=0.8),
    "branch 3": partial(policy, branch=3),
    "wide": partial(policy, hidden=(256, 256)),
    "noise 0.3": partial(acting, noise=0.3),
    "noise 0": partial(acting, noise=0.0),
}


@dataclass
class Trials(MethodRuns):
    """All candidates on all environments with a reward."""

    envs: tuple[str, ...] | None = None
    """Run only these environments; default: all with a reward."""
    seeds: int = 1
    """Runs per candidate and environment."""
    first: int = FIRST
    """The first seed."""


def jobs_of(envs: Iterable[str], seeds: Iterable[int], quick: bool) -> Iterator[Job]:
    """Jobs environment by environment."""
    for env, (name, change), seed in product(envs, CANDIDATES.items(), list(seeds)):
        method = Method(name, partial(from_nothing, changed=change), BY_REWARD)
        yield Job(method, PROBLEMS[env], seed, quick)


def main() -> None:
    settings = tyro.cli(Trials)
    envs = BY_REWARD if settings.envs is None else chosen("envs", settings.envs, BY_REWARD)
    jobs = list(jobs_of(envs, settings.seed_range, settings.quick))
    flags = "" if settings.envs is None else f" --envs {' '.join(envs)}"
    carry_out(
        settings, Experiment("mujoco.trials", jobs, run, summarised, table, flags, record="trials.json")
    )


if __name__ == "__main__":
    as_program(main)
