"""Units for a model that has hardly seen anything yet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from gymnasium.spaces import Box

from ebm_control.data import Normalizer, RolloutBuffer


def bounded_normalizer(data: RolloutBuffer, space: Box) -> Normalizer:
    """Normaliser of observations that range over the whole space, as far as it has bounds; the rest from the data.

    The first data lie close to where episodes begin; in their units the rest of the world would be far off.
    """
    fitted = data.normalizer()
    low, high = (torch.as_tensor(np.asarray(b, np.float64)) for b in (space.low, space.high))
    plain = torch.tensor([p == 0 for p in fitted.periods] or [True] * len(low))
    bounded = plain & (low.abs() < 1e6) & (high.abs() < 1e6)
    mean = torch.where(bounded, (low + high) / 2, fitted.obs_mean)
    std = torch.where(bounded, (high - low) / 12**0.5, fitted.obs_std)  # of a uniform draw
    return replace(fitted, obs_mean=mean, obs_std=std)
