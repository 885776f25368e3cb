"""Preparation of rollouts for every model: remove outliers, split, fit the normaliser."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ebm_control.data.normalizer import Normalizer
from ebm_control.data.outliers import warn_of_units, without_outliers
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.data.split import split


class Prepared(NamedTuple):
    """Rollouts prepared for training.

    Attributes:
        train: training data.
        held: held-out data for evaluation.
        normalizer: units of both.

    """

    train: RolloutBuffer
    held: RolloutBuffer
    normalizer: Normalizer


def prepare(buffer: RolloutBuffer, held_out: float, seed: int, steps: int = 1) -> Prepared:
    """Leave out outliers, warn of suspicious units, hold out a fraction, and fit the normaliser to the rest.

    Args:
        buffer: rollouts.
        held_out: fraction of the transitions that is held out.
        seed: seed of the split.
        steps: transitions per window.

    Raises:
        InputError: data too short for one training window and one held-out window.

    """
    sound = without_outliers(buffer)
    warn_of_units(sound)
    held, train = split(sound, held_out, np.random.default_rng(seed), steps)
    return Prepared(train, held, sound.normalizer())
