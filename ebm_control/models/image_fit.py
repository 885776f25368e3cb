"""Training of an image model from a data set, by the same trainer and samplers as trajectories."""

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
    """Training settings of an image energy; `EnergyTrainSettings` holds the settings shared by all energies.

    Args:
        model: settings of the model.
        loss: "dsm": denoising score matching over noise levels, sampled by annealed Langevin dynamics; "cd":
            contrastive divergence with persistent chains (Du & Mordatch 2019); "cd-kl": the same with the KL term that
            contrastive divergence omits (Du et al. 2021).
        updates: updates of the energy.
        batch_size: images per update.
        learning_rate: initial learning rate of Adam, falling to a thirtieth along a cosine; None for 2e-3 ("dsm" with
            "unet"), 1e-3 ("dsm" with another network) or 1e-4.
        noise: lowest and highest noise level in units of a pixel's range ("dsm"): the lowest finer than a visible grey
            tone, the highest larger than the distance between pixels.
        data_noise: std of the noise added to the data ("cd", "cd-kl").
        chains: number of chains in the sample buffer.
        unlabelled: fraction of images that train a conditional energy without their class.
        classify: weight of the cross-entropy of `p(y | x)` for a conditional energy. A classifier needs it. Leave it
            at 0 to sample images of a class, because it lowers the quality of samples.

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
            # This objective needs an energy that is conditioned on the noise level.
            object.__setattr__(self, "model", replace(self.model, noise=self.noise))
        if self.classify and self.model.network == "auto":
            # A classifier does not need a network that can also generate images.
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
        resume: continue from the newest checkpoint of `folder`, if there is one.
        progress: show a progress bar.
        guard: limits outside which training counts as diverged.
        device: training device.

    Returns:
        The model with averaged weights; its `training` is a summary of the training.

    Raises:
        InputError: `folder` holds checkpoints although `resume` is False, they have other settings or another data
            set, or another process uses `folder`.
        CheckpointError: the newest checkpoint is corrupt, or a checkpoint cannot be written.
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
    """Trainer of an image model; `classes` is the number of classes in the data set."""
    energy = model.energy
    trained_by = objective(settings.loss, energy_l2=settings.energy_l2, noise=settings.noise)
    if settings.classify:
        trained_by = Classified(trained_by, settings.classify)
    usual = 1e-4
    if settings.loss == "dsm":
        usual = 2e-3 if settings.model.network == "unet" else 1e-3
    # Momentum makes contrastive training oscillate, because chains respond to the energy with a delay.
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
        torch.optim.Adam(energy.parameters(), lr=settings.learning_rate or usual, betas=betas, fused=True),
        updates=settings.updates,
        description=model.describe(classes),
        folder=folder,
        progress=progress,
        guard=guard,
    )
