"""Arguments out of their range are refused, by name, before any work is done."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from ebm_control.baselines import BaselineSettings
from ebm_control.checks import InputError
from ebm_control.continual.discriminant import Discriminant
from ebm_control.continual.divergence import Divergence
from ebm_control.continual.generative import Generative
from ebm_control.continual.learners import Contrastive, Softmax
from ebm_control.continual.memory import Memory
from ebm_control.continual.networks import GatedEnergy, Perceptron
from ebm_control.continual.penalties import Consolidation, Distillation, Intelligence
from ebm_control.control import planner_for
from ebm_control.energies import GoalCost, ImageEnergy, SmallCNN, TransitionEnergy
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.images import (
    denoise,
    fit_classifier,
    generate,
    inpaint,
    refined_logits,
    robustness,
    salt_and_pepper,
)
from ebm_control.models import fit_reward
from ebm_control.planning import Planner
from ebm_control.prediction import predict
from ebm_control.samplers import Langevin, image_sampler, noise_levels
from ebm_control.samplers import trajectory_sampler as future_sampler
from ebm_control.training import Logger, SampleBuffer, Trainer, gaussian, uniform
from tests.training.helpers import TiltedGaussian, linear_buffer

SHAPE = (1, 8, 8)
LAYOUT = TrajectoryLayout(2, 1)
ENERGY = TransitionEnergy(LAYOUT)
BUFFER = linear_buffer(3, 30)
IMAGES = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def images(**given: Any) -> ImageEnergy:
    return ImageEnergy(
        SmallCNN(SHAPE, given.get("classes") or 1, 4, condition_dim=int("noise" in given)), SHAPE, **given
    )


def plan(**given: Any) -> Planner:
    needed = {"sampler": Langevin(2, 0.1), "horizon": 3, "costs": GoalCost(LAYOUT, [0, 1]), "layout": LAYOUT}
    return Planner(ENERGY, **needed | given)


def trainer(**given: Any) -> Trainer:
    return Trainer(TiltedGaussian(), Langevin(1, 0.1), SampleBuffer(4, (2,), gaussian()), **given)


NOISY = {"noise": (0.02, 4.0)}
COUNT, SHARE, POSITIVE, AT_LEAST_0, SEED = (
    (0, -1, 2.5, math.nan, math.inf, True, "2", None),
    (-0.1, 1.1, math.nan, "a"),
    (0.0, -1.0, math.nan, math.inf, "a"),
    (-1.0, math.nan, math.inf, "a"),
    (-1, 0.5, math.nan, True, 2**64),
)
CALLS: list[tuple[Callable[..., object], str, tuple[object, ...]]] = [
    *[
        (partial(BaselineSettings, kind), name, values)
        for kind in ("feed-forward", "ensemble", "recurrent")
        for name, values in {
            "updates": COUNT[:-1], "batch_size": COUNT[:-1], "learning_rate": POSITIVE,
            "held_out": (0.0, 1.0, -1.0, math.nan), "bandwidth": POSITIVE,
            "seed": SEED, "frequencies": (-1, 0.5, math.nan), "states_only": ("no", 1),
        }.items()
    ],
    (BaselineSettings, "hidden", ((), (0,), (8.0,), 8, (math.nan,))),
    (partial(BaselineSettings, "ensemble"), "members", COUNT),
    (partial(BaselineSettings, "recurrent"), "hidden", COUNT[:-1]),
    (partial(BaselineSettings, "recurrent"), "window", (1, 2.5)),
    (BaselineSettings, "kind", ("linear", None, 3)),
    (plan, "weight", AT_LEAST_0),
    (plan, "spread", (-1.0, math.nan, math.inf, torch.tensor([1.0, math.nan, 1.0]))),
    (plan, "horizon", COUNT),
    (plan, "chains", COUNT),
    (plan, "restarts", SHARE),
    (plan, "goal_index", ((2,), (-1,), (0, 0), (0, 7))),
    (plan, "fix_goal", ("no", 1)),
    (plan, "context", (torch.tensor([math.nan]),)),
    (lambda weight: planner_for(None, GoalCost(LAYOUT, [0]), weight=weight), "weight", AT_LEAST_0),  # type: ignore[arg-type]
    (lambda horizon: predict(ENERGY, torch.zeros(1, 1, 3), horizon=horizon), "horizon", COUNT),
    (lambda samples: predict(ENERGY, torch.zeros(1, 1, 3), horizon=1, samples=samples), "samples", COUNT),
    (
        lambda bounds: predict(ENERGY, torch.zeros(1, 1, 3), horizon=1, bounds=bounds), "bounds",
        ((torch.tensor([0.0, math.nan]), torch.ones(2)), (torch.ones(2), torch.zeros(2))),
    ),
    (lambda steps: future_sampler(ENERGY, steps), "steps", (-1, 2.5, math.nan)),
    (lambda temperature: future_sampler(ENERGY, temperature=temperature), "temperature", AT_LEAST_0),
    (lambda low: noise_levels(low, 1.0), "low", (0.0, 1.0, 2.0, math.nan)),
    (lambda count: noise_levels(0.1, 1.0, count), "count", (1, 2.5)),
    (trainer, "gradient_clip", (0.0, -1.0, math.nan)),
    (trainer, "ema", (-1.0, 1.0, math.nan)),
    (trainer, "checkpoint_every", COUNT),
    (trainer, "seed", SEED),
    (lambda steps: trainer().fit(iter([]), steps), "steps", (-1, 2.5, math.nan)),
    (lambda every: Logger(every=every), "every", COUNT),
    (lambda capacity: SampleBuffer(capacity, (2,), gaussian()), "capacity", COUNT),
    (lambda fresh_fraction: SampleBuffer(1, (2,), gaussian(), fresh_fraction=fresh_fraction), "fresh_fraction", SHARE),
    (lambda std: gaussian(0.0, std), "std", AT_LEAST_0),
    (lambda high: uniform(0.0, high), "high", (-1.0, math.nan, math.inf)),
    (lambda batch_size: fit_reward(None, BUFFER, None, batch_size=batch_size), "batch_size", COUNT),  # type: ignore[arg-type]
    (lambda count: generate(images(), count), "count", COUNT),
    (lambda corrections: image_sampler(images(**NOISY), corrections=corrections), "corrections", (-1, 0.5)),
    (lambda steps: image_sampler(images(**NOISY), steps), "steps", (1, 2.5, math.nan)),
    (lambda low: image_sampler(images(**NOISY), low=low), "low", (0.0, 5.0, math.nan)),
    (lambda std: denoise(images(**NOISY), IMAGES, std), "std", (0.0, 0.01, 5.0, math.nan)),
    (lambda fills: inpaint(images(), IMAGES, IMAGES > 0, fills=fills), "fills", COUNT),
    (lambda fraction: salt_and_pepper(IMAGES, torch.Generator(), fraction=fraction), "fraction", (-0.1, 0.6, math.nan)),
    (lambda radii: robustness(len, IMAGES, torch.zeros(2), radii), "radii", ((-0.1,), (math.nan,))),  # type: ignore[arg-type]
    (lambda radius: refined_logits(images(classes=2), radius), "radius", POSITIVE),
    (lambda step_size: refined_logits(images(classes=2), 0.1, step_size=step_size), "step_size", (0.0, math.nan)),
    *[
        (lambda _name=name, **given: fit_classifier(None, **given), name, values)  # type: ignore[arg-type,misc]
        for name, values in {
            "width": COUNT, "updates": COUNT, "batch_size": COUNT, "learning_rate": POSITIVE, "noise": AT_LEAST_0,
            "seed": SEED,
        }.items()
    ],
    *[
        (make, name, values)
        for make in (
            lambda **given: Softmax(Perceptron(SHAPE, 2, 4), 2, **given),
            lambda **given: Contrastive(GatedEnergy(SHAPE, 2, 4), **given),
        )
        for name, values in {
            "learning_rate": POSITIVE, "dropout": (-0.1, 1.0, math.nan), "averaging": (-0.1, 1.0, math.nan),
            "seed": SEED,
        }.items()
    ],
    *[
        (lambda **given: Divergence(GatedEnergy(SHAPE, 2, 4), **given), name, values)
        for name, values in {
            "learning_rate": POSITIVE, "steps": COUNT, "chains": COUNT, "energy_l2": AT_LEAST_0,
            "data_noise": AT_LEAST_0, "seed": SEED,
        }.items()
    ],
    *[
        (lambda **given: Generative(SHAPE, 2, **given), name, values)
        for name, values in {
            "width": COUNT, "learning_rate": POSITIVE, "levels": COUNT, "seed": SEED,
            "noise": ((1.0, 0.1), (math.nan, 1.0)),
        }.items()
    ],
    (lambda shrinkage: Discriminant(SHAPE, 2, shrinkage), "shrinkage", (0.0, 1.1, math.nan)),
    (Memory, "capacity", COUNT),
    (Consolidation, "weight", AT_LEAST_0),
    (Consolidation, "decay", SHARE),
    (Consolidation, "samples", COUNT),
    (Intelligence, "damping", POSITIVE),
    (Distillation, "temperature", POSITIVE),
]  # fmt: skip


def with_data(make: Callable[..., object]) -> Callable[..., object]:
    return lambda **given: (
        make(BUFFER, **given) if "buffer" in inspect.signature(make).parameters else make(**given)
    )


@pytest.mark.parametrize(
    ("make", "name", "values"),
    CALLS,
    ids=[f"{n}-{getattr(make, '__name__', make)}-{name}" for n, (make, name, _) in enumerate(CALLS)],
)
def test_arguments_out_of_range_are_refused_and_named(
    make: Callable[..., object], name: str, values: tuple[object, ...]
) -> None:
    for value in values:
        with pytest.raises(InputError, match=rf"^{name}: expected ") as error:
            with_data(make)(**{name: value})
        assert "\n" not in str(error.value)
