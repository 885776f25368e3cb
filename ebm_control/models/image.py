"""An image energy together with the settings from which it is rebuilt."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ebm_control.checks import as_python, require, require_flag, require_levels, require_number
from ebm_control.energies.image import ImageEnergy, ResidualNetwork, SmallCNN, UNet
from ebm_control.images.sampling import generate
from ebm_control.models.loading import load_energy_model, with_tuples
from ebm_control.samplers.chain import Sampler
from ebm_control.training.checkpoint import Checkpoint, save_model
from ebm_control.training.fitting import Training

NETWORKS = {"small": SmallCNN, "residual": ResidualNetwork, "unet": UNet}


@dataclass(frozen=True)
class ImageModelSettings:
    """Architecture of an image energy.

    Args:
        network: "small" (plain convolutions), "residual", "unet", or "auto": "unet" for an energy of noised images,
            where the gradient is learned, otherwise "small".
        width: channels of the first layer.
        conditional: whether the network has one output per class.
        spectral: whether to use spectral normalisation.
        noise: lowest and highest noise level of an energy of noised images (loss "dsm"); () for no noise.

    """

    network: Literal["auto", "small", "residual", "unet"] = "auto"
    width: int = 32
    conditional: bool = False
    spectral: bool = False
    noise: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        known = ("auto", *NETWORKS)
        require(self.network in known, "network", given=self.network, expected=f"one of {known}")
        as_python(self)
        require_number("width", self.width, 1, whole=True)
        require_flag("conditional", self.conditional)
        require_flag("spectral", self.spectral)
        if self.noise != ():
            require_levels("noise", self.noise)

    def resolved(self) -> ImageModelSettings:
        """The same settings with `network="auto"` replaced by the network that it selects."""
        if self.network != "auto":
            return self
        return replace(self, network="unet" if self.noise else "small")


@dataclass(frozen=True, eq=False)
class ImageModel:
    """An energy of images with pixels in [0, 1].

    Attributes:
        energy: energy of images `(B, C, H, W)`.
        settings: architecture of the network.
        data: name of the data set that it was trained on.
        training: summary of the training; all zeros for a loaded model.

    """

    energy: ImageEnergy
    settings: ImageModelSettings
    data: str
    training: Training = field(default_factory=Training)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.energy.shape

    @property
    def classes(self) -> int:
        """Number of classes of a conditional energy; 0 for an unconditional one."""
        return self.energy.classes

    @classmethod
    def create(
        cls, settings: ImageModelSettings, shape: tuple[int, int, int], classes: int, data: str
    ) -> ImageModel:
        """Untrained model; `classes` is the number in the data set, whether the energy is conditional or not."""
        settings = settings.resolved()
        noise = (settings.noise[0], settings.noise[1]) if settings.noise else None
        network = NETWORKS[settings.network](
            shape,
            classes if settings.conditional else 1,
            settings.width,
            condition_dim=int(noise is not None),
            spectral=settings.spectral,
        )
        made = ImageEnergy(network, shape, classes=classes if settings.conditional else 0, noise=noise)
        return cls(made, settings, data)

    def describe(self, classes: int) -> dict[str, Any]:
        """JSON-safe settings from which `load` rebuilds the model."""
        return {
            "image_model": asdict(self.settings),
            "shape": list(self.shape),
            "classes": classes,
            "data": self.data,
        }

    def generate(
        self,
        count: int,
        *,
        labels: Tensor | None = None,
        sampler: Sampler | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw images `(count, C, H, W)` in [0, 1]; see `ebm_control.images.generate`.

        Args:
            count: number of images.
            labels: `(count,)` classes, for a conditional energy; None for any class.
            sampler: None for `image_sampler(energy)`.
            generator: source of noise; None takes a seed from the system.

        Raises:
            InputError: the labels do not fit.

        """
        return generate(self.energy, count, labels=labels, sampler=sampler, generator=generator).x

    def save(self, folder: Path | str) -> Path:
        """Write the model to `folder`, for `load`, and return the path; a model saved there earlier is replaced.

        Raises:
            CheckpointError: `folder` holds the checkpoints of a run, or writing failed.

        """
        # An unconditional network does not depend on the number of classes in the data set.
        settings = self.describe(self.classes)
        return save_model(folder, Checkpoint(self.energy.state_dict(), settings, {}))

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> ImageModel:
        """Load a saved model, a checkpoint, or the newest checkpoint of a run folder, with its averaged weights.

        Raises:
            CheckpointError: the checkpoint is corrupt or does not belong to an image model.

        """
        return load_energy_model(path, "an image model", cls._rebuild, device)

    @classmethod
    def _rebuild(cls, checkpoint: Checkpoint) -> ImageModel:
        """An untrained model from the settings that `describe` returned."""
        settings = checkpoint.settings
        channels, height, width = settings["shape"]
        model_settings = ImageModelSettings(**with_tuples(settings["image_model"]))
        return cls.create(
            model_settings, (channels, height, width), int(settings["classes"]), settings["data"]
        )
