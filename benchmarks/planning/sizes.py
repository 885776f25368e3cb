"""How much each section measures, and the models, each of which is trained once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from ebm_control.cli.demo import Demo
from ebm_control.models import ModelSettings, TrainSettings
from experiments.planning import methods
from experiments.planning.methods import Trained
from experiments.planning.problems import ARM, PARTICLE, REACHER, TRANSITIONS, Problem, data_of


@dataclass(frozen=True)
class Size:
    """Amounts of a run.

    Attributes:
        seeds: training seeds for returns; times are of the model with seed 0.
        rounds: timed rounds with one start and with several horizons.
        batch_rounds: timed rounds with `starts` starts at once.
        warm_up: untimed plans of each contender before its first round.
        episodes: episodes for each seed.
        arm_episodes: the same on Arm7.
        plans: plans for memory.
        compiled: problems with a compiled contender at one start; the first call of each compiles.
        compiled_batches: whether first-order plans of several starts at once are compiled.
        first_order_returns: whether first-order plans run the episodes for returns too.
        starts: starts at once.
        horizons: horizons of the timed plans.
        transitions: random transitions of each data set.
        settings: replaces the training settings of Reacher, Particle and Arm7; None for those of the demo and the
            experiments.
        pendulum_transitions: random transitions of each pendulum; 0 for no pendulums.
        pendulum_settings: replaces the default training settings of the pendulums, which the figures are for.

    """

    seeds: int = 3
    rounds: int = 300
    batch_rounds: int = 50
    warm_up: int = 50
    episodes: int = 10
    arm_episodes: int = 10
    plans: int = 10_000
    compiled: tuple[str, ...] = (REACHER.name, PARTICLE.name, ARM.name)
    compiled_batches: bool = True
    first_order_returns: bool = True
    starts: int = 64
    horizons: tuple[int, ...] = (10, 20, 40, 80)
    transitions: int = TRANSITIONS
    settings: TrainSettings | None = None
    pendulum_transitions: int = 20_000
    pendulum_settings: TrainSettings | None = None


FULL = Size()
QUICK = Size(
    seeds=1,
    rounds=5,
    batch_rounds=1,
    warm_up=1,
    episodes=2,
    arm_episodes=1,
    plans=100,
    compiled=(REACHER.name,),
    compiled_batches=False,
    first_order_returns=False,
    starts=16,
    transitions=5000,
    settings=TrainSettings(ModelSettings(hidden=(32, 32)), updates=2, base_updates=400),
    pendulum_transitions=0,
)


@dataclass
class Models:
    """Models by problem and training seed, trained when first asked for."""

    size: Size
    seconds: float = 0.0
    _found: dict[tuple[str, int], Trained] = field(default_factory=dict)

    def of(self, problem: Problem, seed: int = 0) -> Trained:
        key = (problem.name, seed)
        if key not in self._found:
            began = time.perf_counter()
            self._found[key] = self._trained(problem, seed)
            self.seconds += time.perf_counter() - began
        return self._found[key]

    def _trained(self, problem: Problem, seed: int) -> Trained:
        data = data_of(problem.env, seed, self.size.transitions)
        if self.size.settings is not None:
            return methods.fitted(data, replace(self.size.settings, seed=seed))
        if problem.name == REACHER.name:
            return methods.fitted(data, replace(Demo().train, seed=seed))
        return methods.energy(data, seed, base_updates=1500 if problem.name == PARTICLE.name else 6000)
