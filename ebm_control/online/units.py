"""Normalisation for a model with few data, and detection of data that no longer fit it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from ebm_control.data import Normalizer, RolloutBuffer

AGREE = 0.25  # fraction of a uniform variable's std within the bounds that the data's std must reach to use the bounds
WIDER, NARROWER = 3.0, 0.1  # std of all data, in normalised units, above or below which new units are due
FAR = 12.0  # distance in normalised units beyond which new units are considered
ROUNDING = 1e-5


def bounded_normalizer(data: RolloutBuffer, space: Box) -> Normalizer:
    """Normaliser of the data; a coordinate with suitable bounds gets the mean and std of a uniform draw within them.

    Bounds are suitable if all data lie within them and the data's std is at least a quarter of that draw's. Other
    bounds may be nominal: with units for ±1,000, a network could not resolve data within ±1.
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
    """Coordinates `(obs_dim,)` whose units no longer fit the data, and for which new units would fit much better.

    The data's std is much larger or smaller than the unit, or data lie far out. The first data lie close to where
    episodes begin, and a coordinate that was constant then may change later. Rare values that are far out in any unit
    (a flag, a contact) need no new units.
    """
    observations, fresh = torch.from_numpy(data.observations), data.normalizer()
    plain = torch.tensor([p == 0 for p in normalizer.periods] or [True] * observations.shape[1])
    x, again = (units.normalize_observations(observations) for units in (normalizer, fresh))
    std, far = x.std(dim=0, correction=0), x.abs().amax(dim=0)
    beyond = (far > FAR) & (again.abs().amax(dim=0) < far / 2)
    return plain & (std > ROUNDING) & ((std > WIDER) | (std < NARROWER) | beyond)
