"""What trajectory and image training share: common settings, and training in a run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebm_control.checks import as_python, require, require_levels, require_number, require_seed
from ebm_control.data.batch import Batch
from ebm_control.energies.base import Energy
from ebm_control.samplers.chain import Sampler
from ebm_control.training.fitting import Training
from ebm_control.training.guard import Guard
from ebm_control.training.logger import Logger
from ebm_control.training.negatives import Negatives
from ebm_control.training.objectives import Objective
from ebm_control.training.run_folder import LearnedFrom, checkpoint_to_resume, folder_of_one, plain
from ebm_control.training.sample_buffer import SampleBuffer
from ebm_control.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class EnergyTrainSettings:
    """Training settings shared by all energies.

    Args:
        energy_l2: weight of the penalty on the squared tilt, or on the squared energy if it has no base.
        langevin_steps: Langevin steps per negative chain and update.
        fresh_fraction: fraction of chains that are restarted.
        gradient_clip: largest gradient norm per update.
        ema: decay of the exponential moving average of the weights.
        checkpoint_every: updates between checkpoints.
        seed: seed of all random numbers.

    """

    energy_l2: float = 0.1
    langevin_steps: int = 20
    fresh_fraction: float = 0.05
    gradient_clip: float = 1.0
    ema: float = 0.999
    checkpoint_every: int = 500
    seed: int = 0

    def check(self, loss: str, updates: int, batch_size: int, noise: tuple[float, float]) -> None:
        """Raise `InputError` if a setting is out of its range; the arguments are settings of the subclass."""
        as_python(self)
        for name, value in (("updates", updates), ("batch_size", batch_size)):
            require_number(name, value, 1, whole=True)
        for name in ("langevin_steps", "checkpoint_every"):
            require_number(name, getattr(self, name), 1, whole=True)
        # "cd-kl" estimates an entropy from distances between samples.
        require(loss != "cd-kl" or batch_size >= 2, "batch_size", given=batch_size, expected="2 or more")
        require_number("energy_l2", self.energy_l2, 0)
        require_number("fresh_fraction", self.fresh_fraction, 0, 1)
        require_levels("noise", noise)
        require_number("gradient_clip", self.gradient_clip, 0, above=True)
        require_number("ema", self.ema, 0, 1, below=True)
        require_seed("seed", self.seed)

    def trainer(
        self,
        energy: Energy,
        sampler: Sampler,
        sample_buffer: SampleBuffer,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        *,
        updates: int,
        description: Mapping[str, Any],
        fixed: Tensor | None = None,
        extra_negatives: Sequence[Negatives] = (),
        folder: Path | None = None,
        progress: bool = False,
        guard: Guard | None = None,
    ) -> Trainer:
        """Trainer of an energy; a cosine schedule lowers its learning rate to a thirtieth over `updates`.

        `description` holds the settings that rebuild the model from a checkpoint, see `Trainer(settings=...)`.
        """
        least = optimizer.param_groups[0]["lr"] / 30
        return Trainer(
            energy,
            sampler,
            sample_buffer,
            objective,
            optimizer,
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates, least),
            fixed=fixed,
            extra_negatives=extra_negatives,
            gradient_clip=self.gradient_clip,
            ema=self.ema,
            guard=guard,
            logger=Logger(None if folder is None else folder / "events", progress=progress),
            checkpoints=None if folder is None else folder / "checkpoints",
            checkpoint_every=self.checkpoint_every,
            settings={**description, "train": plain(self)},
            seed=self.seed + 3,
        )


def fit_in_folder(
    settings: EnergyTrainSettings,
    updates: int,
    learned_from: Callable[[], LearnedFrom],
    folder: Path | str | None,
    resume: bool,
    prepare: Callable[[Path | None, Path | None], tuple[Trainer, Iterator[Batch]]],
) -> tuple[Energy, Training]:
    """Train in a run folder, from the start or from its newest checkpoint.

    Args:
        settings: settings of the run; a checkpoint with other settings is refused.
        updates: updates of the energy.
        learned_from: describes the training data; a run on other data is not resumed.
        folder: run folder; None writes nothing.
        resume: whether to continue from a checkpoint if one exists.
        prepare: builds trainer and batches from the folder and the checkpoint to resume (None for a new run).

    Returns:
        The energy with averaged weights, which require no gradients, and a summary of the training.

    Raises:
        InputError: `folder` holds checkpoints although `resume` is False, they have other settings or other data, or
            another process uses `folder`.
        CheckpointError: the newest checkpoint is corrupt, or a checkpoint cannot be written.
        DivergenceError: see `Trainer.fit`.

    """
    folder = None if folder is None else Path(folder)
    with folder_of_one(folder):
        data = learned_from()
        found = checkpoint_to_resume(settings, folder, resume, data)
        trainer, batches = prepare(folder, found)
        trainer.settings |= data.kept()
        if found is not None:
            trainer.resume(found, batches)
        outcome = trainer.fit(batches, updates)
    averaged = trainer.averaged
    averaged.eval().requires_grad_(False)
    return averaged, outcome
