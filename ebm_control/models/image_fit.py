"""The whole recipe for images: a set in, an image model out, by the trainer and samplers that trajectories have."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import torch

from ebm_control.checks import require, require_number
from ebm_control.data.images import ImageBatches, ImageSet
from ebm_control.energies.image import ImageEnergy
from ebm_control.models.common import EnergyTrainSettings, fit_in_folder
from ebm_control.models.image import ImageModel, ImageModelSettings
from ebm_control.samplers.recipes import cold_langevin
from ebm_control.training.guard import Guard
from ebm_control.training.objectives import Classified, objective
from ebm_control.training.regression import seeded
from ebm_control.training.run_folder import LearnedFrom
from ebm_control.training.sample_buffer import SampleBuffer, uniform
from ebm_control.training.trainer import Trainer

ImageLoss = Literal["cd", "cd-kl", "dsm"]
IMAGE_LOSSES: tuple[ImageLoss, ...] = get_args(ImageLoss)


@dataclass(frozen=True)
class ImageTrainSettings(EnergyTrainSettings):
    """How an image energy is trained; what `EnergyTrainSettings` has besides goes for all energies.

    Args:
        model: what is trained.
        loss: "dsm": denoising score matching over noise levels, sampled by annealed Langevin dynamics; "cd":
            contrastive divergence with persistent chains (Du & Mordatch 2019); "cd-kl": with the KL term that it leaves
            out (Du et al. 2021).
        updates: of the energy.
        batch_size: images an update.
        learning_rate: of Adam, falling to a thirtieth along a cosine; None for 2e-3 ("dsm" with "unet"), 1e-3 ("dsm"
            with another network) or 1e-4.
        noise: least and greatest noise level in units of a pixel's range ("dsm"): finer than a grey tone that is seen,
            and wider than pixels are apart.
        data_noise: deviation of noise on the data ("cd", "cd-kl").
        chains: kept in the sample buffer.
        unlabelled: share of images that teach a conditional energy without their class.
        classify: weight of the cross-entropy of classes by a conditional energy, `p(y | x)`. A classifier needs it; for
            samples of classes leave it 0, as it takes what the network has from the score.

    """

    model: ImageModelSettings = field(default_factory=ImageModelSettings)
    loss: ImageLoss = "dsm"
    updates: int = 3000
    batch_size: int = 128
    learning_rate: float | None = None
    noise: tuple[float, float] = (0.02, 4.0)
    data_noise: float = 0.03
    chains: int = 8192
    unlabelled: float = 0.5
    classify: float = 0.0

    def __post_init__(self) -> None:
        made = isinstance(self.model, ImageModelSettings)
        require(made, "model", given=repr(self.model), expected="an ImageModelSettings")
        self._check_numbers()
        require(self.loss in IMAGE_LOSSES, "loss", given=self.loss, expected=f"one of {IMAGE_LOSSES}")
        if self.loss == "dsm":
            # The objective says what energy it takes: one that knows of noise levels.
            object.__setattr__(self, "model", replace(self.model, noise=self.noise))
        if self.classify and self.model.network == "auto":
            # What tells classes apart need not draw them.
            object.__setattr__(self, "model", replace(self.model, network="small"))
        object.__setattr__(self, "model", self.model.resolved())
        require(
            bool(self.model.noise) == (self.loss == "dsm"),
            "model.noise",
            given=f"{self.model.noise} with loss {self.loss!r}",
            expected="noise levels with 'dsm' alone",
        )
        require(
            self.classify == 0 or self.model.conditional,
            "classify",
            given=f"{self.classify}, conditional={self.model.conditional}",
            expected="0, or more with a conditional energy",
        )

    def _check_numbers(self) -> None:
        self.check(self.loss, self.updates, self.batch_size, self.noise)
        require_number("chains", self.chains, 1, whole=True)
        for name in ("data_noise", "classify"):
            require_number(name, getattr(self, name), 0)
        require_number("unlabelled", self.unlabelled, 0, 1)
        if self.learning_rate is not None:
            require_number("learning_rate", self.learning_rate, 0, above=True)


def fit_images(
    data: ImageSet,
    settings: ImageTrainSettings | None = None,
    *,
    folder: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
    guard: Guard | None = None,
    device: torch.device | str = "cpu",
) -> ImageModel:
    """Train an image energy on the training images of a set.

    Args:
        data: see `load_images`.
        settings: see `ImageTrainSettings`.
        folder: gets `checkpoints/` and TensorBoard events in `events/`; None writes nothing.
        resume: go on from the newest checkpoint of `folder`, if there is one.
        progress: show a progress bar.
        guard: limits of a healthy run.
        device: where to train.

    Returns:
        The model with averaged weights; its `training` says how training went.

    Raises:
        InputError: `folder` holds checkpoints although `resume` is False, they are of other settings or another set, or
            another process is at work in `folder`.
        CheckpointError: the newest checkpoint is not sound, or one cannot be written.
        DivergenceError: see `Trainer.fit`.

    """
    settings = settings or ImageTrainSettings()

    def prepare(folder: Path | None, found: Path | None) -> tuple[Trainer, ImageBatches]:
        with seeded(settings.seed):
            model = ImageModel.create(settings.model, data.shape, data.classes, data.name)
        model.energy.to(device).fit_base(data.part("train", 10_000).to(device))
        trainer = image_trainer_for(model, data.classes, settings, folder, progress, guard, device)
        return trainer, _batches_for(data, settings, device)

    energy, outcome = fit_in_folder(
        settings, settings.updates, lambda: _learned_from(data), folder, resume, prepare
    )
    assert isinstance(energy, ImageEnergy)
    return ImageModel(energy, settings.model, data.name, outcome)


def _learned_from(data: ImageSet) -> LearnedFrom:
    return LearnedFrom(
        "data", f"{len(data.images)} images of {data.name}", data.digest(), {"data": data.name}
    )


def _batches_for(data: ImageSet, settings: ImageTrainSettings, device: torch.device | str) -> ImageBatches:
    conditional = settings.model.conditional
    return ImageBatches(
        data.images,
        settings.batch_size,
        labels=data.labels if conditional else None,
        classes=data.classes if conditional else 0,
        unlabelled=settings.unlabelled,
        noise=0.0 if settings.loss == "dsm" else settings.data_noise,
        seed=settings.seed + 1,
        device=device,
    )


def image_trainer_for(
    model: ImageModel,
    classes: int,
    settings: ImageTrainSettings,
    folder: Path | None = None,
    progress: bool = False,
    guard: Guard | None = None,
    device: torch.device | str = "cpu",
) -> Trainer:
    """Trainer of an image model: `classes` are those of the set."""
    energy = model.energy
    trained_by = objective(settings.loss, energy_l2=settings.energy_l2, noise=settings.noise)
    if settings.classify:
        trained_by = Classified(trained_by, settings.classify)
    usual = 1e-4
    if settings.loss == "dsm":
        usual = 2e-3 if settings.model.network == "unet" else 1e-3
    # Momentum makes contrastive training swing: chains answer late to what the energy does.
    betas = (0.9 if settings.loss == "dsm" else 0.0, 0.999)
    return settings.trainer(
        energy,
        cold_langevin(settings.langevin_steps),
        SampleBuffer(
            settings.chains if trained_by.uses_chains else 1,
            model.shape,
            uniform(),
            fresh_fraction=settings.fresh_fraction,
            device=device,
        ),
        trained_by,
        torch.optim.Adam(energy.parameters(), lr=settings.learning_rate or usual, betas=betas),
        updates=settings.updates,
        description=model.describe(classes),
        folder=folder,
        progress=progress,
        guard=guard,
    )
