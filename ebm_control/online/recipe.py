"""Learners of sizes that work, the same for an energy and for the baselines."""

from __future__ import annotations

from ebm_control.checks import require
from ebm_control.models import ModelSettings, TrainSettings
from ebm_control.online.learner import BaselineLearner, EnergyLearner, Learner

ROUND = 200  # regression updates of a round of training, whatever the model
KINDS = ("energy", "feed-forward", "ensemble")


def make_learner(kind: str, transitions: int, seed: int = 0) -> Learner:
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
