"""One training loop for trajectories and images."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ebm_control.checks import InputError, require
from ebm_control.data.batch import Batch
from ebm_control.energies.base import Energy
from ebm_control.samplers.chain import Chain, KernelSampler, Sampler
from ebm_control.tensors import outside_inference_mode
from ebm_control.training.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from ebm_control.training.guard import DivergenceError, Guard
from ebm_control.training.logger import Logger, as_figures
from ebm_control.training.losses import ContrastiveDivergence, LossTerms, Objective
from ebm_control.training.sample_buffer import SampleBuffer

Negatives = Callable[[int, Batch], Batch | None]


@dataclass(frozen=True)
class Training:
    """Outcome of `Trainer.fit`.

    Attributes:
        updates: updates done in this call.
        seconds: they took.
        rollbacks: times the guard stepped in, over the whole run.
        figures: the last that were logged.

    """

    updates: int
    seconds: float
    rollbacks: int
    figures: Mapping[str, float]


class Trainer:
    """Training of an energy by one objective, one update a batch; its negatives by the sampler from the sample buffer.

    Args:
        energy: what is trained; parameters without `requires_grad` (a fitted base, say) stay as they are.
        sampler: draws the negatives.
        buffer: where chains restart from.
        loss: the objective.
        optimizer: over the energy's parameters; None for Adam at 3e-4.
        scheduler: stepped once an update, or None.
        fixed: boolean, broadcast to a sample: coordinates that negatives share with the data they stand
            against (the state and action of a transition, for a conditional energy). None: none.
        planned: `(step, batch) -> Batch` of further negatives, a planner's own plans say, with their context
            where the energy has one; it may return None. See `ebm_control.planning.PlannedNegatives`.
        gradient_clip: largest gradient norm of an update.
        ema: decay of the averaged weights, less in the first updates: `min(ema, (1 + n) / (10 + n))`, so that short
            runs forget their first weights too; 0 for none. `averaged` is the energy to use afterwards.
        guard: limits of a healthy run.
        logger: where figures go; None logs nothing.
        checkpoints: folder for checkpoints; None writes none.
        checkpoint_every: updates between them.
        settings: JSON-safe description of the model, kept in checkpoints.
        seed: of the sampler's and buffer's noise.

    """

    @outside_inference_mode
    def __init__(
        self,
        energy: Energy,
        sampler: Sampler,
        buffer: SampleBuffer,
        loss: Objective | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
        fixed: Tensor | None = None,
        planned: Negatives | None = None,
        gradient_clip: float = 1.0,
        ema: float = 0.999,
        guard: Guard | None = None,
        logger: Logger | None = None,
        checkpoints: Path | str | None = None,
        checkpoint_every: int = 1000,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.energy, self.sampler, self.buffer = energy, sampler, buffer
        self.loss: Objective = loss or ContrastiveDivergence()
        self.parameters = [p for p in energy.parameters() if p.requires_grad]
        require(len(self.parameters) > 0, "energy", given="no trainable parameter", expected="at least one")
        self.optimizer = optimizer or torch.optim.Adam(self.parameters, lr=3e-4)
        self.scheduler = scheduler
        self.fixed, self.planned, self.gradient_clip = fixed, planned, gradient_clip
        self.guard, self.logger = guard or Guard(), logger or Logger(progress=False)
        self.checkpoints = None if checkpoints is None else Path(checkpoints)
        self.checkpoint_every, self.settings = checkpoint_every, dict(settings or {})
        require(checkpoint_every >= 1, "checkpoint_every", given=checkpoint_every, expected="at least 1")
        _require_json("settings", self.settings)
        self.generator = torch.Generator(self.parameters[0].device).manual_seed(seed)
        self.step, self.rollbacks = 0, 0
        self._seed = seed
        # use_buffers would average integer buffers too; base measures and scales do not change in training.
        self._average = AveragedModel(energy, multi_avg_fn=warm_ema(ema)) if ema else None

    @property
    def averaged(self) -> Energy:
        """The energy with averaged weights (the trained one itself where `ema=0`)."""
        module = self.energy if self._average is None else self._average.module
        assert isinstance(module, Energy)
        return module

    @outside_inference_mode
    @torch.enable_grad()
    def fit(self, batches: Iterator[Batch], steps: int) -> Training:
        """Train until `steps` updates are done in all: a resumed trainer does what is left.

        Also where the caller has switched gradients off (`torch.no_grad`, `torch.inference_mode`).

        Args:
            batches: endless; with `state_dict` and `load_state_dict` if runs are to be resumed bit for bit.
            steps: updates in all.

        Raises:
            DivergenceError: the guard has rolled back `max_rollbacks` times and the run ran away once more. The
                trainer is left as it was when last sound.
            CheckpointError: a checkpoint could not be written; the one before it survives.
            InputError: the folder for checkpoints holds some of a run that went further, or the sample buffer
                is too small for a chain a datum.

        """
        self._require_own_folder()
        chains = getattr(batches, "num_windows", 0) if self.loss.uses_chains else 0
        require(
            chains <= self.buffer.capacity,
            "buffer",
            given=f"a capacity of {self.buffer.capacity}",
            expected=f"at least {chains}, a chain for each window of the data",
        )
        first, started = self.step, time.perf_counter()
        figures: dict[str, float] = {}
        snapshot = self._snapshot()
        self.energy.train()
        with self.logger:
            self.logger.start(steps, self.step)
            while self.step < steps:
                batch = next(batches)
                terms, chain, norm = self._update(batch)
                self.step += 1
                last = self.step == steps
                save = self.checkpoints is not None and (last or self.step % self.checkpoint_every == 0)
                told = self.step % self.logger.every == 0
                # The guard looks before anything is saved or told: histograms of NaN would end the run.
                if save or told or last or self.step % self.guard.every == 0:
                    figures = self._figures(batch, terms, chain, norm)
                    complaint = self.guard.complaint(figures)
                    if complaint is not None:
                        self._roll_back(snapshot, complaint)
                        continue
                    if self.step - snapshot["step"] >= self.guard.snapshot_every:
                        snapshot = self._snapshot()
                self._report(figures, batch, terms, chain, started, first)
                if save:
                    self.save(batches)
        self.energy.eval()
        return Training(self.step - first, time.perf_counter() - started, self.rollbacks, figures)

    @outside_inference_mode
    @torch.enable_grad()
    def update(self, batch: Batch) -> float:
        """One update, where batches come one by one; nothing is logged, saved or rolled back. Returns the loss.

        Raises:
            DivergenceError: the guard finds the run unsound.

        """
        self.energy.train()
        terms, chain, norm = self._update(batch)
        self.step += 1
        if self.step % self.guard.every == 0:
            complaint = self.guard.complaint(self._figures(batch, terms, chain, norm))
            if complaint is not None:
                raise DivergenceError(f"update {self.step}: {complaint}")
        return float(terms.total.detach())

    def _update(self, batch: Batch) -> tuple[LossTerms, Chain | None, Tensor]:
        terms, chain = self.loss.of_batch(self.energy, batch, _Source(self, batch))
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.gradient_clip)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        if self._average is not None:
            self._average.update_parameters(self.energy)
        return terms, chain, norm

    def _figures(self, batch: Batch, terms: LossTerms, chain: Chain | None, norm: Tensor) -> dict[str, float]:
        data, samples = terms.tilt.tensor_split([len(batch.x)])
        found: dict[str, Tensor] = {"loss": terms.total.detach()}
        if len(samples):
            found |= {"gap": samples.mean() - data.mean(), "energy_samples": terms.negative.mean()}
        info = {} if chain is None else chain.info
        return as_figures(
            **found,
            gradient_norm=norm,
            max_tilt=terms.tilt.abs().max(),
            energy_data=terms.positive.mean(),
            **{f"sampler_{name}": value[-1] for name, value in info.items() if len(value)},
        )

    def _report(
        self,
        figures: Mapping[str, float],
        batch: Batch,
        terms: LossTerms,
        chain: Chain | None,
        started: float,
        first: int,
    ) -> None:
        self.logger.advance(self.step)
        if self.step % self.logger.every:
            return
        rate = (self.step - first) / (time.perf_counter() - started)
        learning_rate = self.optimizer.param_groups[0]["lr"]
        self.logger.figures(self.step, {**figures, "steps_per_second": rate, "learning_rate": learning_rate})
        self.logger.energies(self.step, terms.positive, terms.negative)
        if chain is not None and self.step % (10 * self.logger.every) == 0:
            self.logger.samples(self.step, chain.x, batch.x)

    def _roll_back(self, snapshot: dict[str, Any], complaint: str) -> None:
        rollbacks, seen = self.rollbacks + 1, self.step
        self.load_state_dict(snapshot)
        if rollbacks > self.guard.max_rollbacks:
            raise DivergenceError(self.guard.advice(complaint))
        self.rollbacks = rollbacks
        # The same noise would run away the same way.
        self.generator.manual_seed(self._seed + 7919 * rollbacks)
        self.logger.note(
            f"update {seen}: {complaint}; rolled back to update {self.step} and reseeded "
            f"({rollbacks} of {self.guard.max_rollbacks})"
        )

    def _require_own_folder(self) -> None:
        """A run that starts over must not mix its checkpoints with those of another, which `resume` would take."""
        latest = None if self.checkpoints is None else latest_checkpoint(self.checkpoints)
        require(
            latest is None or int(latest.name.removeprefix("step_")) <= self.step,
            "checkpoints",
            given=f"{latest}",
            expected=f"a folder with none beyond update {self.step}: resume, or choose another",
        )

    def _modules(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "energy": self.energy,
            "average": self._average,
            "buffer": self.buffer,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "planned": self.planned if hasattr(self.planned, "state_dict") else None,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """Everything a run needs to go on: tensors, numbers and containers of them."""
        state = {name: part.state_dict() for name, part in self._modules().items()}
        return state | {
            "generator": self.generator.get_state(),
            "step": self.step,
            "rollbacks": self.rollbacks,
        }

    def _snapshot(self) -> dict[str, Any]:
        return copy.deepcopy(self.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the trainer that gave `state` would have; the state itself is left alone."""
        for name, part in self._modules().items():
            part.load_state_dict(copy.deepcopy(state[name]))
        self.generator.set_state(state["generator"])
        self.step, self.rollbacks = int(state["step"]), int(state["rollbacks"])

    def save(self, batches: object = None) -> Path:
        """Write a checkpoint now: the averaged weights to use, and all that `resume` needs."""
        require(self.checkpoints is not None, "checkpoints", given=None, expected="a folder")
        assert self.checkpoints is not None
        state = self.state_dict()
        if hasattr(batches, "state_dict"):
            state["batches"] = batches.state_dict()
        content = Checkpoint(self.averaged.state_dict(), self.settings, state)
        return save_checkpoint(self.checkpoints, self.step, content)

    def resume(self, path: Path | str, batches: object = None) -> None:
        """Go on from a checkpoint, bit for bit on the CPU if `batches` can be resumed too.

        Raises:
            CheckpointError: it is not sound.
            InputError: it is of another model or optimiser.

        """
        state = load_checkpoint(path).state
        try:
            self.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(f"path: expected a checkpoint of this model, {path} is not: {error}") from error
        if "batches" in state and hasattr(batches, "load_state_dict"):
            batches.load_state_dict(state["batches"])


@dataclass(frozen=True)
class _Source:
    """A trainer's samples for one batch; see `losses.Source`."""

    trainer: Trainer
    batch: Batch

    @property
    def fixed(self) -> Tensor | None:
        return self.trainer.fixed

    @property
    def generator(self) -> torch.Generator:
        return self.trainer.generator

    def chains(self) -> Chain:
        """See `losses.Source`."""
        trainer, batch = self.trainer, self.batch
        start, slots = trainer.buffer.draw(len(batch.x), trainer.generator, slots=batch.index, data=batch.x)
        if trainer.fixed is not None:
            start = torch.where(trainer.fixed, batch.x, start)
        chain = trainer.sampler(
            trainer.energy, start, fixed=trainer.fixed, context=batch.context, generator=trainer.generator
        )
        trainer.buffer.store(slots, chain.x)
        return chain

    def further(self, x: Tensor) -> Tensor:
        """See `losses.Source`."""
        sampler = self.trainer.sampler
        require(
            isinstance(sampler, KernelSampler),
            "sampler",
            given=type(sampler).__name__,
            expected="one with steps",
        )
        assert isinstance(sampler, KernelSampler)
        return sampler.further(
            self.trainer.energy,
            x,
            fixed=self.trainer.fixed,
            context=self.batch.context,
            generator=self.trainer.generator,
        )

    def planned(self) -> Batch | None:
        """See `losses.Source`."""
        trainer = self.trainer
        return None if trainer.planned is None else trainer.planned(trainer.step, self.batch)


def _require_json(argument: str, value: Mapping[str, Any]) -> None:
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{argument}: expected figures, strings and containers of them, got {error}"
        ) from error


def warm_ema(decay: float) -> Callable[[Any, Any, Any], None]:
    """Moving average over lists of tensors, as `AveragedModel` calls it; no figure leaves the device."""

    def update(averaged: Any, current: Any, count: Tensor | int) -> None:
        n = torch.as_tensor(count, dtype=torch.float32)
        share = 1 - torch.clamp((1 + n) / (10 + n), max=decay)
        for average, value in zip(averaged, current, strict=True):
            average.lerp_(value, share.to(average))

    return update
