"""Learners by name, with settings that work for an energy and for the baselines, and environments by id."""

from __future__ import annotations

from typing import Literal, get_args

from ebm_control.checks import require, shown
from ebm_control.models import ModelSettings, TrainSettings
from ebm_control.online.learner import BaselineLearner, EnergyLearner, Learner
from ebm_control.online.settings import OnlineSettings

ROUND = 200  # regression updates per round of training, for all models
Kind = Literal["energy", "feed-forward", "ensemble"]
KINDS = get_args(Kind)


def make_learner(kind: Kind, transitions: int, seed: int = 0) -> Learner:
    """Build an untrained model: an energy, a feed-forward network or an ensemble of five.

    Args:
        kind: "energy", "feed-forward" or "ensemble".
        transitions: largest number of transitions there will ever be.
        seed: seed of weights, batches and noise.

    Raises:
        InputError: the kind does not exist.

    """
    require(kind in KINDS, "kind", given=shown(kind), expected=f"one of {KINDS}")
    if kind == "energy":
        settings = TrainSettings(ModelSettings(hidden=(128, 128)), updates=30, base_updates=ROUND, seed=seed)
        return EnergyLearner(settings, transitions)
    if kind == "feed-forward":
        return BaselineLearner(1, (256, 256), ROUND, seed=seed)
    return BaselineLearner(5, (128, 128), ROUND, seed=seed)


def as_learner(learner: Learner | Kind, settings: OnlineSettings) -> Learner:
    """A `Learner` unchanged; for a name, a new learner with capacity for every transition of the run."""
    if not isinstance(learner, str):
        return learner
    require(learner in KINDS, "learner", given=shown(learner), expected=f"a Learner or one of {KINDS}")
    return make_learner(learner, settings.steps + settings.environments, settings.seed)
