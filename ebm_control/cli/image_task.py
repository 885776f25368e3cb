"""Common parts of the tasks of `ebm-control images`: loading of model and set, checks, and atomic writes."""

from __future__ import annotations

import io
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from ebm_control.checks import require, require_seed
from ebm_control.cli.limits import require_counts
from ebm_control.cli.run_folder import RunFolder, plain, whole_file
from ebm_control.data.images import ImageSet, load_images
from ebm_control.data.shapes import ATTRIBUTES, draw_shapes
from ebm_control.images.grid import save_grid
from ebm_control.models.image import ImageModel

SHAPES = 20_000  # number of images of generated "shapes-..." sets
COLUMNS = 10
Summary = dict[str, Any]  # metrics by name


@dataclass
class Trained(ABC):
    """Base class of the tasks that use a trained energy."""

    checkpoint: Path
    """Run folder of `ebm-control images train`, or a checkpoint in it."""
    data_dir: Path | None = None
    """Folder of idx files; default: the environment variable EBM_CONTROL_DATA."""
    count: int = 100
    """Number of images."""
    seed: int = 0
    """Seed of all random numbers."""
    out: Path = Path("runs/images-task")
    """Run folder."""

    def run(self) -> Summary:
        """Do the task and write its results; returns the summary."""
        require_counts(self, "count", low=2)
        require_seed("seed", self.seed)
        model = ImageModel.load(self.checkpoint)
        data = load_set(model.data, self.data_dir)
        require(
            data.shape == model.shape,
            "data_dir",
            given=data.shape,
            expected=f"images of shape {model.shape}, as those that the model was trained on",
        )
        self.check(model)
        with RunFolder(self.out, self) as folder:
            started = time.perf_counter()
            summary = self.work(model, data, Generator().manual_seed(self.seed), folder)
            summary |= {"seconds": time.perf_counter() - started}
            folder.summarise(summary)
        return plain(summary)

    def check(self, model: ImageModel) -> None:
        """Raise `InputError` if a setting of the task is out of range, or the model cannot do the task."""
        del model

    @abstractmethod
    def work(self, model: ImageModel, data: ImageSet, generator: Generator, folder: RunFolder) -> Summary:
        """Do the task with the set that the model was trained on; returns its metrics."""


def load_set(name: str, folder: Path | None) -> ImageSet:
    """A set of images by name; "shapes-ATTRIBUTE" sets are generated."""
    if name.startswith("shapes-"):
        attribute = name.removeprefix("shapes-")
        require(
            attribute in ATTRIBUTES, "data", given=name, expected=f"shapes- and one of {tuple(ATTRIBUTES)}"
        )
        return draw_shapes(SHAPES, Generator().manual_seed(0)).labelled(attribute)
    return load_images(name, folder)


def require_class(name: str, label: int, model: ImageModel) -> None:
    """Raise `InputError` unless the model is conditional and has the class `label`."""
    require(
        model.classes > 0,
        name,
        given=f"{label} of an energy without classes",
        expected="a conditional energy",
    )
    require(0 <= label < model.classes, name, given=label, expected=f"0 to {model.classes - 1}")


def save_page(folder: RunFolder, name: str, images: torch.Tensor, columns: int = COLUMNS) -> None:
    """Write a page of images to `figures/NAME.png` atomically."""
    with whole_file(folder.figures / f"{name}.png") as path:
        save_grid(path, images, columns)


def save_tensor(path: Path, value: torch.Tensor) -> None:
    """Write a tensor atomically."""
    content = io.BytesIO()
    torch.save(value, content)  # to memory first, because its error on a full disk does not name the cause
    with whole_file(path) as draft:
        draft.write_bytes(content.getvalue())
