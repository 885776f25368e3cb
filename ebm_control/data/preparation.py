"""What every model does with rollouts before it learns from them: look them over, split, measure units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ebm_control.data.normalizer import Normalizer
from ebm_control.data.outliers import warn_of_units, without_outliers
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.data.split import split


class Prepared(NamedTuple):
    """Rollouts as a model learns from them.

    Attributes:
        train: to learn from.
        held: to judge by.
        normalizer: units of both.

    """

    train: RolloutBuffer
    held: RolloutBuffer
    normalizer: Normalizer


def prepare(buffer: RolloutBuffer, held_out: float, seed: int, steps: int = 1) -> Prepared:
    """Leave out outliers, warn of units that look wrong, hold out a share, and measure the units of the rest.

    Args:
        buffer: rollouts.
        held_out: share of the transitions that is held out.
        seed: of the draw.
        steps: transitions that a window takes.

    Raises:
        InputError: data too short for a window to learn from and one to judge by.

    """
    sound = without_outliers(buffer)
    warn_of_units(sound)
    held, train = split(sound, held_out, np.random.default_rng(seed), steps)
    return Prepared(train, held, sound.normalizer())
