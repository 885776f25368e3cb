"""Learners by name: energies, and baselines with the settings of the literature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ebm_control.checks import (
    require,
    require_flag,
    require_number,
    require_seed,
    require_widths,
    shown,
)
from ebm_control.continual.discriminant import Discriminant
from ebm_control.continual.divergence import Divergence
from ebm_control.continual.generative import ClassEnergies, Generative
from ebm_control.continual.learners import Among, Contrastive, Learner, Softmax
from ebm_control.continual.memory import Memory
from ebm_control.continual.networks import GatedEnergy, Perceptron
from ebm_control.continual.paired import Dreams, Paired
from ebm_control.continual.penalties import Consolidation, Distillation, Intelligence, Penalty
from ebm_control.training.regression import seeded

Shape = tuple[int, int, int]
WEIGHTS, MEMORY, CHOICES, SOURCE, HIDING = range(5)  # purposes of seeds
DREAMS = 200  # generated images per class
SUM_WEIGHT = 0.1  # weight of the generative energies, chosen on held-out training images of MNIST


@dataclass(frozen=True)
class LearnerSettings:
    """Settings of a learner, and the stream it is built for.

    Attributes:
        shape: shape (C, H, W) of an image.
        classes: number of classes of the stream.
        width: units of the hidden layers.
        memory_size: images that are stored and replayed; 0 for none.
        boundaries: whether the learner is notified when a task ends; if not, `learn` is given an overlap.
        learning_rate: learning rate of Adam; None for the default of the method.
        dropout: share of pixels set to 0 in training (discriminative learners only).
        averaging: decay of the averaged weights used for prediction (discriminative learners only); 0 for none.
        penalty: weight of the penalty of EWC (λ) or SI (c); None for the value of the literature.
        seed: seed of weights, memory and noise.

    Raises:
        InputError: a value is out of range.

    """

    shape: Shape
    classes: int
    width: int = 400
    memory_size: int = 0
    boundaries: bool = True
    learning_rate: float | None = None
    dropout: float = 0.0
    averaging: float = 0.0
    penalty: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_widths("shape", self.shape, least=3)
        require_number("classes", self.classes, 2, whole=True)
        require_number("width", self.width, 1, whole=True)
        require_number("memory_size", self.memory_size, 0, whole=True)
        require_flag("boundaries", self.boundaries)
        if self.learning_rate is not None:
            require_number("learning_rate", self.learning_rate, 0, above=True)
        for name in ("dropout", "averaging"):
            require_number(name, getattr(self, name), 0, 1, below=True)
        if self.penalty is not None:
            require_number("penalty", self.penalty, 0)
        require_seed("seed", self.seed)

    def rate(self, usual: float) -> float:
        """The learning rate if it is set, else `usual`, the method's default."""
        return usual if self.learning_rate is None else self.learning_rate

    def penalty_weight(self, usual: float) -> float:
        """The weight of the penalty if it is set, else `usual`, the method's default."""
        return usual if self.penalty is None else self.penalty

    def seed_of(self, purpose: int) -> int:
        """Seed of the generator for one purpose; each purpose has its own, so that their draws are independent."""
        return int(np.random.SeedSequence([self.seed, purpose]).generate_state(1)[0])

    def memory(self) -> Memory | None:
        """A new, empty memory of `memory_size` images, or None for 0."""
        return Memory(self.memory_size, self.seed_of(MEMORY)) if self.memory_size else None


def _softmax(settings: LearnerSettings, among: Among, penalty: Penalty | None = None) -> Learner:
    """A classifier trained by cross-entropy with Adam at 1e-3 (van de Ven & Tolias 2019)."""
    with seeded(settings.seed_of(WEIGHTS)):
        network = Perceptron(settings.shape, settings.classes, settings.width)
    return Softmax(
        network,
        settings.classes,
        learning_rate=settings.rate(1e-3),
        among=among,
        penalties=() if penalty is None else (penalty,),
        memory=settings.memory(),
        dropout=settings.dropout,
        averaging=settings.averaging,
        seed=settings.seed_of(HIDING),
    )


def _contrastive(settings: LearnerSettings, memory: Memory | None = None) -> Learner:
    """The discriminative energy: one hidden layer with boundaries, two without, Adam at 1e-4 (Li et al. 2022).

    With a memory Adam is at 1e-3, as for the classifiers: replay makes the low rate unnecessary.
    """
    with seeded(settings.seed_of(WEIGHTS)):
        energy = GatedEnergy(
            settings.shape, settings.classes, settings.width, layers=2 if not settings.boundaries else 1
        )
    memory = settings.memory() if memory is None else memory
    rate = settings.rate(1e-4 if memory is None else 1e-3)
    return Contrastive(
        energy,
        learning_rate=rate,
        memory=memory,
        dropout=settings.dropout,
        averaging=settings.averaging,
        seed=settings.seed_of(CHOICES),
    )


def _divergence(settings: LearnerSettings, shared: bool = False) -> Learner:
    """Contrastive divergence with one shared network (Du & Mordatch 2019) or one per class.

    Energies of classes are compared, so they are kept near 0 by a larger weight than if they were only sampled.
    """
    with seeded(settings.seed_of(WEIGHTS)):
        energy: GatedEnergy | ClassEnergies = (
            GatedEnergy(settings.shape, settings.classes, settings.width, layers=2)
            if shared
            else ClassEnergies(settings.shape, settings.classes, _narrow(settings), noise=None)
        )
    return Divergence(
        energy, learning_rate=settings.rate(1e-3), energy_l2=1.0, seed=settings.seed_of(CHOICES)
    )


def _dreaming(settings: LearnerSettings) -> Learner:
    """The discriminative energy with replay of samples of the generative energies."""
    source = _generative(settings)
    return Paired(_contrastive(settings, Dreams(source, DREAMS, settings.seed_of(MEMORY))), source)


def _summed(settings: LearnerSettings) -> Learner:
    """The weighted sum of discriminative and generative energies."""
    return Paired(_contrastive(settings), _generative(settings), SUM_WEIGHT)


def _generative(settings: LearnerSettings) -> Generative:
    """One energy per class, each with a narrow network, without replay."""
    return Generative(
        settings.shape,
        settings.classes,
        width=_narrow(settings),
        learning_rate=settings.rate(1e-3),
        seed=settings.seed_of(SOURCE),
    )


def _narrow(settings: LearnerSettings) -> int:
    """Width of each per-class network: ten of them have about as many weights as one shared network."""
    return max(4, settings.width * 2 // 25)


@dataclass(frozen=True)
class Method:
    """A method of continual learning.

    Attributes:
        make: builds the learner from its settings.
        uses: names of the settings in `UNUSED` that it does use; the others must keep their defaults.
        needs_boundaries: whether the learner must be notified when a task ends.

    """

    make: Callable[[LearnerSettings], Learner]
    uses: tuple[str, ...] = ("learning_rate",)
    needs_boundaries: bool = False


_DISCRIMINATIVE = ("learning_rate", "dropout", "averaging")
_REPLAYING = (*_DISCRIMINATIVE, "memory_size")
_PENALISED = (*_REPLAYING, "penalty")
METHODS: dict[str, Method] = {
    "ebm": Method(_contrastive, _REPLAYING),
    "generative": Method(_generative),
    "generative-cd": Method(_divergence),
    "generative-cd-shared": Method(lambda settings: _divergence(settings, shared=True)),
    "generative-replay": Method(_dreaming, _DISCRIMINATIVE, needs_boundaries=True),
    "summed": Method(_summed, _REPLAYING),
    "slda": Method(lambda settings: Discriminant(settings.shape, settings.classes), ()),
    "softmax": Method(lambda settings: _softmax(settings, "all"), _REPLAYING),
    "softmax-seen": Method(lambda settings: _softmax(settings, "seen"), _REPLAYING),
    "softmax-batch": Method(lambda settings: _softmax(settings, "batch"), _REPLAYING),
    "ewc": Method(
        lambda settings: _softmax(settings, "seen", Consolidation(settings.penalty_weight(5000.0))),
        _PENALISED,
        needs_boundaries=True,
    ),
    "online-ewc": Method(
        lambda settings: _softmax(
            settings, "seen", Consolidation(settings.penalty_weight(5000.0), decay=1.0)
        ),
        _PENALISED,
        needs_boundaries=True,
    ),
    "si": Method(
        lambda settings: _softmax(settings, "seen", Intelligence(settings.penalty_weight(0.1))),
        _PENALISED,
        needs_boundaries=True,
    ),
    "lwf": Method(
        lambda settings: _softmax(settings, "seen", Distillation()), _DISCRIMINATIVE, needs_boundaries=True
    ),
    "lwf-mean": Method(
        lambda settings: _softmax(settings, "seen", Distillation(over_classes="mean")),
        _DISCRIMINATIVE,
        needs_boundaries=True,
    ),
}
NEED_BOUNDARIES = tuple(name for name, method in METHODS.items() if method.needs_boundaries)
# Settings that some methods do not use: the default that they must keep there, and why.
UNUSED: dict[str, tuple[int | None, str]] = {
    "memory_size": (0, "keeps no images"),
    "dropout": (0, "hides no pixels"),
    "averaging": (0, "classifies with its last weights"),
    "learning_rate": (None, "has none"),
    "penalty": (None, "has none to weigh"),
}


def make_learner(method: str, settings: LearnerSettings) -> Learner:
    """Build a learner by its name.

    Args:
        method: energies: "ebm" (discriminative), "generative" (one per class by score matching), "generative-cd" (by
            contrastive divergence), "generative-cd-shared" (one network for all classes), "generative-replay" ("ebm"
            with replay of samples of "generative"), "summed" (weighted sum of both). Baselines: "slda" (one Gaussian
            per class), "softmax" (over all classes of the stream), "softmax-seen" (over classes so far; with a memory,
            experience replay), "softmax-batch" (over classes of the batch), "ewc", "online-ewc", "si", "lwf"
            ("lwf-mean": see `Distillation`).
        settings: settings of the learner.

    Raises:
        InputError: an unknown method, one that needs boundaries without them, or a setting that it does not use.

    """
    known = isinstance(method, str) and method in METHODS
    require(known, "method", given=shown(method), expected=f"one of {tuple(METHODS)}")
    chosen = METHODS[method]
    fits = settings.boundaries or not chosen.needs_boundaries
    require(fits, "method", given=method, expected="one that does not need boundaries of tasks")
    for name, (default, why) in UNUSED.items():
        given = getattr(settings, name)
        fits = name in chosen.uses or given == default
        require(fits, name, given=given, expected=f"{default}: {method!r} {why}")
    return chosen.make(settings)
