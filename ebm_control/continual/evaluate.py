"""Learning from a stream, with an evaluation on every task after every task."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import require, require_number
from ebm_control.continual.learners import Learner
from ebm_control.data.images import ImageSet
from ebm_control.data.streams import TaskStream


@dataclass(frozen=True)
class Outcome:
    """Accuracies and scores of a learner on every task, over the course of a stream.

    Attributes:
        accuracies: `(T, T)`: accuracy on test images of task j after task i (without boundaries: at the end of task
            i's period), among all classes observed so far. `(S, T)` where a stream of S tasks was learned and one of T
            tasks was tested.
        untrained: `(T,)` accuracies before training; 0 for learners that predict only observed classes.
        scores: `(T, classes, classes)` mean centred logits after each task: test images of a class (axis 1), logit of
            a class (axis 2). For an energy, its negative landscape. NaN for classes that were not observed.
        seconds: training time, without evaluation.
        boundaries: whether tasks were learned one after the other.

    """

    accuracies: NDArray[np.float64]
    untrained: NDArray[np.float64]
    scores: NDArray[np.float64]
    seconds: float
    boundaries: bool = True

    @property
    def average(self) -> float:
        """Mean accuracy over all tasks at the end."""
        return float(self.accuracies[-1].mean())

    @property
    def forgetting(self) -> float:
        """Best minus final accuracy, a mean over all tasks but the last (Chaudhry et al. 2018)."""
        if len(self.accuracies) < 2:
            return 0.0
        best = self.accuracies[:-1, :-1].max(axis=0)
        return float((best - self.accuracies[-1, :-1]).mean())

    @property
    def forward_transfer(self) -> float | None:
        """Accuracy just before a task minus the untrained learner's, a mean over tasks (Lopez-Paz & Ranzato 2017).

        0 where every task has new classes. None where tasks overlap, or where other tasks were tested than were
        learned.
        """
        if not self._one_after_the_other:
            return None
        before = np.diagonal(self.accuracies, offset=1)
        return float((before - self.untrained[1:]).mean()) if len(before) else 0.0

    @property
    def backward_transfer(self) -> float | None:
        """Final accuracy minus that right after the task, a mean over all tasks but the last (same source).

        Equals minus `forgetting` if a task's accuracy is best right after it. None as for `forward_transfer`.
        """
        if not self._one_after_the_other:
            return None
        after = np.diagonal(self.accuracies)[:-1]
        return float((self.accuracies[-1, :-1] - after).mean()) if len(after) else 0.0

    @property
    def _one_after_the_other(self) -> bool:
        return self.boundaries and self.accuracies.shape[0] == self.accuracies.shape[1]


def learn(
    learner: Learner,
    stream: TaskStream,
    *,
    updates: int = 2000,
    batch_size: int = 128,
    overlap: float | None = None,
    test: int | None = None,
    tested: TaskStream | None = None,
    seed: int = 0,
    report: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Train a learner on one pass over a stream, and evaluate it on all tasks after every task.

    Args:
        learner: the learner to train.
        stream: the tasks.
        updates: updates per task.
        batch_size: images per update.
        overlap: see `TaskStream.batches`; the learner is notified of the end of a task only if this is None.
        test: test images per task, the same for all learners; None for all.
        tested: stream of the tasks to test on, with the same classes; None for `stream`.
        seed: seed of the batches.
        report: called after each task with the outcome so far, with one row per finished task.

    Raises:
        InputError: a value is out of range, `tested` has other classes, or the learner needs task boundaries and the
            stream has none.

    """
    batches = stream.batches(updates, batch_size, overlap=overlap, seed=seed)
    if test is not None:
        require_number("test", test, 1, whole=True)
    blind = overlap is not None and learner.needs_boundaries
    require(not blind, "overlap", given=overlap, expected="None: the learner needs boundaries of tasks")
    classes = stream.classes if tested is None else tested.classes
    require(classes == stream.classes, "tested", given=f"{classes} classes", expected=f"{stream.classes}")
    sets = [_asked(task, test) for task in (tested or stream).tasks]
    untrained = np.array([_accuracy(learner, *one) for one in sets])
    rows, scores, seconds, began = [], [], 0.0, time.perf_counter()
    for step, drawn in enumerate(batches, 1):
        learner.observe(drawn)
        if step % updates:
            continue
        if overlap is None:
            ended = stream.tasks[step // updates - 1]
            learner.finish_task(ended.part("train"), ended.labels)
        seconds += time.perf_counter() - began
        rows.append([_accuracy(learner, *one) for one in sets])
        scores.append(_scores(learner, sets, stream.classes))
        found = Outcome(np.array(rows), untrained, np.stack(scores), seconds, overlap is None)
        if report is not None:
            report(found)
        began = time.perf_counter()
    return found


def _asked(task: ImageSet, count: int | None) -> tuple[Tensor, Tensor]:
    """Randomly drawn test images and labels; the first ones of a set may be atypical (MNIST's are harder)."""
    images, labels = task.part("test"), task.test_labels
    if count is None or count >= len(labels):
        return images, labels
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:count]
    return images[chosen], labels[chosen]


def _accuracy(learner: Learner, images: Tensor, labels: Tensor) -> float:
    return float((learner.predict(images) == labels).double().mean())


@torch.no_grad()
def _scores(
    learner: Learner, sets: list[tuple[Tensor, Tensor]], classes: int, count: int = 100
) -> NDArray[np.float64]:
    """Mean logits of a few images of each class and task, minus their mean over the observed classes."""
    total, count_of = np.zeros((classes, classes)), np.zeros(classes)
    for images, labels in sets:
        for label in labels.unique().tolist():
            logits = learner.logits(images[labels == label][:count])
            logits = torch.where(logits.isfinite(), logits, torch.nan)
            total[label] += (logits - logits.nanmean(dim=1, keepdim=True)).sum(dim=0).numpy()
            count_of[label] += len(logits)
    return np.where(count_of[:, None] > 0, total / np.maximum(count_of, 1)[:, None], np.nan)
