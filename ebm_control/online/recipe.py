"""Learners by name, with settings that work for an energy and for the baselines, and environments by id."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium as gym

from ebm_control.checks import InputError, require, shown
from ebm_control.data.environments import EnvLike
from ebm_control.models import ModelSettings, TrainSettings
from ebm_control.online.learner import BaselineLearner, EnergyLearner, Learner
from ebm_control.online.settings import OnlineSettings

ROUND = 200  # regression updates per round of training, for all models
KINDS = ("energy", "feed-forward", "ensemble")


def make_learner(kind: str, transitions: int, seed: int = 0) -> Learner:
    """Build an untrained model: an energy, a feed-forward network or an ensemble of five.

    Args:
        kind: "energy", "feed-forward" or "ensemble".
        transitions: largest number of transitions there will ever be.
        seed: seed of weights, batches and noise.

    Raises:
        InputError: the kind does not exist.

    """
    require(kind in KINDS, "kind", given=shown(kind), expected=f"one of {KINDS}")
    if kind == "energy":
        settings = TrainSettings(ModelSettings(hidden=(128, 128)), updates=30, base_updates=ROUND, seed=seed)
        return EnergyLearner(settings, transitions)
    if kind == "feed-forward":
        return BaselineLearner(1, (256, 256), ROUND, seed=seed)
    return BaselineLearner(5, (128, 128), ROUND, seed=seed)


def as_learner(learner: Learner | str, settings: OnlineSettings) -> Learner:
    """A `Learner` unchanged; for a name, a new learner with capacity for every transition of the run."""
    if not isinstance(learner, str):
        return learner
    return make_learner(learner, settings.steps + settings.environments, settings.seed)


def env_with(env: EnvLike, options: Mapping[str, Any] | None) -> EnvLike:
    """A function that builds the environment with this id and `options`; without options, `env` unchanged.

    Raises:
        InputError: there are options, and `env` is not an id.

    """
    if not options:
        return env
    if not isinstance(env, str):
        raise InputError(f"env_kwargs: expected None, as env is no id, got {dict(options)}")
    return partial(_make, env, dict(options))


def _make(name: str, options: dict[str, Any]) -> gym.Env[Any, Any]:
    try:
        return gym.make(name, **options)
    except Exception as error:  # the environment's own code may raise anything
        reason = " ".join(str(error).split())
        raise InputError(
            f"env: expected an environment that can be made with {options}, got {name!r} "
            f"({type(error).__name__}: {reason})"
        ) from error
