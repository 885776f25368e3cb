"""Learners and planners of sizes that work, the same for an energy and for the models beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gymnasium import spaces

from ebm_control.baselines import Baseline, baseline_planner
from ebm_control.checks import require
from ebm_control.energies.base import Energy
from ebm_control.online.learner import BaselineLearner, EnergyLearner, Learner, Model
from ebm_control.planning import Planner, planner_for
from ebm_control.samplers import CEM, MPPI, Langevin, Linear
from ebm_control.training import ModelSettings, TrainSettings

ROUND = 200  # regression updates of a round of training, whatever the model
CHAINS = 2  # of a plan
# Half of what plans offline have: the better a base knows all coordinates, the more of them are as stiff as the
# stiffest one, and 80 steps no longer settle.
WEIGHT = 5.0
OVER_ACTIONS = Langevin(20, Linear(0.2, 0.01), noise=0.0, adapt="rms")
SEARCHES: dict[str, CEM | MPPI] = {
    "cem": CEM(5, candidates=100, elites=10, noise=1.0),
    "mppi": MPPI(5, candidates=100, noise=1.0, temperature=0.5),
}
SAMPLERS = ("langevin", *SEARCHES)
KINDS = ("energy", "feed-forward", "ensemble")


def learner_for(kind: str, transitions: int, seed: int = 0) -> Learner:
    """An untrained model: an energy, a feed-forward network or an ensemble of five.

    Args:
        kind: "energy", "feed-forward" or "ensemble".
        transitions: most that there will ever be.
        seed: of weights, batches and noise.

    Raises:
        InputError: no such kind.

    """
    require(kind in KINDS, "kind", given=kind, expected=f"one of {KINDS}")
    if kind == "energy":
        settings = TrainSettings(ModelSettings(hidden=(128, 128)), updates=30, base_updates=ROUND, seed=seed)
        return EnergyLearner(settings, transitions)
    if kind == "feed-forward":
        return BaselineLearner(1, (256, 256), ROUND, seed=seed)
    return BaselineLearner(5, (128, 128), ROUND, seed=seed)


def planner_of(
    model: Model,
    costs: Energy | Sequence[Energy],
    horizon: int = 12,
    *,
    action_space: spaces.Box | None = None,
    sampler: str = "langevin",
    shooting: bool = False,
    seed: int = 0,
) -> Planner:
    """How a model plans while it learns.

    Args:
        model: a learner's.
        costs: what the plan is for, in normalised units.
        horizon: steps ahead.
        action_space: bounds on actions; None for none.
        sampler: "langevin", or "cem" or "mppi", which search over actions: for costs that lead a gradient astray.
        shooting: with an energy plan over actions alone instead of states and actions; models without one always do.
        seed: of the particles' noise of an ensemble.

    Raises:
        InputError: no such sampler.

    """
    require(sampler in SAMPLERS, "sampler", given=sampler, expected=f"one of {SAMPLERS}")
    search = SEARCHES.get(sampler)
    if isinstance(model, Baseline):
        return baseline_planner(
            model,
            costs,
            horizon,
            sampler=search or OVER_ACTIONS,
            action_space=action_space,
            chains=1 if search else CHAINS,
            generator=torch.Generator().manual_seed(seed),
        )
    return planner_for(
        model,
        costs,
        horizon,
        sampler=search or (OVER_ACTIONS if shooting else "langevin"),
        action_space=action_space,
        chains=1 if search else CHAINS,
        shooting=shooting or search is not None,
        weight=WEIGHT,
    )
