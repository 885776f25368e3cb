"""Jobs: for each stream, method and seed one learner, trained on one pass over the stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ebm_control.continual import METHODS, LearnerSettings, learn, make_learner
from ebm_control.continual.methods import NEED_BOUNDARIES
from ebm_control.data import ImageSet, load_images
from ebm_control.data.images import NAMES
from ebm_control.data.streams import TaskStream, permuted_stream, split_stream


@dataclass(frozen=True)
class Stream:
    """Tasks of a set of images: disjoint classes, or all classes with permuted pixels."""

    data: str
    permuted: bool = False

    @property
    def name(self) -> str:
        """Name in the rows."""
        return f"{'permuted' if self.permuted else 'split'}-{self.data}"


KNOWN_STREAMS = {
    stream.name: stream for stream in (Stream(data, permuted) for permuted in (False, True) for data in NAMES)
}
STREAMS = ("split-mnist", "split-fashion-mnist", "permuted-mnist")
QUICK_STREAMS = ("split-digits",)
# Updates per task; without boundaries ten passes over the smallest task (Li et al. 2022).
UPDATES, UPDATES_FREE = 2000, 880
UPDATES_PERMUTED = 1000  # per task, as there are twice as many tasks
OVERLAP = 0.5  # of tasks without boundaries, as in Li et al. 2022
WIDTH = 400
MANY_TEST = 200  # test images per task with more than ten classes, the same for all methods
# Methods with chains take longer per update than the others, so they get fewer updates.
SHARES = {"generative-cd": 0.5, "generative-cd-shared": 0.25}


# Regularisation against overfitting the memory: input dropout, and decay of the averaged weights for prediction.
STEADIED = {"dropout": 0.4, "averaging": 0.998}


@dataclass(frozen=True)
class Compared:
    """A method, its memory size, and a learning rate if not the default; "joint" trains on all tasks at once."""

    learner: str
    kept: int = 0
    rate: float | None = None
    steadied: bool = False

    @property
    def name(self) -> str:
        """Name in the row."""
        said = f", {self.kept} kept" if self.kept else ""
        said += f", rate {self.rate:g}" if self.rate else ""
        return self.learner + said + (", steadied" if self.steadied else "")


COMPARED = (
    *(Compared(name) for name in METHODS if name != "summed"),
    *(Compared(name, kept) for name in ("ebm", "softmax-seen") for kept in (200, 1000)),
    *(Compared(name, 1000, steadied=True) for name in ("ebm", "softmax-seen")),
    Compared("summed", 1000),
    # A low learning rate forgets less: classifiers at the rate of "ebm".
    *(Compared(name, rate=1e-4) for name in ("softmax-seen", "softmax-batch")),
    Compared("joint"),
)


@dataclass(frozen=True)
class Job:
    """One learner on one stream."""

    stream: str
    free: bool
    compared: Compared
    seed: int
    quick: bool
    data_dir: Path | None = None
    held_out: bool = False

    @property
    def learner(self) -> str:
        return self.compared.learner

    @property
    def method(self) -> str:
        return self.compared.name

    @property
    def name(self) -> str:
        stream = f"{self.stream}{', held out' if self.held_out else ''}"
        return f"{stream}{', no boundaries' if self.free else ''}: {self.method}"


def jobs_of(
    streams: Iterable[str],
    seeds: Iterable[int],
    quick: bool,
    data_dir: Path | None = None,
    held_out: bool = False,
) -> Iterator[Job]:
    """Jobs stream by stream, and within a stream seed by seed."""
    for stream in streams:
        for seed in seeds:
            for free in (False, True):
                for one in COMPARED:
                    if not free or one.learner not in (*NEED_BOUNDARIES, "joint"):
                        yield Job(stream, free, one, seed, quick, data_dir, held_out)


def stream_of(name: str, seed: int, data_dir: Path | None = None) -> TaskStream:
    """The stream by its name; permutations differ between seeds."""
    stream = KNOWN_STREAMS[name]
    images = load_images(stream.data, data_dir)
    return permuted_stream(images, seed=seed) if stream.permuted else split_stream(images)


def held_out(stream: TaskStream, share: int = 10) -> TaskStream:
    """The stream with one in `share` training images held out as test images, for choosing settings."""
    tasks = []
    for task in stream.tasks:
        order = torch.randperm(len(task.labels), generator=torch.Generator().manual_seed(0))
        test, train = order.tensor_split([len(order) // share])
        parts = (task.images[train], task.labels[train], task.images[test], task.labels[test])
        tasks.append(ImageSet(task.name, *parts))
    return replace(stream, tasks=tuple(tasks))


def run(job: Job) -> list[dict[str, Any]]:
    """The row of a job."""
    stream = stream_of(job.stream, job.seed, job.data_dir)
    stream = shown = held_out(stream) if job.held_out else stream
    updates = UPDATES_FREE if job.free else UPDATES
    if KNOWN_STREAMS[job.stream].permuted:
        updates = UPDATES_PERMUTED
    updates = round(updates * SHARES.get(job.learner, 1.0) * (0.1 if job.quick else 1.0))
    # With a tenth of the updates the learning rate of the literature is too low.
    rate = job.compared.rate or (1e-3 if job.quick and job.learner == "ebm" else None)
    steadied = STEADIED if job.compared.steadied else {}
    kept = job.compared.kept
    kind = LearnerSettings(
        stream.shape, stream.classes, WIDTH, kept, not job.free, rate, seed=job.seed, **steadied
    )
    learner = make_learner("softmax" if job.learner == "joint" else job.learner, kind)
    if job.learner == "joint":
        shown, updates = replace(stream, tasks=(joined(stream),)), updates * len(stream.tasks)
    test = MANY_TEST if stream.classes > 10 else None
    found = learn(
        learner,
        shown,
        updates=updates,
        overlap=OVERLAP if job.free else None,
        test=test,
        tested=stream,
        seed=job.seed,
    )
    shows = job.seed == 0 and stream.classes <= 10 and job.learner != "joint"
    return [
        {
            "stream": job.stream,
            "boundaries": "unknown" if job.free else "known",
            "method": job.method,
            "seed": job.seed,
            "accuracy": found.average,
            "forgetting": None if job.learner == "joint" else found.forgetting,
            "forward_transfer": None if job.learner == "joint" else found.forward_transfer,
            "test": test,
            "updates": updates,
            "dropout": kind.dropout,
            "averaging": kind.averaging,
            "parameters": learner.parameters,
            "minutes": found.seconds / 60,
            "matrix": found.accuracies.round(4).tolist(),
            "scores": np.where(np.isnan(found.scores), None, found.scores.round(2)).tolist()
            if shows
            else None,
        }
    ]


def joined(stream: TaskStream) -> ImageSet:
    """All tasks as one set."""
    parts = [[task.images, task.labels, task.test_images, task.test_labels] for task in stream.tasks]
    images, labels, test_images, test_labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return ImageSet(stream.name, images, labels, test_images, test_labels)
