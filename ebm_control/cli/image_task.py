"""What the tasks of `ebm-control images` have in common: model and set, checks, and whole files."""

from __future__ import annotations

import io
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ebm_control.checks import require, require_seed
from ebm_control.cli.limits import require_counts
from ebm_control.cli.run_folder import RunFolder, plain, whole_file
from ebm_control.data.images import ImageSet, load_images
from ebm_control.data.shapes import ATTRIBUTES, draw_shapes
from ebm_control.images.grid import save_grid
from ebm_control.models.image import ImageModel

SHAPES = 20_000  # images that "shapes-..." sets are drawn of
COLUMNS = 10


@dataclass
class Trained(ABC):
    """What the tasks have in common."""

    checkpoint: Path
    """Run folder of `ebm-control images train`, or a checkpoint in it."""
    data_dir: Path | None = None
    """Folder of idx files; EBM_CONTROL_DATA without."""
    count: int = 100
    """Images."""
    seed: int = 0
    """Of all that is drawn."""
    out: Path = Path("runs/images-task")
    """Run folder."""

    def run(self) -> dict[str, Any]:
        """Do the task, and write what it gave."""
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
            summary = self.work(model, data, torch.Generator().manual_seed(self.seed), folder)
            summary |= {"seconds": time.perf_counter() - started}
            folder.summarise(summary)
        return plain(summary)

    def check(self, model: ImageModel) -> None:
        """Raise `InputError` where a number of the task is out of range, or the model cannot do it."""
        del model

    @abstractmethod
    def work(
        self, model: ImageModel, data: ImageSet, generator: torch.Generator, folder: RunFolder
    ) -> dict[str, Any]:
        """Do the task with the set that the model was trained on; returns figures."""


def load_set(name: str, folder: Path | None) -> ImageSet:
    """A set of images by name; "shapes-ATTRIBUTE" is drawn."""
    if name.startswith("shapes-"):
        attribute = name.removeprefix("shapes-")
        require(
            attribute in ATTRIBUTES, "data", given=name, expected=f"shapes- and one of {tuple(ATTRIBUTES)}"
        )
        return draw_shapes(SHAPES, torch.Generator().manual_seed(0)).labelled(attribute)
    return load_images(name, folder)


def require_class(name: str, label: int, model: ImageModel) -> None:
    """Raise `InputError` unless a model tells the class `label`."""
    require(
        model.classes > 0,
        name,
        given=f"{label} of an energy without classes",
        expected="a conditional energy",
    )
    require(0 <= label < model.classes, name, given=label, expected=f"0 to {model.classes - 1}")


def save_page(folder: RunFolder, name: str, images: torch.Tensor, columns: int = COLUMNS) -> None:
    """Write a page of images to `figures/NAME.png`, whole or not at all."""
    with whole_file(folder.figures / f"{name}.png") as path:
        save_grid(path, images, columns)


def save_tensor(path: Path, value: torch.Tensor) -> None:
    """Write a tensor, whole or not at all."""
    content = io.BytesIO()
    torch.save(value, content)  # which says of a full disk only that it failed
    with whole_file(path) as draft:
        draft.write_bytes(content.getvalue())
