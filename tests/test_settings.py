"""Every field of every settings class: what is out of its range is refused, in words, when it is made."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch

from ebm_control.baselines import BaselineSettings
from ebm_control.checks import InputError
from ebm_control.continual.methods import LearnerSettings
from ebm_control.images import Attack, AutoencoderSettings
from ebm_control.models import ImageModelSettings, ImageTrainSettings, ModelSettings, TrainSettings
from ebm_control.online import OnlineSettings
from ebm_control.samplers import (
    CEM,
    HMC,
    MALA,
    MPPI,
    Annealed,
    Cosine,
    Geometric,
    Langevin,
    Linear,
    ProbabilityFlow,
)
from ebm_control.training import Classified, ContrastiveDivergence, Guard, InfoNCE, LogSumExp, Softplus
from ebm_control.training.objectives.kl import ImprovedContrastiveDivergence
from ebm_control.training.objectives.score_matching import DenoisingScoreMatching

# What each class needs beside the field that is tried.
CLASSES: dict[type, dict[str, Any]] = {
    TrainSettings: {},
    ModelSettings: {},
    ImageTrainSettings: {},
    ImageModelSettings: {},
    AutoencoderSettings: {},
    BaselineSettings: {"hidden": (8,), "updates": 10, "batch_size": 10},
    OnlineSettings: {"memory": 100, "change": 4.0},
    LearnerSettings: {"shape": (1, 8, 8), "classes": 4, "learning_rate": 0.1, "penalty": 1.0},
    Guard: {},
    Langevin: {"noise": 0.1, "friction": 1.0, "gradient_clip": 1.0, "delta_clip": 1.0},
    MALA: {},
    HMC: {},
    MPPI: {},
    CEM: {},
    Annealed: {"levels": (1.0, 0.1)},
    ProbabilityFlow: {"levels": (1.0, 0.1)},
    Attack: {"radius": 0.1},
    Linear: {"start": 1.0, "end": 2.0},
    Cosine: {"start": 1.0, "end": 2.0},
    Geometric: {"start": 1.0, "end": 2.0},
    ContrastiveDivergence: {},
    Softplus: {},
    LogSumExp: {},
    InfoNCE: {},
    ImprovedContrastiveDivergence: {},
    DenoisingScoreMatching: {},
    Classified: {"objective": ContrastiveDivergence()},
}
# Legal by the docstring, though few would want it.
ZERO = {
    (TrainSettings, "base_updates"), (TrainSettings, "energy_l2"), (TrainSettings, "random_negatives"),
    (TrainSettings, "fresh_fraction"), (TrainSettings, "ema"), (TrainSettings, "seed"),
    (ModelSettings, "frequencies"), (BaselineSettings, "frequencies"), (BaselineSettings, "seed"),
    (ImageTrainSettings, "data_noise"), (ImageTrainSettings, "energy_l2"), (ImageTrainSettings, "fresh_fraction"),
    (ImageTrainSettings, "unlabelled"), (ImageTrainSettings, "classify"), (ImageTrainSettings, "ema"),
    (ImageTrainSettings, "seed"),
    (AutoencoderSettings, "beta"), (AutoencoderSettings, "seed"),
    (OnlineSettings, "growth"), (OnlineSettings, "tolerance"), (OnlineSettings, "noise"), (OnlineSettings, "seed"),
    (LearnerSettings, "memory_size"), (LearnerSettings, "dropout"), (LearnerSettings, "averaging"),
    (LearnerSettings, "penalty"),
    (LearnerSettings, "seed"),
    (Guard, "max_rollbacks"),
    (Langevin, "steps"), (Langevin, "noise"), (Langevin, "temperature"),
    (MALA, "steps"), (HMC, "steps"), (MPPI, "steps"), (CEM, "steps"), (CEM, "smoothing"),
    (MPPI, "adapt"), (MPPI, "colour"), (CEM, "colour"),
    (Annealed, "steps"), (Annealed, "temperature"), (ProbabilityFlow, "eta"),
    (Linear, "start"), (Linear, "end"), (Cosine, "start"), (Cosine, "end"),
    (ContrastiveDivergence, "energy_l2"), (Softplus, "energy_l2"), (LogSumExp, "energy_l2"),
    (InfoNCE, "energy_l2"), (InfoNCE, "proposals"),
    (ImprovedContrastiveDivergence, "energy_l2"), (ImprovedContrastiveDivergence, "kl"),
    (ImprovedContrastiveDivergence, "entropy"),
    (Classified, "weight"),
}  # fmt: skip
INFINITE = {(Guard, "max_energy"), (Guard, "max_gap"), (Guard, "max_gradient_norm")}
NEGATIVE = {(Linear, "start"), (Linear, "end"), (Cosine, "start"), (Cosine, "end")}


def numeric() -> list[tuple[type, str]]:
    """Every field whose value is a number, by what it is by default or is given above."""
    found = []
    for kind, given in CLASSES.items():
        made = kind(**given)
        assert is_dataclass(made)
        for field in fields(made):
            value = getattr(made, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.append((kind, field.name))
    return found


def flags() -> list[tuple[type, str]]:
    return [
        (kind, field.name)
        for kind, given in CLASSES.items()
        for field in fields(kind(**given))
        if isinstance(getattr(kind(**given), field.name), bool)
    ]


def named(pair: object) -> str:
    # Without addresses: names of tests are the same in every process.
    return pair.__name__ if isinstance(pair, type) else re.sub(r" at 0x[0-9a-f]+", "", str(pair))


def refused(kind: type, name: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"^{name}: expected .*, got ") as error:
        kind(**CLASSES[kind] | {name: value})
    assert "\n" not in str(error.value)


def test_there_is_much_to_check() -> None:
    assert len(numeric()) > 100


@pytest.mark.parametrize(("kind", "name"), numeric(), ids=named)
def test_numbers_out_of_range_are_refused_and_named(kind: type, name: str) -> None:
    value = getattr(kind(**CLASSES[kind]), name)
    wrong: list[object] = [math.nan, -math.inf, True, np.float32("nan"), "a string", [1.0], 1 + 2j]
    wrong += [] if (kind, name) in INFINITE else [math.inf]
    wrong += [] if (kind, name) in NEGATIVE else [-1, -1e-9]
    wrong += [] if (kind, name) in ZERO else [0]
    wrong += [2.5, float(value)] if isinstance(value, int) and name != "scale" and kind is not Linear else []
    for given in wrong:
        refused(kind, name, given)


@pytest.mark.parametrize(("kind", "name"), sorted(ZERO | INFINITE, key=str), ids=named)
def test_what_the_docstring_allows_is_taken(kind: type, name: str) -> None:
    value = 0 if (kind, name) in ZERO else math.inf
    assert getattr(kind(**CLASSES[kind] | {name: value}), name) == value


@pytest.mark.parametrize(("kind", "name"), flags(), ids=named)
def test_flags_are_true_or_false(kind: type, name: str) -> None:
    for given in ("no", 1, None, 0.0):
        refused(kind, name, given)


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (TrainSettings, "ema", (1.0, 1.5)),
        (TrainSettings, "held_out", (1.0, 0.0)),
        (TrainSettings, "fresh_fraction", (1.1,)),
        (
            TrainSettings,
            "noise",
            ((1.0, 0.1), (0.1,), (0.0, 1.0), (0.1, math.nan), (0.1, math.inf), 0.1, "ab"),
        ),
        (TrainSettings, "model", ("transition", None, {})),
        (TrainSettings, "seed", (2**64,)),
        (ModelSettings, "hidden", ((0,), (16, -1), (16.0,), (math.nan,), 16, "16", (True,))),
        (ModelSettings, "base_hidden", ((0,), (16, 0), 16, None)),
        (ModelSettings, "gaps", ((), (0,), (1, 2.0), 1, (math.nan,))),
        (ModelSettings, "window", (1,)),
        (ModelSettings, "noise", ((1.0, 0.1), (0.1, 1.0, 2.0), (math.nan, 1.0))),
        (ImageTrainSettings, "ema", (1.0,)),
        (ImageTrainSettings, "unlabelled", (1.1,)),
        (ImageTrainSettings, "noise", ((4.0, 0.02), (math.nan, 1.0))),
        (ImageTrainSettings, "model", (ModelSettings(), None)),
        (ImageModelSettings, "noise", ((0.1,), (0.1, math.inf))),
        (LearnerSettings, "dropout", (1.0,)),
        (LearnerSettings, "averaging", (1.0,)),
        (LearnerSettings, "shape", ((1, 8), (1, 0, 8), (1, 8.0, 8), 8)),
        (OnlineSettings, "warm_up", (1,)),
        (OnlineSettings, "effort", (0.5,)),
        (OnlineSettings, "change", (0.5,)),
        (OnlineSettings, "memory", (3,)),
        (MPPI, "candidates", (1,)),
        (MPPI, "noise", (Linear(1.0, -1.0),)),
        (CEM, "elites", (1, 500)),
        (CEM, "minimum", (1.1,)),
        (CEM, "smoothing", (1.0,)),
        (Langevin, "step_size", (Linear(0.1, -0.1), lambda done: math.nan)),
        (Langevin, "noise", (Linear(0.1, -0.1),)),
        (Langevin, "temperature", (lambda done: math.inf,)),
        (Annealed, "levels", ((), (0.1, 1.0), (1.0, 1.0), (math.nan,), (math.inf, 1.0), (1.0, 0.0))),
        (ProbabilityFlow, "levels", ((), (0.1, 1.0), (math.nan,))),
        (ProbabilityFlow, "eta", (1.1,)),
        (DenoisingScoreMatching, "low", (10.0, 11.0)),
        (DenoisingScoreMatching, "scale", (torch.tensor([1.0, math.nan]), torch.zeros(2))),
    ],
    ids=named,
)
def test_what_else_is_out_of_range_is_refused_and_named(
    kind: type, name: str, values: tuple[object, ...]
) -> None:
    for given in values:
        refused(kind, name, given)


def test_settings_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(InputError, match=r"^hidden: expected .*got \(\)"):
        ModelSettings(kind="window", window=4, hidden=(), base="none")
    with pytest.raises(InputError, match=r"^hidden: expected a first width that 4 heads share, got \(30,\)"):
        ModelSettings(kind="window", window=4, hidden=(30,), base="none", network="transformer")
    with pytest.raises(InputError, match=r"^batch_size: expected 2 or more, got 1"):
        TrainSettings(loss="cd-kl", batch_size=1)
    with pytest.raises(InputError, match=r"^snapshot_every: expected at least every = 20"):
        Guard(snapshot_every=10)
    with pytest.raises(InputError, match=r"^step_size: expected a number above 0, got 0\.0"):
        Langevin(step_size=Linear(0.1, 0.0), friction=1.0)
    assert Langevin(step_size=Linear(0.1, 0.0)).step_parameters()[-1, 0] == 0


def test_numbers_of_numpy_and_lists_are_kept_as_python_has_them() -> None:
    """Checkpoints keep settings as JSON, which knows no others."""
    model = ModelSettings(hidden=[np.int64(16), 16], frequencies=np.int32(4))  # type: ignore[arg-type]
    made = TrainSettings(model, learning_rate=np.float32(0.5), seed=np.int64(3))  # type: ignore[arg-type]
    assert json.loads(json.dumps(asdict(made)))["seed"] == 3
    assert made == TrainSettings(ModelSettings(hidden=(16, 16), frequencies=4), learning_rate=0.5, seed=3)
    assert hash(made) == hash(
        TrainSettings(ModelSettings(hidden=(16, 16), frequencies=4), learning_rate=0.5, seed=3)
    )
