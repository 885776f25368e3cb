"""One training loop for trajectories and images."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ebm_control.checks import InputError, require, require_number, require_seed
from ebm_control.data.batch import Batch
from ebm_control.energies.base import Energy
from ebm_control.interrupts import uninterrupted
from ebm_control.locks import locked
from ebm_control.samplers.chain import Chain, Sampler
from ebm_control.tensors import outside_inference_mode
from ebm_control.threads import operations, threads_for
from ebm_control.training.averaging import warm_ema
from ebm_control.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    latest_checkpoint,
    load_checkpoint,
    number_of,
    one_line,
    save_checkpoint,
)
from ebm_control.training.fitting import Fitting, Training, metrics_of
from ebm_control.training.guard import DivergenceError, Guard
from ebm_control.training.logger import Logger, as_metrics
from ebm_control.training.negatives import Negatives, RandomNegatives, load_states, states_of
from ebm_control.training.objectives.contrastive import ContrastiveDivergence, LossTerms, Objective
from ebm_control.training.run_folder import require_json
from ebm_control.training.sample_buffer import Fresh, SampleBuffer
from ebm_control.training.source import TrainerSource
from ebm_control.training.watch import NotFiniteError, Watch


class Trainer:
    """Trains an energy with one objective, one update per batch; the sampler draws negatives from the sample buffer.

    Args:
        energy: energy to train; parameters without `requires_grad` (for example of a fitted base) stay unchanged.
        sampler: sampler of the negatives.
        sample_buffer: starts of the chains.
        loss: the objective.
        optimizer: optimiser of the energy's parameters; None for Adam at 3e-4.
        scheduler: stepped once per update, or None.
        fixed: boolean, broadcast to a sample: coordinates that negatives share with their datum. None for none.
        extra_negatives: sources `(step, batch) -> Batch` of further negatives, for example a planner's own plans, with
            a context if the energy has one; they may return None. See `ebm_control.planning.PlannedNegatives`.
        gradient_clip: greatest gradient norm of an update; infinite for no limit.
        ema: decay of the averaged weights; less in the first updates, `min(ema, (1 + n) / (10 + n))`, so that short
            runs forget their initial weights too; 0 for none. `averaged` is the energy to use afterwards.
        guard: limits of a healthy run.
        logger: logger of the metrics; None logs nothing.
        checkpoints: folder for checkpoints; None writes none.
        checkpoint_every: updates between checkpoints.
        settings: JSON-safe description of the model, stored in checkpoints.
        seed: seed of the sampler's and the buffer's noise.

    """

    @outside_inference_mode
    def __init__(
        self,
        energy: Energy,
        sampler: Sampler,
        sample_buffer: SampleBuffer,
        loss: Objective | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
        fixed: Tensor | None = None,
        extra_negatives: Sequence[Negatives] = (),
        gradient_clip: float = 1.0,
        ema: float = 0.999,
        guard: Guard | None = None,
        logger: Logger | None = None,
        checkpoints: Path | str | None = None,
        checkpoint_every: int = 1000,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.energy, self.sampler, self.sample_buffer = energy, sampler, sample_buffer
        self.loss: Objective = loss or ContrastiveDivergence()
        self.parameters = [p for p in energy.parameters() if p.requires_grad]
        require(len(self.parameters) > 0, "energy", given="no trainable parameter", expected="at least one")
        self.optimizer = optimizer or torch.optim.Adam(self.parameters, lr=3e-4, fused=True)
        self.scheduler = scheduler
        self.fixed, self.gradient_clip = fixed, gradient_clip
        self.extra_negatives = list(extra_negatives)
        self.guard, self.logger = guard or Guard(), logger or Logger(progress=False)
        self.checkpoints = None if checkpoints is None else Path(checkpoints)
        self.checkpoint_every, self.settings = checkpoint_every, dict(settings or {})
        require_number("checkpoint_every", checkpoint_every, 1, whole=True)
        if gradient_clip != math.inf:
            require_number("gradient_clip", gradient_clip, 0, above=True)
        require_number("ema", ema, 0, 1, below=True)
        require_seed("seed", seed)
        require_json("settings", self.settings)
        self.generator = torch.Generator(self.parameters[0].device).manual_seed(seed)
        self.step, self.rollbacks, self._seed = 0, 0, seed
        self._watch = Watch(self.parameters[0].device)
        # use_buffers would average integer buffers too; base measures and scales do not change in training.
        self._average = AveragedModel(energy, multi_avg_fn=warm_ema(ema)) if ema else None

    @property
    def averaged(self) -> Energy:
        """The energy with averaged weights (the trained energy itself if `ema=0`)."""
        module = self.energy if self._average is None else self._average.module
        assert isinstance(module, Energy)
        return module

    @outside_inference_mode
    @torch.enable_grad()
    def fit(self, batches: Iterator[Batch], steps: int) -> Training:
        """Train until `steps` updates are done in total; a resumed trainer does the remaining ones.

        It also works if the caller has disabled gradients (`torch.no_grad`, `torch.inference_mode`).

        Args:
            batches: endless iterator; needs `state_dict` and `load_state_dict` to resume runs bit for bit.
            steps: updates in total.

        Raises:
            DivergenceError: the run diverged again after `max_rollbacks` roll-backs. The trainer is then in its last
                healthy state.
            CheckpointError: a checkpoint could not be written; the previous one survives.
            InputError: the checkpoint folder holds a run that went further, another process writes to it, or the sample
                buffer is too small for one chain per datum.
            KeyboardInterrupt: Ctrl-C. The current update is finished first and, with a checkpoint folder, a checkpoint
                is written. Resuming from it gives bit for bit the run that would have continued.

        """
        require_number("steps", steps, 0, whole=True)
        chains = getattr(batches, "num_windows", 0) if self.loss.uses_chains else 0
        require(
            chains <= self.sample_buffer.capacity,
            "buffer",
            given=f"a capacity of {self.sample_buffer.capacity}",
            expected=f"at least {chains}, a chain for each window of the data",
        )
        run = Fitting(self.step, time.perf_counter(), self._snapshot())
        with self._folder_of_its_own(), self.logger:
            self.energy.train()
            self.logger.start(steps, self.step)
            try:
                while self.step < steps:
                    # A signal waits for the end of an update, so that the saved state is one between two updates.
                    with uninterrupted():
                        run.whole = False
                        self._fit_one(batches, steps, run)
                        run.whole = True
            except KeyboardInterrupt as stop:
                if run.whole:
                    self._leave_checkpoint(batches, run, stop)
                raise
        self.energy.eval()
        return Training(self.step - run.first, time.perf_counter() - run.started, self.rollbacks, run.metrics)

    def rebind(self, sampler: Sampler, fresh: Fresh, *, forget: bool = False) -> None:
        """Continue with other data, between two calls of `fit`.

        Args:
            sampler: sampler of the negatives from now on.
            fresh: starts of fresh chains, also used by `RandomNegatives` among the extra negatives.
            forget: start all chains afresh. Needed if windows have moved, because a chain would otherwise continue with
                another window than its own.

        """
        self.sampler, self.sample_buffer.fresh = sampler, fresh
        if forget:
            self.sample_buffer.forget()
        for source in self.extra_negatives:
            if isinstance(source, RandomNegatives):
                source.fresh = fresh

    def _fit_one(self, batches: Iterator[Batch], steps: int, run: Fitting) -> None:
        """One update of `fit`, and all logging, checks and checkpoints that are due after it."""
        batch = next(batches)
        try:
            with threads_for(operations(self.energy.parameters(), batch.x)):
                terms, chain, norm = run.last = self._update(batch)
        except NotFiniteError as error:
            self._roll_back(run.snapshot, str(error))
            run.last = None
            return
        run.batch = batch
        self.step += 1
        last = self.step == steps
        save = self.checkpoints is not None and (last or self.step % self.checkpoint_every == 0)
        report = self.step % self.logger.every == 0
        # The guard checks before anything is saved or logged: histograms of NaN would end the run.
        if save or report or last or self.step % self.guard.every == 0:
            run.metrics, complaint = self._look(batch, terms, chain, norm)
            if complaint is not None:
                self._roll_back(run.snapshot, complaint)
                run.last = None
                return
            if self.step - run.snapshot["step"] >= self.guard.snapshot_every:
                run.snapshot = self._snapshot()
        self._report(run.metrics, batch, terms, chain, run.started, run.first)
        if save:
            self.save(batches)

    def _leave_checkpoint(self, batches: Iterator[Batch], run: Fitting, stop: KeyboardInterrupt) -> None:
        """Save an interrupted run, unless it has diverged, and add a note about the checkpoint to `stop`."""
        if self.checkpoints is None:
            return
        if run.last is not None and run.batch is not None:
            _, complaint = self._look(run.batch, *run.last)
            if complaint is not None:
                stop.add_note(f"update {self.step} was not saved: {complaint}")
                return
        there = self.checkpoints / f"step_{self.step:08d}"
        try:
            path = there if run.last is None and there.exists() else self.save(batches)
        except CheckpointError as error:
            stop.add_note(str(error))
        else:
            stop.add_note(f"checkpoint of update {self.step} in {path}, to be resumed")

    @outside_inference_mode
    @torch.enable_grad()
    def update(self, batch: Batch) -> float:
        """One update for batches that come one by one; logs, saves and rolls back nothing. Returns the loss.

        Raises:
            DivergenceError: the guard finds that the run diverged.

        """
        self.energy.train()
        try:
            with threads_for(operations(self.energy.parameters(), batch.x)):
                terms, chain, norm = self._update(batch)
        except NotFiniteError as error:
            raise DivergenceError(f"update {self.step + 1}: {error}") from error
        self.step += 1
        if self.step % self.guard.every == 0:
            _, complaint = self._look(batch, terms, chain, norm)
            if complaint is not None:
                raise DivergenceError(f"update {self.step}: {complaint}")
        return float(terms.total.detach())

    def _update(self, batch: Batch) -> tuple[LossTerms, Chain | None, Tensor]:
        self._watch.batch(batch, self.step + 1)
        try:
            terms, chain = self.loss.of_batch(self.energy, batch, TrainerSource(self, batch))
        except InputError as error:
            # Samplers refuse to start from values that are not finite: report that to the guard, not the caller.
            complaint = self.guard.complaint(as_metrics(**self._watch.metrics(self.energy, self.averaged)))
            if complaint is None:
                raise
            raise NotFiniteError(complaint) from error
        self._watch.tilts(terms.tilt.detach())
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.gradient_clip)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        if self._average is not None:
            self._average.update_parameters(self.energy)
        return terms, chain, norm

    def _look(
        self, batch: Batch, terms: LossTerms, chain: Chain | None, norm: Tensor
    ) -> tuple[dict[str, float], str | None]:
        """Metrics of an update and the guard's complaint, read back from the device in one transfer."""
        watched = self._watch.metrics(self.energy, self.averaged) | self._watch.tilt(terms.tilt)
        metrics = as_metrics(**metrics_of(batch, terms, chain, norm), **watched)
        complaint = self.guard.complaint(metrics)
        return {name: value for name, value in metrics.items() if name not in watched}, complaint

    def _report(
        self,
        metrics: Mapping[str, float],
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
        self.logger.metrics(self.step, {**metrics, "steps_per_second": rate, "learning_rate": learning_rate})
        self.logger.energies(self.step, terms.positive, terms.negative)
        if chain is not None and self.step % (10 * self.logger.every) == 0:
            self.logger.samples(self.step, chain.x, batch.x)

    def _roll_back(self, snapshot: dict[str, Any], complaint: str) -> None:
        rollbacks, seen = self.rollbacks + 1, self.step
        self.load_state_dict(snapshot)
        self._watch.forget()
        if rollbacks > self.guard.max_rollbacks:
            raise DivergenceError(self.guard.advice(complaint))
        self.rollbacks = rollbacks
        # The same noise would diverge in the same way.
        self.generator.manual_seed(self._seed + 7919 * rollbacks)
        self.logger.note(
            f"update {seen}: {complaint}; rolled back to update {self.step} and reseeded "
            f"({rollbacks} of {self.guard.max_rollbacks})"
        )

    @contextmanager
    def _folder_of_its_own(self) -> Iterator[None]:
        """Lock the checkpoint folder against other processes, and protect a run in it that went further.

        A run that starts over must not mix its checkpoints with those of another run, which `resume` would load.
        """
        if self.checkpoints is None:
            yield
            return
        with locked(self.checkpoints / ".lock", "checkpoints"):
            latest = latest_checkpoint(self.checkpoints)
            require(
                latest is None or (number_of(latest) or 0) <= self.step,
                "checkpoints",
                given=f"{latest}",
                expected=f"a folder with none beyond update {self.step}: resume, or choose another",
            )
            yield

    def _modules(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "energy": self.energy,
            "average": self._average,
            "buffer": self.sample_buffer,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to continue: tensors, numbers and containers of them."""
        state = {name: part.state_dict() for name, part in self._modules().items()}
        planned = states_of(self.extra_negatives)
        if planned:
            state["planned"] = planned
        numbers = {"step": self.step, "rollbacks": self.rollbacks}
        return state | {"generator": self.generator.get_state()} | numbers

    def _snapshot(self) -> dict[str, Any]:
        return copy.deepcopy(self.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the trainer that returned `state` would have continued; `state` is not changed."""
        for name, part in self._modules().items():
            part.load_state_dict(copy.deepcopy(state[name]))
        load_states(self.extra_negatives, copy.deepcopy(state.get("planned", {})))
        self.generator.set_state(state["generator"])
        self.step, self.rollbacks = int(state["step"]), int(state["rollbacks"])

    def save(self, batches: object = None) -> Path:
        """Write a checkpoint now: the averaged weights, and everything that `resume` needs.

        Raises:
            CheckpointError: it could not be written; the previous one survives.
            DivergenceError: weights or averaged weights are not finite; nothing is written.

        """
        require(self.checkpoints is not None, "checkpoints", given=None, expected="a folder")
        assert self.checkpoints is not None
        if not math.isfinite(float(self._watch.metrics(self.energy, self.averaged)["weights"])):
            raise DivergenceError(f"update {self.step}: weights are not finite, nothing is saved")
        state = self.state_dict()
        if hasattr(batches, "state_dict"):
            state["batches"] = batches.state_dict()
        content = Checkpoint(self.averaged.state_dict(), self.settings, state)
        return save_checkpoint(self.checkpoints, self.step, content)

    def resume(self, path: Path | str, batches: object = None) -> None:
        """Continue from a checkpoint, bit for bit on the CPU if `batches` can be resumed too.

        Raises:
            CheckpointError: the checkpoint is damaged.
            InputError: it is of another model or optimiser.

        """
        state = load_checkpoint(path).state
        try:
            self.load_state_dict(state)
        except Exception as error:  # a state from another source can raise anything
            raise InputError(
                f"path: expected a checkpoint of this model, {path} is not: {one_line(error)}"
            ) from error
        if "batches" in state and hasattr(batches, "load_state_dict"):
            batches.load_state_dict(state["batches"])
