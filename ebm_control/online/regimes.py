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
LEAST = 0.1  # typical displacements: an error below this is none that matters, however precise the model was


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

    A new regime goes on from the weights that there are, without the data.

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
    left = Regime(copy.deepcopy(learner.state_dict()), experience.exchange())
    known = [(_error_under(regime, learner, fresh), i) for i, regime in enumerate(regimes)]
    # Where a wrong model led is new to the right one as well, so it need not be as good as usual there.
    if known and min(known)[0] < FITS * error:
        found = regimes.pop(min(known)[1])
        learner.load_state_dict(copy.deepcopy(found.learner))
        experience.exchange(found.experience)
    else:
        # The search for a known regime has left another's weights.
        learner.load_state_dict(copy.deepcopy(left.learner))
    regimes.append(left)
    return True


def _error_under(regime: Regime, learner: Learner, x: Tensor) -> float:
    learner.load_state_dict(copy.deepcopy(regime.learner))
    return float(learner.error(x).median())
