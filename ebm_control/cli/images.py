"""`ebm-control images train | generate | inpaint | restore | ood | robustness | compose`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Generator

from ebm_control import images as tasks
from ebm_control.checks import require, require_number, require_seed
from ebm_control.cli.commands import training_summary
from ebm_control.cli.figures import training_curves
from ebm_control.cli.image_task import (
    COLUMNS,
    Summary,
    Trained,
    load_set,
    require_class,
    save_page,
    save_tensor,
)
from ebm_control.cli.limits import require_counts, require_numbers
from ebm_control.cli.run_folder import RunFolder, plain
from ebm_control.data.images import ImageSet
from ebm_control.energies.image import ImageEnergy
from ebm_control.models.image import ImageModel
from ebm_control.models.image_fit import ImageTrainSettings, fit_images
from ebm_control.samplers import image_sampler
from ebm_control.training.run_folder import newest_checkpoint

NEIGHBOURS = 3  # nearest neighbours for precision and recall


@dataclass
class TrainImages:
    """Train an image energy, with the same trainer and samplers as for trajectories."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, or shapes-ATTRIBUTE (shape, position, size, tone)."""
    data_dir: Path | None = None
    """Folder with mnist/ and fashion-mnist/ of idx files; default: the environment variable EBM_CONTROL_DATA."""
    out: Path = Path("runs/images")
    """Run folder: settings, events, checkpoints, samples, summary."""
    resume: bool = False
    """Continue from the newest checkpoint of the run folder."""
    train: ImageTrainSettings = field(default_factory=ImageTrainSettings)
    """Training settings."""

    def run(self) -> Summary:
        """Train and write a page of samples; returns the summary."""
        data = load_set(self.data, self.data_dir)
        newest_checkpoint(self.out, self.resume, "out")
        with RunFolder(self.out, self) as folder:
            started = time.perf_counter()
            model = fit_images(data, self.train, folder=self.out, resume=self.resume)
            outcome = model.training
            seconds = time.perf_counter() - started
            generator = Generator().manual_seed(self.train.seed)
            drawn = tasks.generate(model.energy, 8 * COLUMNS, generator=generator)
            save_page(folder, "samples", drawn.x)
            summary = {
                "images": len(data.images),
                **training_summary(outcome, "ebm-control images train", self.train.seed, seconds),
            }
            folder.summarise(summary)
            training_curves(folder, self.out / "events")
        return summary


@dataclass
class Generate(Trained):
    """Sample images, and show their chains and the nearest training images."""

    out: Path = Path("runs/images-generate")
    """Run folder: samples, chains, nearest.png, samples.pt, summary."""
    label: int | None = None
    """Class, for a conditional energy; default: any class."""
    steps: int = 60
    """Number of noise levels, or of Langevin steps for an energy without noise levels."""
    judge_updates: int = 1000
    """Updates of the classifier whose features are used for the metrics."""

    def check(self, model: ImageModel) -> None:
        """See `Trained.check`."""
        require_counts(self, "steps", "judge_updates")
        require_counts(self, "count", low=NEIGHBOURS + 1)
        if self.label is not None:
            require_class("label", self.label, model)

    def work(self, model: ImageModel, data: ImageSet, generator: Generator, folder: RunFolder) -> Summary:
        """Sample; returns metrics in the features of a classifier trained for this purpose."""
        labels = None if self.label is None else torch.full((self.count,), self.label)
        sampler = image_sampler(model.energy, self.steps)
        chain = tasks.generate(
            model.energy,
            self.count,
            labels=labels,
            sampler=sampler,
            generator=generator,
            trace=max(1, self.steps // COLUMNS),
        )
        assert chain.trace is not None
        train = data.part("train")
        shown = chain.x[:COLUMNS]
        save_page(folder, "samples", chain.x)
        save_page(folder, "chains", chain.trace[:COLUMNS, :8].transpose(0, 1).flatten(0, 1))
        save_page(folder, "nearest", torch.cat([shown, train[tasks.nearest(shown, train)]]))
        save_tensor(self.out / "samples.pt", chain.x)
        classifier = tasks.fit_classifier(data, updates=self.judge_updates, seed=self.seed)
        truth = data.part("test", 2000)
        precision, recall = tasks.precision_recall(classifier, chain.x, truth)
        return {
            "classifier_accuracy": classifier.accuracy(data.part("test"), data.test_labels),
            "frechet": tasks.feature_frechet(classifier, chain.x, truth),
            "frechet_of_training_images": tasks.feature_frechet(classifier, train[: self.count], truth),
            "precision": precision,
            "recall": recall,
        }


@dataclass
class Inpaint(Trained):
    """Fill missing pixels of test images, with several samples per image."""

    out: Path = Path("runs/images-inpaint")
    """Run folder: figure and summary."""
    missing: Literal["bottom", "random"] = "bottom"
    """Missing pixels: the lower half, or a random three quarters."""
    fills: int = 4
    """Samples per image."""

    def check(self, model: ImageModel) -> None:
        """See `Trained.check`."""
        require_counts(self, "fills")

    def work(self, model: ImageModel, data: ImageSet, generator: Generator, folder: RunFolder) -> Summary:
        """Fill and plot; returns errors, compared with those of the nearest training image."""
        truth, train = data.part("test", self.count), data.part("train")
        known = (
            tasks.bottom_half(data.shape).expand_as(truth)
            if self.missing == "bottom"
            else tasks.random_pixels(len(truth), data.shape, 0.25, generator)
        )
        filled = tasks.inpaint(model.energy, truth, known, fills=self.fills, generator=generator)
        neighbours = torch.where(known, truth, train[tasks.nearest(truth, train, known)])
        given = torch.where(known, truth, torch.full_like(truth, 0.5))
        rows = torch.cat([given[:, None], filled, truth[:, None]], dim=1)[:16]
        save_page(folder, "inpainted", rows.flatten(0, 1), self.fills + 2)
        return {
            "mse_of_a_fill": _error(filled[:, 0], truth, known),
            "mse_of_the_mean": _error(filled.mean(dim=1), truth, known),
            "mse_of_the_nearest_training_image": _error(neighbours, truth, known),
            "known_unchanged": bool((filled == truth[:, None])[known[:, None].expand_as(filled)].all()),
        }


@dataclass
class Restore(Trained):
    """Restore corrupted test images: pixels set to 0.1 and 0.9, or Gaussian noise."""

    out: Path = Path("runs/images-restore")
    """Run folder: figure and summary."""
    spoilt: Literal["pixels", "gaussian"] = "pixels"
    """Corruption: 5 % of the pixels set to 0.1 and 5 % to 0.9, or Gaussian noise with std `--std`."""
    std: float = 0.3
    """Standard deviation of the Gaussian noise."""

    def check(self, model: ImageModel) -> None:
        """See `Trained.check`."""
        require_numbers(self, "std", above=True)

    def work(self, model: ImageModel, data: ImageSet, generator: Generator, folder: RunFolder) -> Summary:
        """Restore and plot; returns the errors."""
        truth = data.part("test", self.count)
        if self.spoilt == "pixels":
            given = tasks.salt_and_pepper(truth, generator)
            mended = tasks.restore(model.energy, given, generator=generator)
        else:
            given = truth + self.std * torch.randn(truth.shape, generator=generator)
            mended = tasks.denoise(model.energy, given, self.std)
        rows = torch.stack([given, mended, truth], dim=1)[:30]
        save_page(folder, "restored", rows.flatten(0, 1), 3 * 3)
        return {
            "mse_given": float((given - truth).square().mean()),
            "mse": float((mended - truth).square().mean()),
        }


@dataclass
class Outliers(Trained):
    """Detect outliers among test images: area under the ROC curve by set and score."""

    out: Path = Path("runs/images-ood")
    """Run folder: figure and summary."""
    other: str | None = None
    """Another set of images of the same shape as outliers, such as fashion-mnist for mnist."""
    count: int = 1000
    """Images per set."""

    def work(self, model: ImageModel, data: ImageSet, generator: Generator, folder: RunFolder) -> Summary:
        """Score, and plot one image of each set; returns the areas under the ROC curve."""
        inliers = data.part("test", self.count)
        other = None if self.other is None else load_set(self.other, self.data_dir).part("test", self.count)
        require(
            other is None or other.shape[1:] == inliers.shape[1:],
            "other",
            given=self.other,
            expected=f"images of shape {data.shape}",
        )
        sets = tasks.outlier_sets(inliers, generator, other)
        scores: dict[str, Any] = {
            "energy": tasks.energy_score(model.energy),
            "gradient_norm": tasks.gradient_norm_score(model.energy),
        }
        if model.energy.noise is not None:
            scores["profile"] = tasks.EnergyProfile.fit(model.energy, data.part("train", 5000))
        summary: dict[str, Any] = {}
        for name, score in scores.items():
            usual = score(inliers)
            summary |= {f"{name}_{kind}": tasks.auroc(usual, score(found)) for kind, found in sets.items()}
        shown = torch.cat([found[:COLUMNS] for found in (inliers, *sets.values())])
        save_page(folder, "sets", shown)
        return summary


@dataclass
class Robust(Trained):
    """Accuracy of a conditional energy under attack, compared with a classifier of its size."""

    out: Path = Path("runs/images-robustness")
    """Run folder: summary."""
    radii: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    """Radii of the balls."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the balls."""
    level: float = 0.3
    """Noise level at which the energy is evaluated, if it has noise levels."""
    classifier_updates: int = 1000
    """Updates of the baseline classifier."""

    def check(self, model: ImageModel) -> None:
        """See `Trained.check`."""
        require(len(self.radii) > 0, "radii", given="none", expected="at least one")
        for radius in self.radii:
            require_number("radii", radius, 0.0)
        require_numbers(self, "level", above=True)
        require_counts(self, "classifier_updates")
        require(
            model.classes > 0, "checkpoint", given="an energy without classes", expected="a conditional one"
        )

    def work(self, model: ImageModel, data: ImageSet, generator: Generator, folder: RunFolder) -> Summary:
        """Attack; returns the accuracies by attack and radius."""
        images, labels = data.part("test", self.count), data.test_labels[: self.count]
        level = self.level if model.energy.noise is not None else None
        classifier = tasks.fit_classifier(
            data, width=model.settings.width, updates=self.classifier_updates, seed=self.seed
        )
        summary: dict[str, Any] = {}
        for name, logits in (
            ("energy", tasks.energy_logits(model.energy, level)),
            ("classifier", classifier),
        ):
            found = tasks.robustness(logits, images, labels, self.radii, norm=self.norm, generator=generator)
            summary |= {f"{name}_{row.attack}_{row.radius:g}": row.accuracy for row in found}
        return summary


@dataclass
class Compose:
    """Sample images that have one attribute of each of several separately trained energies."""

    checkpoints: tuple[Path, ...]
    """Run folders of conditional energies of images of the same shape."""
    attributes: tuple[int, ...]
    """One class of each energy."""
    out: Path = Path("runs/images-compose")
    """Run folder: samples, summary."""
    count: int = 50
    """Number of images."""
    seed: int = 0
    """Seed of the noise."""

    def run(self) -> Summary:
        """Sample the images and write a page of them; returns the summary."""
        require_counts(self, "count")
        require_seed("seed", self.seed)
        require(
            len(self.checkpoints) == len(self.attributes) > 0,
            "attributes",
            given=len(self.attributes),
            expected=f"{len(self.checkpoints)}, one for each checkpoint, and at least one",
        )
        models = [ImageModel.load(path) for path in self.checkpoints]
        for attribute, model in zip(self.attributes, models, strict=True):
            require_class("attributes", attribute, model)
            require(
                model.shape == models[0].shape,
                "checkpoints",
                given=model.shape,
                expected=f"all of {models[0].shape}",
            )
        with RunFolder(self.out, self) as folder:
            started = time.perf_counter()
            energies: list[ImageEnergy] = [model.energy for model in models]
            asked = torch.tensor(self.attributes).expand(self.count, -1)
            drawn = tasks.compose(energies, asked, generator=Generator().manual_seed(self.seed))
            save_page(folder, "composed", drawn)
            summary = {"images": self.count, "seconds": time.perf_counter() - started}
            folder.summarise(summary)
        return plain(summary)


@dataclass
class Images:
    """Image energies: train, generate, inpaint, restore, detect outliers, resist attacks, compose."""

    task: tyro.conf.OmitSubcommandPrefixes[
        Annotated[TrainImages, tyro.conf.subcommand("train")]
        | Annotated[Generate, tyro.conf.subcommand("generate")]
        | Annotated[Inpaint, tyro.conf.subcommand("inpaint")]
        | Annotated[Restore, tyro.conf.subcommand("restore")]
        | Annotated[Outliers, tyro.conf.subcommand("ood")]
        | Annotated[Robust, tyro.conf.subcommand("robustness")]
        | Annotated[Compose, tyro.conf.subcommand("compose")]
    ]

    def run(self) -> Summary:
        """Run the task."""
        return self.task.run()


def _error(images: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> float:
    """Mean squared error over the unknown pixels."""
    return float((images - truth).square()[~known].mean())
