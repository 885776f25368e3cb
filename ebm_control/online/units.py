"""Units for a model that has hardly seen anything yet, and when it has outgrown them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from ebm_control.data import Normalizer, RolloutBuffer

AGREE = 0.25  # of a uniform draw's deviation within the bounds: below it data do not speak for them
WIDER, NARROWER = 3.0, 0.1  # deviations of all data, in the units they are measured in, that ask for new ones
FAR = 12.0  # normalised units beyond which a reading asks whether others would fit it better
ROUNDING = 1e-5


def bounded_normalizer(data: RolloutBuffer, space: Box) -> Normalizer:
    """Units of the data; of a coordinate whose bounds agree with them, those of a uniform draw within the bounds.

    Bounds agree where all data lie within them and spread over at least a quarter of what they allow. Others may be
    there for form's sake: units of ±1,000 for a world of ±1 leave a network nothing to see.
    """
    fitted = data.normalizer()
    low, high = (torch.as_tensor(np.asarray(b, np.float64)) for b in (space.low, space.high))
    plain = torch.tensor([p == 0 for p in fitted.periods] or [True] * len(low))
    finite = torch.isfinite(low) & torch.isfinite(high) & (low < high)
    width = torch.where(finite, high, 0.0) - torch.where(finite, low, 0.0)
    seen = torch.from_numpy(data.observations)
    slack = 1e-6 * width
    within = (seen.amin(dim=0) >= low - slack) & (seen.amax(dim=0) <= high + slack)
    uniform = width / 12**0.5
    agreed = plain & finite & within & (seen.std(dim=0, correction=0) >= AGREE * uniform)
    mean = torch.where(agreed, (torch.where(finite, low + high, 0.0)) / 2, fitted.obs_mean)
    std = torch.where(agreed, uniform, fitted.obs_std)
    return replace(fitted, obs_mean=mean, obs_std=std)


def outgrown(data: RolloutBuffer, normalizer: Normalizer) -> Tensor:
    """Coordinates `(obs_dim,)` whose units no longer fit the data, and for which new ones would fit far better.

    The data spread far wider than their unit says, or far less, or lie far out; the first data lie close to where
    episodes begin, and what did not move then may move later. What is rare and far out in any unit (a flag, a contact)
    asks for none.
    """
    observations, fresh = torch.from_numpy(data.observations), data.normalizer()
    plain = torch.tensor([p == 0 for p in normalizer.periods] or [True] * observations.shape[1])
    x, again = (units.normalize_observations(observations) for units in (normalizer, fresh))
    std, far = x.std(dim=0, correction=0), x.abs().amax(dim=0)
    beyond = (far > FAR) & (again.abs().amax(dim=0) < far / 2)
    return plain & (std > ROUNDING) & ((std > WIDER) | (std < NARROWER) | beyond)
