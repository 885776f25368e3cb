"""Streams of tasks: images whose classes or pixels change over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_control.checks import is_sequence, require, require_flag, require_number, require_seed, shown
from ebm_control.data.images import LABELS, ImageSet


class StreamBatch(NamedTuple):
    """Images of a stream at one time.

    Attributes:
        x: `(B, C, H, W)` in [0, 1].
        labels: `(B,)`.
        task: index of the task, from 0; None if the stream has no task boundaries.

    """

    x: Tensor
    labels: Tensor
    task: int | None


@dataclass(frozen=True, eq=False)
class TaskStream:
    """Tasks in their order of arrival.

    Attributes:
        name: name of the stream.
        tasks: one image set per task; labels are those of the whole stream.
        classes: number of labels in total.

    Raises:
        InputError: no tasks, a task without test images, images of another shape, labels outside the classes, or
            more classes than there are labels.

    """

    name: str
    tasks: tuple[ImageSet, ...]
    classes: int

    def __post_init__(self) -> None:
        sets = is_sequence(self.tasks) and all(isinstance(task, ImageSet) for task in self.tasks)
        require(sets, "tasks", given=shown(self.tasks), expected="a sequence of image sets")
        require(len(self.tasks) >= 1, "tasks", given="none", expected="at least one")
        require_number("classes", self.classes, 1, LABELS + 1, whole=True)
        object.__setattr__(self, "classes", int(self.classes))
        for task in self.tasks:
            given = f"{task.shape} in {task.name}"
            require(task.shape == self.shape, "tasks", given=given, expected=f"images {self.shape}")
            given, expected = f"none in {task.name}", "images to test by, at least one"
            require(len(task.test_images) >= 1, "tasks", given=given, expected=expected)
            high = int(torch.cat([task.labels, task.test_labels]).max())
            given, expected = f"{high} in {task.name}", f"labels 0 to {self.classes - 1}"
            require(high < self.classes, "tasks", given=given, expected=expected)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.tasks[0].shape

    def classes_of(self, task: int) -> tuple[int, ...]:
        """Classes of task number `task`."""
        return tuple(self.tasks[task].labels.unique().tolist())

    def batches(
        self,
        updates: int,
        batch_size: int = 128,
        *,
        overlap: float | None = None,
        seed: int = 0,
    ) -> Iterator[StreamBatch]:
        """All batches of the stream, `updates` for each task, drawn with replacement.

        Args:
            updates: batches per task.
            batch_size: images per batch.
            overlap: None for tasks with boundaries, one after the other. Otherwise batches have no task index, and
                the next task replaces the current one gradually over this fraction of a task's length (after Zeno et
                al. 2018, who mix over half).
            seed: seed of the draw.

        Raises:
            InputError: a setting is out of range.

        """
        require_number("updates", updates, 1, whole=True)
        require_number("batch_size", batch_size, 1, whole=True)
        if overlap is not None:
            require_number("overlap", overlap, 0, 1)
        require_seed("seed", seed)
        return self._drawn(int(updates), int(batch_size), overlap, torch.Generator().manual_seed(int(seed)))

    def _drawn(
        self, updates: int, batch_size: int, overlap: float | None, generator: torch.Generator
    ) -> Iterator[StreamBatch]:
        shares = task_shares(len(self.tasks), updates, overlap or 0.0)
        for row in shares:
            if overlap is None:
                task = int(row.argmax())
                data = self.tasks[task]
                index = torch.randint(len(data.images), (batch_size,), generator=generator)
                yield StreamBatch(data.images[index].float() / 255, data.labels[index], task)
                continue
            chosen = torch.multinomial(row, batch_size, replacement=True, generator=generator)
            images, labels = [], []
            for task in chosen.unique().tolist():
                data, count = self.tasks[task], int((chosen == task).sum())
                index = torch.randint(len(data.images), (count,), generator=generator)
                images.append(data.images[index].float() / 255)
                labels.append(data.labels[index])
            yield StreamBatch(torch.cat(images), torch.cat(labels), None)


def task_shares(tasks: int, updates: int, overlap: float) -> Tensor:
    """Fraction of each task in each batch, `(tasks * updates, tasks)`: 1 within a task, linear between tasks."""
    time = (torch.arange(tasks * updates) + 0.5) / updates
    inner = torch.arange(1, tasks)
    if overlap == 0:
        begun = (time[:, None] >= inner).double()
    else:
        begun = ((time[:, None] - inner) / overlap + 0.5).clamp(0, 1).double()
    whole = torch.cat([torch.ones(len(time), 1), begun, torch.zeros(len(time), 1)], dim=1)
    return (whole[:, :-1] - whole[:, 1:]).float()


def split_stream(data: ImageSet, per_task: int = 2, *, order: Sequence[int] | None = None) -> TaskStream:
    """Classes that arrive a few at a time: with two per task this is Split MNIST (Zenke et al. 2017).

    Args:
        data: image set, see `load_images`.
        per_task: classes per task.
        order: order of arrival of the classes; None for that of their labels.

    Raises:
        InputError: `order` does not name each class once, or cannot be divided into tasks.

    """
    arrived = tuple(range(data.classes)) if order is None else _order(order, data.classes)
    require_number("per_task", per_task, 1, whole=True)
    require(data.classes % per_task == 0, "per_task", given=per_task, expected=f"a divisor of {data.classes}")
    tasks = tuple(_only(data, arrived[i : i + per_task]) for i in range(0, len(arrived), per_task))
    return TaskStream(f"split-{data.name}", tasks, data.classes)


def permuted_stream(
    data: ImageSet, tasks: int = 10, *, new_classes: bool = True, seed: int = 0
) -> TaskStream:
    """Tasks that show the same images, each with its own permutation of pixels (Goodfellow et al. 2013).

    Args:
        data: image set, see `load_images`.
        tasks: number of tasks; the first has no permutation.
        new_classes: every task has its own labels, so that tasks have to be distinguished too (class-incremental,
            100 classes for ten tasks of MNIST); False for the same labels in all tasks (domain-incremental).
        seed: seed of the permutations.

    Raises:
        InputError: no tasks, or more classes in total than there are labels.

    """
    require_number("tasks", tasks, 1, whole=True)
    require_flag("new_classes", new_classes)
    require_seed("seed", seed)
    most = (LABELS + 1) // data.classes
    within = not new_classes or tasks <= most
    require(within, "tasks", given=tasks, expected=f"at most {most} of {data.classes} classes each")
    tasks = int(tasks)
    generator = torch.Generator().manual_seed(int(seed))
    made = []
    for task in range(tasks):
        pixels = data.images[0, 0].numel()
        order = torch.randperm(pixels, generator=generator) if task else torch.arange(pixels)
        shift = task * data.classes if new_classes else 0
        made.append(
            replace(
                data,
                name=f"{data.name}-{task}",
                images=data.images.flatten(2)[..., order].reshape(data.images.shape),
                test_images=data.test_images.flatten(2)[..., order].reshape(data.test_images.shape),
                labels=data.labels + shift,
                test_labels=data.test_labels + shift,
            )
        )
    return TaskStream(f"permuted-{data.name}", tuple(made), data.classes * (tasks if new_classes else 1))


def _order(order: Sequence[int], classes: int) -> tuple[int, ...]:
    """Classes in their order of arrival, each once."""
    sound = is_sequence(order) and all(isinstance(i, Integral) and not isinstance(i, bool) for i in order)
    whole = sound and sorted(order) == list(range(classes))
    require(whole, "order", given=shown(order), expected=f"classes 0 to {classes - 1}, each once")
    return tuple(int(i) for i in order)


def _only(data: ImageSet, classes: Sequence[int]) -> ImageSet:
    wanted = torch.tensor(classes)
    train, test = torch.isin(data.labels, wanted), torch.isin(data.test_labels, wanted)
    return ImageSet(
        f"{data.name}-{'-'.join(map(str, classes))}",
        data.images[train],
        data.labels[train],
        data.test_images[test],
        data.test_labels[test],
    )
