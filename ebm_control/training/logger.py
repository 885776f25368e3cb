"""Output of a training run: TensorBoard events and a progress bar."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from ebm_control.checks import require_number
from ebm_control.extras import MissingExtraError, import_extra
from ebm_control.progress import Bar

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SUFFIX = ".ebm-control"  # suffix of this library's event files


class Logger:
    """Writes metrics, histograms and samples to TensorBoard, and shows one progress bar; a context manager.

    Args:
        folder: folder of TensorBoard events; None writes none. Without the package tensorboard none are written either,
            and the process prints that once.
        progress: show the bar; without a terminal, one line per minute on stderr.
        every: updates between logged metrics.

    """

    _said_missing = False  # once per process, because a fit has several loggers

    def __init__(self, folder: Path | str | None = None, *, progress: bool = True, every: int = 50) -> None:
        require_number("every", every, 1, whole=True)
        self.folder = None if folder is None else Path(folder)
        self.every = every
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            show=progress,
            transient=True,
        )
        self._writer: SummaryWriter | None = None

    def start(self, total: int, step: int = 0, name: str = "training") -> None:
        """Begin a run of `total` updates, of which `step` are done: later events of an earlier run are purged."""
        if self.folder is not None:
            self._writer = self._open(self.folder, step)
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._task = self._bar.add_task(name, total=total, completed=step, metrics="")
        self._bar.start()

    def _open(self, folder: Path, step: int) -> SummaryWriter | None:
        """Writer of events after `step`; None without TensorBoard, in which case the run continues."""
        try:
            import_extra("tensorboard", "plots", "TensorBoard events, which are left out")
        except MissingExtraError as error:
            if not Logger._said_missing:
                Logger._said_missing = True
                self.note(str(error))
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder), purge_step=step + 1 if step else None, filename_suffix=SUFFIX)

    def advance(self, step: int) -> None:
        """Move the bar to `step`."""
        self._bar.update(self._task, completed=step)

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write scalars and show the first three next to the bar."""
        shown = "  ".join(f"{name} {value:.3g}" for name, value in list(metrics.items())[:3])
        self._bar.update(self._task, metrics=shown)
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, step)

    def energies(self, step: int, positive: Tensor, negative: Tensor) -> None:
        """Write histograms of the energies of data and of samples."""
        if self._writer is not None:
            self._writer.add_histogram("energy/data", positive, step)
            if len(negative):
                self._writer.add_histogram("energy/samples", negative, step)

    def samples(self, step: int, samples: Tensor, data: Tensor) -> None:
        """Write samples: images `(B, C, H, W)` as a grid, others as histograms per coordinate next to the data's."""
        if self._writer is None:
            return
        if samples.ndim == 4:
            self._writer.add_images("samples", samples[:64].float().clamp(0, 1), step)
            return
        for i in range(min(samples.shape[-1], 16)):
            for name, batch in (("samples", samples), ("data", data)):
                self._writer.add_histogram(
                    f"coordinate_{i}/{name}", batch.reshape(-1, batch.shape[-1])[:, i], step
                )

    def note(self, message: str) -> None:
        """Print a message above the bar, on one line, and write it to the events."""
        self._bar.console.print(message, soft_wrap=True, markup=False)  # brackets are text
        if self._writer is not None:
            self._writer.add_text("notes", message)

    def close(self) -> None:
        """Stop the bar and flush the events."""
        self._bar.stop()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Logger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def as_metrics(**tensors: Tensor | float) -> dict[str, float]:
    """Metrics as floats, read back from the device in one transfer."""
    given = [torch.as_tensor(value) for value in tensors.values()]
    device = next((value.device for value in given if value.device.type != "cpu"), torch.device("cpu"))
    values = torch.stack([value.to(device, torch.float64) for value in given])
    return dict(zip(tensors, values.tolist(), strict=True))
