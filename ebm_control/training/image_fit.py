"""The whole recipe for images: a set in, an image model out, by the trainer and samplers that trajectories have."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ebm_control.checks import as_python, require, require_levels, require_number, require_seed
from ebm_control.data.images import ImageBatches, ImageSet
from ebm_control.energies.image import ImageEnergy
from ebm_control.samplers.langevin import Langevin
from ebm_control.training.classification import Classified
from ebm_control.training.fitting import Training
from ebm_control.training.guard import Guard
from ebm_control.training.image_model import ImageModel, ImageModelSettings
from ebm_control.training.improved import ImprovedContrastiveDivergence
from ebm_control.training.logger import Logger
from ebm_control.training.losses import ContrastiveDivergence, Objective
from ebm_control.training.regression import seeded
from ebm_control.training.run_settings import LearnedFrom, checkpoint_to_resume, folder_of_one, plain
from ebm_control.training.sample_buffer import SampleBuffer, uniform
from ebm_control.training.score_matching import DenoisingScoreMatching
from ebm_control.training.trainer import Trainer

IMAGE_LOSSES = ("cd", "cd-kl", "dsm")


@dataclass(frozen=True)
class ImageTrainSettings:
    """How an image energy is trained.

    Args:
        model: what is trained.
        loss: "dsm": denoising score matching over noise levels, sampled by annealed Langevin dynamics; "cd":
            contrastive divergence with persistent chains (Du & Mordatch 2019); "cd-kl": with the KL term that it leaves
            out (Du et al. 2021).
        updates: of the energy.
        batch: images an update.
        learning_rate: of Adam, falling to a thirtieth along a cosine; None for 2e-3 ("dsm" with "unet"), 1e-3 ("dsm"
            with another network) or 1e-4.
        noise: least and greatest noise level in units of a pixel's range ("dsm"): finer than a grey tone that is seen,
            and wider than pixels are apart.
        data_noise: deviation of noise on the data ("cd", "cd-kl").
        energy_l2: weight of the squared energy ("cd", "cd-kl").
        langevin_steps: of each negative chain.
        chains: kept in the sample buffer.
        fresh_fraction: share of chains that start afresh, from uniform noise.
        unlabelled: share of images that teach a conditional energy without their class.
        classify: weight of the cross-entropy of classes by a conditional energy, `p(y | x)`. A classifier needs it; for
            samples of classes leave it 0, as it takes what the network has from the score.
        gradient_clip: of each update.
        ema: decay of the averaged weights.
        checkpoint_every: updates between checkpoints.
        seed: of everything that is drawn.

    """

    model: ImageModelSettings = field(default_factory=ImageModelSettings)
    loss: str = "dsm"
    updates: int = 3000
    batch: int = 128
    learning_rate: float | None = None
    noise: tuple[float, float] = (0.02, 4.0)
    data_noise: float = 0.03
    energy_l2: float = 0.1
    langevin_steps: int = 20
    chains: int = 8192
    fresh_fraction: float = 0.05
    unlabelled: float = 0.5
    classify: float = 0.0
    gradient_clip: float = 1.0
    ema: float = 0.999
    checkpoint_every: int = 500
    seed: int = 0

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
        # Its estimate of an entropy is of distances between samples.
        require(self.loss != "cd-kl" or self.batch >= 2, "batch", given=self.batch, expected="2 or more")

    def _check_numbers(self) -> None:
        as_python(self)
        for name in ("updates", "batch", "langevin_steps", "chains", "checkpoint_every"):
            require_number(name, getattr(self, name), 1, whole=True)
        for name in ("data_noise", "energy_l2", "classify"):
            require_number(name, getattr(self, name), 0)
        for name in ("fresh_fraction", "unlabelled"):
            require_number(name, getattr(self, name), 0, 1)
        if self.learning_rate is not None:
            require_number("learning_rate", self.learning_rate, 0, above=True)
        require_levels("noise", self.noise)
        require_number("gradient_clip", self.gradient_clip, 0, above=True)
        require_number("ema", self.ema, 0, 1, below=True)
        require_seed("seed", self.seed)


def fit_images(
    data: ImageSet,
    settings: ImageTrainSettings | None = None,
    *,
    folder: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
    guard: Guard | None = None,
    device: torch.device | str = "cpu",
) -> tuple[ImageModel, Training]:
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
        The model with averaged weights, and how training went.

    Raises:
        InputError: `folder` holds checkpoints although `resume` is False, they are of other settings or another set, or
            another process is at work in `folder`.
        CheckpointError: the newest checkpoint is not sound, or one cannot be written.
        DivergenceError: see `Trainer.fit`.

    """
    settings = settings or ImageTrainSettings()
    folder = None if folder is None else Path(folder)
    with folder_of_one(folder):
        known = LearnedFrom(
            "data", f"{len(data.images)} images of {data.name}", data.digest(), {"data": data.name}
        )
        found = checkpoint_to_resume(settings, folder, resume, known)
        with seeded(settings.seed):
            model = ImageModel.create(settings.model, data.shape, data.classes, data.name)
        model.energy.to(device).fit_base(data.part("train", 10_000).to(device))
        batches = _batches_for(data, settings, device)
        trainer = image_trainer_for(model, data.classes, settings, folder, progress, guard, device)
        trainer.settings |= known.kept()
        if found is not None:
            trainer.resume(found, batches)
        outcome = trainer.fit(batches, settings.updates)
    averaged = trainer.averaged
    assert isinstance(averaged, ImageEnergy)
    averaged.eval().requires_grad_(False)
    return ImageModel(averaged, settings.model, data.name), outcome


def _batches_for(data: ImageSet, settings: ImageTrainSettings, device: torch.device | str) -> ImageBatches:
    conditional = settings.model.conditional
    return ImageBatches(
        data.images,
        settings.batch,
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
    energy, objective = model.energy, objective_of(settings)
    usual = 1e-4
    if settings.loss == "dsm":
        usual = 2e-3 if settings.model.network == "unet" else 1e-3
    rate = settings.learning_rate or usual
    # Momentum makes contrastive training swing: chains answer late to what the energy does.
    optimizer = torch.optim.Adam(
        energy.parameters(), lr=rate, betas=(0.9 if settings.loss == "dsm" else 0.0, 0.999)
    )
    return Trainer(
        energy,
        cold_langevin(settings.langevin_steps),
        SampleBuffer(
            settings.chains if objective.uses_chains else 1,
            model.shape,
            uniform(),
            fresh_fraction=settings.fresh_fraction,
            device=device,
        ),
        objective,
        optimizer,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.updates, rate / 30),
        gradient_clip=settings.gradient_clip,
        ema=settings.ema,
        guard=guard,
        logger=Logger(None if folder is None else folder / "events", progress=progress),
        checkpoints=None if folder is None else folder / "checkpoints",
        checkpoint_every=settings.checkpoint_every,
        settings=model.describe(classes) | {"train": plain(settings)},
        seed=settings.seed + 3,
    )


def objective_of(settings: ImageTrainSettings) -> Objective:
    """The objective that `settings.loss` names."""
    made: Objective
    match settings.loss:
        case "dsm":
            made = DenoisingScoreMatching(*settings.noise)
        case "cd-kl":
            made = ImprovedContrastiveDivergence(settings.energy_l2)
        case _:
            made = ContrastiveDivergence(settings.energy_l2)
    return Classified(made, settings.classify) if settings.classify else made


def cold_langevin(steps: int) -> Langevin:
    """Langevin as Du & Mordatch 2019 run it on images: large clipped steps, little noise, pixels in [0, 1]."""
    return Langevin(steps, 10.0, noise=0.005, gradient_clip=0.01, clamp=(0.0, 1.0))
