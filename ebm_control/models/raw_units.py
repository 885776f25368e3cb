"""Conversion of histories and predictions between the environment's units and normalised ones."""

from __future__ import annotations

from dataclasses import replace

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import require, require_number, require_shape
from ebm_control.data.normalizer import Normalizer
from ebm_control.prediction.predict import Prediction
from ebm_control.tensors import as_tensor


def raw_history(
    normalizer: Normalizer,
    observations: Tensor | ArrayLike,
    actions: Tensor | ArrayLike | None,
    horizon: int,
    *,
    states_only: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Normalised history `(N, h, D)` and future actions `(N, horizon, act_dim)`, or None without actions.

    Args:
        normalizer: normaliser of the model.
        observations: in the environment's units, `(N, obs_dim)` or `(N, h, obs_dim)`.
        actions: in the environment's units, `(N, h - 1 + horizon, act_dim)`, or None.
        horizon: states to predict.
        states_only: whether the model ignores actions, so that a longer history needs none.

    Raises:
        InputError: a shape does not fit, or a history of several states lacks its actions.

    """
    require_number("horizon", horizon, 1, whole=True)
    layout = normalizer.layout
    seen = as_tensor("observations", observations, torch.float64, "cpu")
    seen = seen[:, None] if seen.ndim == 2 else seen
    require_shape("observations", seen, (None, None, layout.obs_dim))
    count, length = seen.shape[:2]
    acted = None if actions is None else as_tensor("actions", actions, torch.float64, "cpu")
    if acted is None:
        expected = f"those of the history too, shape {(count, length - 1 + horizon, layout.act_dim)}"
        require(length <= 1 or states_only or layout.act_dim == 0, "actions", given=None, expected=expected)
        acted = normalizer.act_mean.to(seen).expand(count, length, -1)
        return normalizer.normalize(seen, acted).float(), None
    require_shape("actions", acted, (count, length - 1 + horizon, layout.act_dim))
    # The action at the last observation is the first future action.
    history = normalizer.normalize(seen, acted[:, :length]).float()
    return history, normalizer.normalize_actions(acted[:, length - 1 :]).float()


def in_raw_units(normalizer: Normalizer, prediction: Prediction) -> Prediction:
    """The prediction converted from normalised to the environment's units."""
    states = normalizer.denormalize_observations(prediction.states)
    acts = prediction.actions.shape[-1] > 0
    actions = normalizer.denormalize_actions(prediction.actions) if acts else prediction.actions
    return replace(prediction, states=states, actions=actions)
