"""The methods of the prediction table: energies by objective and kind, and regression baselines.

All are fitted to the same transitions. A regression's network has the size of an energy's tilt; the ensemble's
members together have the size of an energy's base and tilt.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ebm_control.baselines import BaselineSettings, fit_baseline, futures
from ebm_control.data import RolloutBuffer
from ebm_control.data.normalizer import Normalizer
from ebm_control.energies import AtNoise, TrajectoryLayout, TransitionEnergy
from ebm_control.models import ModelSettings, TrainSettings, TrajectoryModel, fit_model
from ebm_control.prediction import predict
from ebm_control.samplers import Sampler

BASE_UPDATES = 4000  # updates of every regression
# Updates of each objective, with about equal times on one core; score matching needs no chains.
UPDATES = {"dsm": 6000, "cd": 1200, "cd-kl": 1000, "infonce": 1500}
WINDOW = 11  # time steps of a window energy, for ten steps at once
AS_LONG = 6
DEARER = {"convolution": 4, "transformer": 6}  # relative cost of an update of a window energy
SMALL, QUICK = (128, 128, 128), 20  # widths of small networks; factor by which quick runs have fewer updates


class Futures(Protocol):
    """Predicts futures of histories, in normalised units."""

    def __call__(
        self,
        history: Tensor,
        actions: Tensor | None,
        *,
        horizon: int,
        samples: int,
        generator: torch.Generator,
        bounds: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Map `(N, h, D)` and `(N, horizon, act_dim)` or None to `(N, samples, horizon, obs_dim)` within bounds."""
        ...


@dataclass(frozen=True)
class Fitted:
    """A method after training."""

    futures: Futures
    layout: TrajectoryLayout
    normalizer: Normalizer
    displacement_scale: Tensor
    seconds: float
    parameters: int
    energy: Callable[[Tensor], Tensor] | None = None  # energy of single transitions `(N, 2, D)`


@dataclass(frozen=True)
class Setting:
    """Settings that differ between datasets.

    Attributes:
        free: whether models see only states, without actions.
        hidden: widths of every network except the ensemble's members.
        members: widths of the ensemble's members.
        frequencies: number of random Fourier features of the state in every network, for dynamics with edges.
        bandwidth: std of the directions of these features.
        noise: lowest and highest noise level.
        rows: time steps of the training windows of a recurrent network.
        longer: factor of the updates of all methods, except those of an energy's base.
        base_updates: updates of an energy's base. A base that overfits the noise of its data leaves residuals that
            are too small, and the tilt learns their distribution.
        learning_rate: learning rate of energies that are trained without chains.

    """

    free: bool = False
    hidden: tuple[int, ...] = (256, 256, 256)
    members: tuple[int, ...] = (128, 128, 128)
    frequencies: int = 0
    bandwidth: float = 2.0
    noise: tuple[float, float] = (0.03, 10.0)
    rows: int = 20
    longer: int = 1
    base_updates: int = BASE_UPDATES
    learning_rate: float = 1e-3


Fit = Callable[[RolloutBuffer, Setting, int, bool], Fitted]


def settings_of(
    objective: str,
    setting: Setting,
    seed: int,
    quick: bool,
    kind: str = "transition",
    network: str = "convolution",
) -> TrainSettings:
    """Settings of the training of an energy."""
    windows: dict[str, Any] = {"kind": kind, "network": network, "window": WINDOW} if kind == "window" else {}
    hidden, updates = setting.hidden, UPDATES[objective]
    if kind == "window":
        hidden, updates = (96,), updates // DEARER[network]
    model = ModelSettings(
        hidden=hidden,
        base_hidden=setting.hidden,
        states_only=setting.free,
        frequencies=setting.frequencies,
        bandwidth=setting.bandwidth,
        **windows,
    )
    return TrainSettings(
        model,
        loss=objective,
        noise=setting.noise,
        updates=updates * setting.longer // (QUICK if quick else 1),
        base_updates=setting.base_updates // (QUICK if quick else 1),
        learning_rate=setting.learning_rate if objective in ("dsm", "infonce") else 3e-4,
        seed=seed,
    )


def energy(objective: str, kind: str = "transition", network: str = "convolution") -> Fit:
    """Fit of an energy with an objective."""

    def fit(data: RolloutBuffer, setting: Setting, seed: int, quick: bool) -> Fitted:
        began = time.perf_counter()
        settings = settings_of(objective, setting, seed, quick, kind, network)
        found = fit_model(data, settings, progress=False)
        return fitted(found, time.perf_counter() - began)

    return fit


def fitted(model: TrajectoryModel, seconds: float) -> Fitted:
    """A trained energy as a method, with the seconds of its training."""
    return Fitted(
        sampled(model),
        model.layout,
        model.normalizer,
        model.energy.displacement_scale,
        seconds,
        sum(parameter.numel() for parameter in model.energy.parameters()),
        transitions(model) if isinstance(model.energy, TransitionEnergy) else None,
    )


def sampled(model: TrajectoryModel, sampler: Sampler | None = None) -> Futures:
    """Futures by sampling the energy of a model, with a sampler or that of `predict`."""

    def run(history: Tensor, actions: Tensor | None, **asked: Any) -> Tensor:
        return predict(model.energy, history, actions, sampler=sampler, **asked).states

    return run


def transitions(model: TrajectoryModel) -> Callable[[Tensor], Tensor]:
    """Energies of single transitions; with noise levels, at the lowest."""
    noise = model.energy.noise
    energy = model.energy if noise is None else AtNoise(model.energy, noise[0])
    return torch.no_grad()(energy)


def regression(kind: str, longer: int = 1) -> Fit:
    """Fit of a regression baseline, with `longer` times its updates."""

    def fit(data: RolloutBuffer, setting: Setting, seed: int, quick: bool) -> Fitted:
        updates = longer * BASE_UPDATES * setting.longer // (QUICK if quick else 1)
        common: dict[str, Any] = {
            "updates": updates,
            "seed": seed,
            "states_only": setting.free,
            "frequencies": setting.frequencies,
            "bandwidth": setting.bandwidth,
        }
        if kind == "feed-forward":
            settings = BaselineSettings(hidden=setting.hidden, **common)
        elif kind == "ensemble of 5":
            settings = BaselineSettings("ensemble", hidden=setting.members, **common)
        else:
            # An update uses three times as many transitions.
            common["updates"] = updates // 2
            settings = BaselineSettings("recurrent", hidden=192, window=setting.rows, **common)
        made = fit_baseline(data, settings, progress=False)
        return Fitted(
            partial(futures, made),
            made.layout,
            made.normalizer,
            made.dynamics.displacement_scale,
            made.training.seconds,
            sum(parameter.numel() for parameter in made.dynamics.parameters()),
        )

    return fit


REGRESSIONS = ("feed-forward", "ensemble of 5", "recurrent")
OBJECTIVES = ("dsm", "cd", "cd-kl", "infonce")


@dataclass(frozen=True)
class Method:
    """A row of the table."""

    name: str
    objective: str
    fit: Fit


METHODS: dict[str, Method] = {
    **{f"EBM, {loss}": Method("EBM, step by step", loss, energy(loss)) for loss in OBJECTIVES},
    "EBM window, convolution": Method("EBM, window, convolution", "dsm", energy("dsm", "window")),
    "EBM window, transformer": Method(
        "EBM, window, transformer", "dsm", energy("dsm", "window", "transformer")
    ),
    **{kind: Method(kind, "regression", regression(kind)) for kind in REGRESSIONS},
    # About as long as the training of an energy's base and tilt.
    "feed-forward, as long": Method(
        f"feed-forward, {AS_LONG} times the updates", "regression", regression("feed-forward", AS_LONG)
    ),
}


def smaller(setting: Setting) -> Setting:
    """The setting with smaller networks for a quick run."""
    return replace(setting, hidden=SMALL[:2], members=(64, 64))
