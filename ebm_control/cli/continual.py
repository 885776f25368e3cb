"""`ebm-control continual`: train a learner on one pass over a stream of tasks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ebm_control.checks import require, require_seed
from ebm_control.cli.limits import require_counts, require_numbers
from ebm_control.cli.run_folder import SUMMARY, RunFolder, plain, whole_file
from ebm_control.continual import Learner, LearnerSettings, Outcome, learn, make_learner
from ebm_control.continual.figures import draw_accuracies, draw_landscape
from ebm_control.data.images import NAMES, load_images
from ebm_control.data.streams import TaskStream, permuted_stream, split_stream

KINDS = ("split", "permuted")
MOST_SHOWN = 20  # classes in a picture of energies


@dataclass
class Continual:
    """Learn classes that arrive one task at a time, and report the accuracy on every task."""

    stream: str = "split-digits"
    """split-SET (a few classes per task) or permuted-SET (pixels in another order in each task), where SET is digits,
    mnist or fashion-mnist."""
    method: str = "ebm"
    """Energies: ebm, generative, generative-cd, generative-cd-shared, generative-replay, summed. Baselines: slda,
    softmax, softmax-seen, softmax-batch, ewc, online-ewc, si, lwf, lwf-mean."""
    memory_size: int = 0
    """Images that are stored and replayed."""
    boundaries: bool = True
    """Tasks follow each other and the learner is notified when one ends; otherwise consecutive tasks overlap."""
    tasks: int = 10
    """Number of tasks of a permuted stream."""
    per_task: int = 2
    """Classes per task of a split stream."""
    updates: int = 2000
    """Updates per task."""
    batch_size: int = 128
    """Images per update."""
    width: int = 400
    """Units of the hidden layers."""
    learning_rate: float | None = None
    """Learning rate of Adam; default: that of the method."""
    dropout: float = 0.0
    """Share of pixels set to 0 in training; with a memory, it reduces overfitting to the stored images."""
    averaging: float = 0.0
    """Decay of the averaged weights used for prediction, 0 for the current weights; useful with a memory."""
    penalty: float | None = None
    """Weight of the penalty of ewc, online-ewc or si; default: the value of the literature."""
    seed: int = 0
    """Seed of all random numbers."""
    data_dir: Path | None = None
    """Folder with mnist/ and fashion-mnist/ of idx files; default: the environment variable EBM_CONTROL_DATA."""
    out: Path = Path("runs/continual")
    """Run folder: settings; summary with accuracies of every task after every task; plots of them, and of the energies
    of all classes. A stream cannot be resumed: a run that is stopped (Ctrl-C, SIGTERM) leaves the summary of the
    finished tasks, marked as not finished."""

    def run(self) -> dict[str, Any]:
        """Learn; returns the summary with the accuracies after every task."""
        self._check()
        stream = self.opened()
        shared = {f.name: getattr(self, f.name) for f in fields(LearnerSettings) if hasattr(self, f.name)}
        learner = make_learner(self.method, LearnerSettings(stream.shape, stream.classes, **shared))
        with RunFolder(self.out, self) as folder:
            return self._learn(learner, stream, folder)

    def _check(self) -> None:
        require_counts(self, "tasks", "per_task", "updates", "batch_size", "width")
        require_counts(self, "memory_size", low=0)
        require_numbers(self, "learning_rate", above=True)
        require_numbers(self, "dropout", "averaging", high=1.0)
        require_numbers(self, "penalty")
        require_seed("seed", self.seed)

    def _learn(self, learner: Learner, stream: TaskStream, folder: RunFolder) -> dict[str, Any]:
        def unfinished(so_far: Outcome) -> None:
            # Written after every task, so that it exists however the run ends.
            known = {
                "accuracies": so_far.accuracies,
                "untrained": so_far.untrained,
                "seconds": so_far.seconds,
            }
            folder.summarise({"finished": False, "tasks": len(so_far.accuracies), **known})

        try:
            found = learn(
                learner,
                stream,
                updates=self.updates,
                batch_size=self.batch_size,
                overlap=None if self.boundaries else 0.5,
                seed=self.seed,
                report=unfinished,
            )
        except KeyboardInterrupt as stop:
            stop.add_note(f"tasks that were done are in {folder.path / SUMMARY}, marked as not finished")
            raise
        summary = {
            "finished": True,
            "accuracy": found.average,
            "forgetting": found.forgetting,
            "forward_transfer": found.forward_transfer,
            "backward_transfer": found.backward_transfer,
            "parameters": learner.parameters,
            "seconds": found.seconds,
            "accuracies": found.accuracies,
            "untrained": found.untrained,
        }
        folder.summarise(summary)
        with whole_file(folder.figures / "accuracies.png") as path:
            draw_accuracies(path, {self.method: found.accuracies})
        if stream.classes <= MOST_SHOWN:
            with whole_file(folder.figures / "landscape.png") as path:
                draw_landscape(path, found.scores)
        return plain(summary)

    def opened(self) -> TaskStream:
        """The stream named by `stream`."""
        kind, _, data = self.stream.partition("-")
        known = kind in KINDS and data in NAMES
        require(known, "stream", given=self.stream, expected=f"one of {KINDS}, a dash, and one of {NAMES}")
        images = load_images(data, self.data_dir)
        if kind == "split":
            return split_stream(images, self.per_task)
        return permuted_stream(images, self.tasks, seed=self.seed)
