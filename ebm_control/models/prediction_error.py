"""Error of predictions compared with the observed future."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ebm_control.checks import require, require_number, require_seed
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.models.trajectory import TrajectoryModel
from ebm_control.prediction.predict import Prediction, predict
from ebm_control.samplers.chain import Sampler


@dataclass(frozen=True)
class PredictionError:
    """Predictions compared with the observed future, in normalised units.

    Attributes:
        rmse: `(horizon,)` root mean squared error of the mean future, in units of a state's standard deviation.
        rmse_best: `(horizon,)` the same error for the best of the K futures at each step.
        rmse_still: `(horizon,)` the same error for predicting no change at all, as a reference.
        prediction: the predicted futures.
        truth: `(N, horizon, obs_dim)` the observed futures.

    """

    rmse: Tensor
    rmse_best: Tensor
    rmse_still: Tensor
    prediction: Prediction
    truth: Tensor


def prediction_error(
    model: TrajectoryModel,
    buffer: RolloutBuffer,
    horizon: int,
    *,
    windows: int = 256,
    samples: int = 1,
    sampler: Sampler | None = None,
    seed: int = 0,
) -> PredictionError:
    """Predict the futures of windows drawn from `buffer`, given their actions, and measure the error.

    Args:
        model: trained model.
        buffer: episodes that were not used for training.
        horizon: states to predict, `h`; the data must hold windows of `h` more time steps than the history needs.
        windows: number of histories, `N`.
        samples: futures per history, `K`.
        sampler: see `ebm_control.prediction.predict`.
        seed: seed of the windows and the noise.

    Raises:
        InputError: the data hold no window of that length or have other coordinates, or the horizon exceeds the
            window of a model of kind "window" without a base.

    """
    for name, value in (("horizon", horizon), ("windows", windows), ("samples", samples)):
        require_number(name, value, 1, whole=True)
    require_seed("seed", seed)
    _require_fit(model, buffer, horizon)
    x, known = _sampled_windows(model, buffer, horizon, windows, seed)
    settings, layout = model.settings, model.layout
    context = None
    if len(settings.gaps) > 1:
        context = torch.full((windows, 1), math.log2(settings.gaps[0]), dtype=x.dtype)
    prediction = predict(
        model.energy,
        x[:, :known, : layout.dim],
        model.normalizer.layout.actions(x)[:, known - 1 : -1] if layout.act_dim else None,
        horizon=horizon,
        samples=samples,
        sampler=sampler,
        context=context,
        generator=torch.Generator().manual_seed(int(seed)),
    )
    states = layout.states(x)
    unit = model.normalizer.state_std.float()
    # Periodic coordinates have no ordinary mean: average the errors, which do not wrap.
    errors = layout.difference(prediction.states, states[:, None, known:]) / unit
    still = layout.difference(states[:, known - 1 : known], states[:, known:]) / unit
    best = errors.square().mean(dim=-1).amin(dim=1)
    return PredictionError(
        errors.mean(dim=1).square().mean(dim=(0, 2)).sqrt(),
        best.mean(dim=0).sqrt(),
        still.square().mean(dim=(0, 2)).sqrt(),
        prediction,
        states[:, known:],
    )


def _sampled_windows(
    model: TrajectoryModel, buffer: RolloutBuffer, horizon: int, windows: int, seed: int
) -> tuple[Tensor, int]:
    """Normalised windows `(N, history + horizon, D)` of the data, and the length of the history the model needs."""
    settings = model.settings
    history = 1 if settings.kind == "window" else settings.window - 1
    observations, actions = buffer.sample_windows(
        windows, history + horizon, settings.gaps[0], rng=np.random.default_rng(seed)
    )
    x = model.normalizer.normalize(torch.from_numpy(observations), torch.from_numpy(actions)).float()
    return x, history


def _require_fit(model: TrajectoryModel, buffer: RolloutBuffer, horizon: int) -> None:
    """Raise `InputError` if data and model have different coordinates, or the model's window is too short."""
    known, given = model.normalizer.layout, (buffer.obs_dim, buffer.act_dim)
    expected = known.obs_dim, known.act_dim
    require(
        given == expected,
        "buffer",
        given=f"{given} observation and action coordinates",
        expected=f"the model's, {expected}",
    )
    settings = model.settings
    require(
        settings.kind != "window" or settings.base != "none" or horizon < settings.window,
        "horizon",
        given=horizon,
        expected=f"at most {settings.window - 1}, the model's window less its first state",
    )
