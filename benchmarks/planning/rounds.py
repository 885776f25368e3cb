"""Contenders in turn: in each round every one plans one control step of its own episode."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.planning.contenders import finite
from ebm_control.data.stepping import Environments
from ebm_control.seeds import seeds

Times = dict[str, list[float]]  # by contender, milliseconds of each round
# It ends by itself if this program is killed.
_SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


class Driver:
    """An agent in episodes of its own, one control step at a time.

    Attributes:
        returns: mean return over the environments of each episode that has ended.
        plans: number of calls of the agent.
        non_finite: number of calls whose plans were not finite.
        first_seconds: duration of the first call, which compiles.

    """

    def __init__(self, agent: Any, environments: Sequence[gym.Env[Any, Any]], seed: int = 0) -> None:
        self.agent, self.envs, self.seed = agent, Environments(environments), seed
        self.returns: list[float] = []
        self.plans = self.non_finite = 0
        self.first_seconds = 0.0
        self._plan: Any = None
        self._return = 0.0

    def step(self) -> tuple[float, bool]:
        """Plan and act once; milliseconds of the plan, and whether it was warm-started."""
        warm = self._plan is not None
        if not warm:
            count = len(self.envs)
            self.envs.reset(None, seeds(self.seed + len(self.returns), "benchmark", count))
            self._return = 0.0
        began = time.perf_counter()
        actions, self._plan = self.agent.predict(self.envs.observations, self._plan)
        seconds = time.perf_counter() - began
        self.first_seconds = self.first_seconds or seconds
        self.plans += 1
        self.non_finite += not finite(self._plan)
        step = self.envs.step(actions)
        self._return += float(step.rewards.mean())
        if (step.terminated | step.truncated).any():
            self.returns.append(self._return)
            self._plan = None
        return 1e3 * seconds, warm

    def close(self) -> None:
        self.envs.close()


@dataclass
class Race:
    """Contenders that are timed in turn."""

    drivers: Mapping[str, Driver]
    _turn: int = field(default=0, init=False)

    def warm_up(self, steps: int) -> None:
        """The same number of untimed steps for all, so that their episodes begin and end together."""
        for driver in self.drivers.values():
            for _ in range(steps):
                driver.step()

    def rounds(self, count: int) -> Times:
        """Times of `count` rounds in which all plans were warm-started; each round begins with another contender."""
        names, times = list(self.drivers), {name: list[float]() for name in self.drivers}
        while len(times[names[0]]) < count:
            self._turn += 1
            first = self._turn % len(names)
            found = {name: self.drivers[name].step() for name in names[first:] + names[:first]}
            if all(warm for _, warm in found.values()):
                for name, (milliseconds, _) in found.items():
                    times[name].append(milliseconds)
        return times

    def rows(self, section: str, times: Times, **given: Any) -> list[dict[str, Any]]:
        """One row for each contender: its times and, as a fast plan can be a bad one, its returns."""
        return [
            {"section": section, "contender": name, "starts": len(driver.envs)}
            | given
            | {
                "rounds": len(times[name]),
                "first_call_seconds": round(driver.first_seconds, 3),
                "p50_ms": round(quantile(times[name], 0.5), 3),
                "p95_ms": round(quantile(times[name], 0.95), 3),
                "plans_per_second": round(1e3 * len(driver.envs) / quantile(times[name], 0.5), 1),
                "return": round(float(np.mean(driver.returns)), 4) if driver.returns else None,
                "non_finite": driver.non_finite,
            }
            for name, driver in self.drivers.items()
        ]

    def sound(self, *names: str) -> bool:
        """Whether these contenders take part and all their plans were finite."""
        found = [self.drivers.get(name) for name in names]
        return all(driver is not None and driver.non_finite == 0 for driver in found)

    def median_ratio(self, times: Times, above: str, below: str) -> float | None:
        """Median over rounds of one contender's time divided by another's; None if one is missing or not sound."""
        if not self.sound(above, below):
            return None
        pairs = zip(times[above], times[below], strict=True)
        return round(statistics.median(mine / other for mine, other in pairs), 4)

    def quantile_ratio(self, times: Times, q: float, above: str, below: str) -> float | None:
        """Ratio of the quantiles of two contenders' times; None if one is missing or not sound."""
        if not self.sound(above, below):
            return None
        return round(quantile(times[above], q) / quantile(times[below], q), 4)

    def close(self) -> None:
        for driver in self.drivers.values():
            driver.close()


def quantile(values: Sequence[float], q: float) -> float:
    return float(np.quantile(values, q))


@contextmanager
def busy_core() -> Iterator[subprocess.Popen[bytes]]:
    """Another process computes without a pause for the duration of the block."""
    process = subprocess.Popen([sys.executable, "-c", _SPIN])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
