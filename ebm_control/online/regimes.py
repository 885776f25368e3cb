"""Dynamics that change, and may change back: the model and data of each regime are stored separately."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ebm_control.data import Normalizer
from ebm_control.online.experience import Experience, Parts
from ebm_control.online.learner import Learner

FITS = 0.3  # a stored regime is restored if its error is below this fraction of the present regime's
# In typical displacements: a smaller error is no change, however accurate the model was. Under a new regime with few
# data, the error in new states is about a tenth; motors that turn the other way cause an error of two.
LEAST = 0.3
GROWN = (
    2  # a regime needs this many times the data that contradict it: with less, errors are due to lack of data
)


@dataclass(frozen=True)
class Regime:
    """Earlier dynamics: the learner's state and the data it was trained on.

    Attributes:
        learner: state of the learner.
        experience: training data and held-out data.

    """

    learner: Mapping[str, Any]
    experience: Parts


def heed_change(
    regimes: list[Regime], learner: Learner, experience: Experience, normalizer: Normalizer, ratio: float
) -> bool:
    """If the latest transitions contradict the model, restore a stored regime or begin a new one.

    Errors are compared in typical displacements and not in stds of the model (`Learner.surprise`): with few and
    similar data the model's std is small, and any new state would count as a change.

    A new regime starts with the present weights, but without the data. While it has few data of its own no other regime
    is begun, because a model in new states has errors there without any change.

    Args:
        regimes: stored regimes; a regime that ends is added, and one that is restored is removed.
        learner: learner of the present regime; it gets the state of a restored one.
        experience: its pending transitions are the latest ones; `data` and `held` change with the regime.
        normalizer: units of the transitions.
        ratio: multiple of the usual error that counts as a change.

    Returns:
        Whether the dynamics have changed.

    """
    fresh = experience.pending(normalizer)
    if len(fresh) < 2:  # a new regime needs a transition for training and one for evaluation
        return False
    error = float(learner.error(fresh).median())
    usual = float(learner.error(experience.recent(len(fresh), normalizer)).median())
    if error <= max(ratio * usual, LEAST):
        return False
    here = copy.deepcopy(learner.state_dict())
    known = [(_error_under(regime, learner, fresh), i) for i, regime in enumerate(regimes)]
    # States to which a wrong model led are new to the right one too, so its error there may exceed its usual one.
    found = regimes.pop(min(known)[1]) if known and min(known)[0] < FITS * error else None
    # A copy, because loading may use the tensors in place, and the stored state must not change.
    learner.load_state_dict(copy.deepcopy(here if found is None else found.learner))
    if found is None and len(experience.data) + len(experience.held) < GROWN * len(fresh):
        return False
    regimes.append(Regime(here, experience.exchange(None if found is None else found.experience)))
    return True


def _error_under(regime: Regime, learner: Learner, x: Tensor) -> float:
    learner.load_state_dict(copy.deepcopy(regime.learner))
    return float(learner.error(x).median())
