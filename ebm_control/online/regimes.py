"""Dynamics that change, and may change back: what was learned of each is kept apart."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ebm_control.data import Normalizer
from ebm_control.online.experience import Experience, Parts
from ebm_control.online.learner import Learner

FITS = 0.3  # of the error under the present regime: what a known one must be below to be taken up again
# Typical displacements: an error below this is no change, however precise the model was. A young regime that is led
# to new states errs by a tenth, motors that turn the other way make it two.
LEAST = 0.3
GROWN = 2  # times what contradicts it: a regime of less data errs because it is young


@dataclass(frozen=True)
class Regime:
    """Dynamics that were in force once: what was learned of them, and from what.

    Attributes:
        learner: state of the learner.
        experience: data and held-out data.

    """

    learner: Mapping[str, Any]
    experience: Parts


def heed_change(
    regimes: list[Regime], learner: Learner, experience: Experience, normalizer: Normalizer, ratio: float
) -> bool:
    """If what was just executed is far from what was expected, take up another regime, or begin a new one.

    Errors are compared in typical displacements and not in deviations of the model (`Learner.surprise`): a model of few
    and similar data has a narrow one, and any new state would be a change.

    A new regime goes on from the weights that there are, without the data. While it has little data of its own no other
    is begun: a model that has just been led elsewhere errs there without any change.

    Args:
        regimes: put aside so far; what is left goes there, what is taken up again comes out.
        learner: of the regime in force; gets the state of the one that is taken up.
        experience: what was just executed is what is pending; `data` and `held` change with the regime.
        normalizer: units of the transitions.
        ratio: how many times the usual error is a change.

    Returns:
        Whether the dynamics have changed.

    """
    fresh = experience.pending(normalizer)
    if len(fresh) < 2:  # a new regime needs something to learn from and something to judge by
        return False
    error = float(learner.error(fresh).median())
    usual = float(learner.error(experience.recent(len(fresh), normalizer)).median())
    if error <= max(ratio * usual, LEAST):
        return False
    here = copy.deepcopy(learner.state_dict())
    known = [(_error_under(regime, learner, fresh), i) for i, regime in enumerate(regimes)]
    # Where a wrong model led is new to the right one as well, so it need not be as good as usual there.
    found = regimes.pop(min(known)[1]) if known and min(known)[0] < FITS * error else None
    # A copy: what is loaded may go on to change in place, what is put aside must not.
    learner.load_state_dict(copy.deepcopy(here if found is None else found.learner))
    if found is None and len(experience.data) + len(experience.held) < GROWN * len(fresh):
        return False
    regimes.append(Regime(here, experience.exchange(None if found is None else found.experience)))
    return True


def _error_under(regime: Regime, learner: Learner, x: Tensor) -> float:
    learner.load_state_dict(copy.deepcopy(regime.learner))
    return float(learner.error(x).median())
