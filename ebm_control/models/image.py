"""An image energy with the settings that it is rebuilt from."""

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
    """What kind of image energy.

    Args:
        network: "small" (plain convolutions), "residual", "unet", or "auto": "unet" for an energy of noised images,
            whose gradient is what is learned, else "small".
        width: channels of its first layer.
        conditional: one output a class.
        spectral: spectral normalisation.
        noise: least and greatest noise level of an energy of noised images, as "dsm" trains it; () for none.

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
        """The same settings with `network="auto"` replaced by the network that it stands for."""
        if self.network != "auto":
            return self
        return replace(self, network="unet" if self.noise else "small")


@dataclass(frozen=True, eq=False)
class ImageModel:
    """An energy of images with pixels in [0, 1].

    Attributes:
        energy: of images `(B, C, H, W)`.
        settings: of its network.
        data: name of the set that it was trained on.
        training: how training went; all zeros of a model that was loaded.

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
        """Classes of a conditional energy; 0 of another."""
        return self.energy.classes

    @classmethod
    def create(
        cls, settings: ImageModelSettings, shape: tuple[int, int, int], classes: int, data: str
    ) -> ImageModel:
        """Untrained model; `classes` are those of the set, whether it is conditional or not."""
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
            count: images.
            labels: `(count,)` their classes, for a conditional energy; None for any.
            sampler: None for `image_sampler(energy)`.
            generator: source of noise; None seeds from the system.

        Raises:
            InputError: labels that do not fit.

        """
        return generate(self.energy, count, labels=labels, sampler=sampler, generator=generator).x

    def save(self, folder: Path | str) -> Path:
        """Write the model to `folder`, for `load`, and return it; one saved there before is replaced.

        Raises:
            CheckpointError: `folder` holds the checkpoints of a run, or it could not be written.

        """
        # A network without classes is the same whatever the set has.
        settings = self.describe(self.classes)
        return save_model(folder, Checkpoint(self.energy.state_dict(), settings, {}))

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> ImageModel:
        """Model that was saved, or of a checkpoint or a run folder (the newest), with its averaged weights.

        Raises:
            CheckpointError: the checkpoint is not sound or not of an image model.

        """
        return load_energy_model(path, "an image model", cls._rebuild, device)

    @classmethod
    def _rebuild(cls, checkpoint: Checkpoint) -> ImageModel:
        """An untrained model of the settings that `describe` gave."""
        settings = checkpoint.settings
        channels, height, width = settings["shape"]
        model_settings = ImageModelSettings(**with_tuples(settings["image_model"]))
        return cls.create(
            model_settings, (channels, height, width), int(settings["classes"]), settings["data"]
        )
