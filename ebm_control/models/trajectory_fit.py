"""Training of a trajectory model from rollouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ebm_control.checks import InputError, require, require_number
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.preparation import prepare as split_and_measure
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.data.windows import (
    StateBatches,
    WindowBatches,
    displacement_scale,
    steady_coordinates,
    window_batches,
)
from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.trajectory import TransitionEnergy
from ebm_control.energies.window import WindowEnergy
from ebm_control.models.base_fit import fit_base
from ebm_control.models.common import EnergyTrainSettings, fit_in_folder
from ebm_control.models.negative_chains import negatives_for
from ebm_control.models.recorded import RecordedRewards
from ebm_control.models.trajectory import ModelSettings, TrajectoryModel
from ebm_control.training.checkpoint import load_checkpoint
from ebm_control.training.guard import Guard
from ebm_control.training.logger import Logger
from ebm_control.training.negatives import Negatives, RandomNegatives
from ebm_control.training.objectives import LOSSES, Loss, objective
from ebm_control.training.regression import seeded
from ebm_control.training.run_folder import LearnedFrom
from ebm_control.training.sample_buffer import SampleBuffer
from ebm_control.training.trainer import Trainer


@dataclass(frozen=True)
class TrainSettings(EnergyTrainSettings):
    """Training settings of a trajectory energy; `EnergyTrainSettings` holds the settings shared by all energies.

    Args:
        model: settings of the model.
        updates: contrastive updates of the tilt.
        base_updates: regression updates of the base before them ("regression" bases only).
        batch_size: windows per update.
        learning_rate: initial learning rate of Adam, falling to a thirtieth along a cosine.
        loss: the objective. "cd": contrastive divergence with persistent chains; "cd-kl": the same with the KL term
            that contrastive divergence omits; "infonce": ranking noise-contrastive estimation against draws from the
            base; "dsm": denoising score matching over noise levels, sampled by annealed Langevin dynamics; "softplus"
            and "logsumexp": "cd" with another contrast of data and chains.
        random_negatives: additional negatives per update: random windows from the data's range. Use them with a joint
            energy and a loss that is bounded in the energy of negatives ("softplus").
        proposals: draws from the base per datum ("infonce").
        noise: lowest and highest noise level in units of the base's std ("dsm"): the lowest smaller than the
            differences between futures that matter, the highest larger than the distance between any two futures.
        held_out: fraction of the transitions that is held out to measure the base's std.

    """

    model: ModelSettings = field(default_factory=ModelSettings)
    updates: int = 2000
    base_updates: int = 3000
    batch_size: int = 256
    learning_rate: float = 3e-4
    loss: Loss = "cd"
    random_negatives: int = 0
    proposals: int = 8
    noise: tuple[float, float] = (0.03, 10.0)
    held_out: float = 0.05

    def __post_init__(self) -> None:
        made = isinstance(self.model, ModelSettings)
        require(made, "model", given=repr(self.model), expected="a ModelSettings")
        require(self.loss in LOSSES, "loss", given=self.loss, expected=f"one of {sorted(LOSSES)}")
        if self.loss == "dsm" and not self.model.noise:
            # This objective needs an energy that is conditioned on the noise level.
            object.__setattr__(self, "model", replace(self.model, noise=self.noise))
        require(
            bool(self.model.noise) == (self.loss == "dsm"),
            "model.noise",
            given=f"{self.model.noise} with loss {self.loss!r}",
            expected="noise levels with 'dsm' alone",
        )
        self.check(self.loss, self.updates, self.batch_size, self.noise)
        require_number("proposals", self.proposals, 1, whole=True)
        require_number("base_updates", self.base_updates, 0, whole=True)
        require_number("learning_rate", self.learning_rate, 0, above=True)
        require_number("held_out", self.held_out, 0, 1, above=True, below=True)
        require_number("random_negatives", self.random_negatives, 0, whole=True)
        require(
            self.random_negatives == 0 or self.model.joint,
            "random_negatives",
            given=f"{self.random_negatives}, joint={self.model.joint}",
            expected="0, or more with a joint energy",
        )


def fit_model(
    buffer: RolloutBuffer,
    settings: TrainSettings | None = None,
    *,
    folder: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
    guard: Guard | None = None,
    extra_negatives: Callable[[TrajectoryModel], Negatives] | None = None,
    device: torch.device | str = "cpu",
) -> TrajectoryModel:
    """Train a trajectory energy on rollouts: normalise, fit the base, then train the tilt with `settings.loss`.

    Args:
        buffer: rollouts with at least one window to train on and one to hold out. Outliers are left out
            (`ebm_control.data.outliers`).
        settings: see `TrainSettings`.
        folder: gets `checkpoints/` and TensorBoard events in `events/`; None writes nothing.
        resume: continue from the newest checkpoint of `folder`, if there is one.
        progress: show progress bars.
        guard: limits outside which training counts as diverged.
        extra_negatives: builds a source of additional negatives from the model in training, for example
            `lambda model: PlannedNegatives(planner_for(model, costs))`.
        device: training device.

    Returns:
        The model with averaged weights; its `training` is a summary of the training.

    Raises:
        InputError: too few data, `folder` holds checkpoints although `resume` is False, they belong to another model,
            other settings or other data, or another process uses `folder`.
        CheckpointError: the newest checkpoint is corrupt, or a checkpoint cannot be written.
        DivergenceError: see `Trainer.fit`.

    """
    settings = settings or TrainSettings()
    made: list[TrajectoryModel] = []

    def prepare(folder: Path | None, found: Path | None) -> tuple[Trainer, WindowBatches | StateBatches]:
        span = (settings.model.window - 1) * max(settings.model.gaps)
        train, held, normalizer = split_and_measure(buffer, settings.held_out, settings.seed, span)
        model = _untrained(train, normalizer, settings, device)
        _fit_or_take_up_base(model, train, held, settings, folder, found, progress, device)
        batches = batches_for(train, model, settings.batch_size, settings.seed, device)
        trainer = trainer_for(model, batches, settings, folder, progress, guard, device)
        if extra_negatives is not None:
            trainer.extra_negatives.append(extra_negatives(model))
        made.append(model)
        return trainer, batches

    energy, outcome = fit_in_folder(
        settings, settings.updates, lambda: _learned_from(buffer), folder, resume, prepare
    )
    assert isinstance(energy, TransitionEnergy | WindowEnergy)
    recorded = RecordedRewards.of(buffer, settings.seed)
    return TrajectoryModel(energy, made[0].normalizer, settings.model, outcome, recorded)


def _learned_from(buffer: RolloutBuffer) -> LearnedFrom:
    content = f"{len(buffer)} transitions in {buffer.num_episodes} episodes"
    units = {"normalizer": buffer.normalizer().to_dict()} if len(buffer) else {}
    return LearnedFrom("buffer", content, buffer.digest(), units)


def _fit_or_take_up_base(
    model: TrajectoryModel,
    train: RolloutBuffer,
    held: RolloutBuffer,
    settings: TrainSettings,
    folder: Path | None,
    found: Path | None,
    progress: bool,
    device: torch.device | str,
) -> None:
    """Regress the base of a new run; a resumed run takes it from its checkpoint."""
    energy = model.energy
    if not isinstance(energy.base, RegressionBase):
        return
    if found is not None:
        # This precedes the trainer: sampler and fresh chains take their scale from the base's std.
        _take_up(energy, found)
        energy.base.requires_grad_(False)
        return
    fitting = batches_for(train, model, settings.batch_size, settings.seed + 1, device)
    held_out = batches_for(held, model, settings.batch_size, settings.seed + 2, device)
    logger = Logger(None if folder is None else folder / "events" / "base", progress=progress)
    fit_base(energy, fitting, held_out, settings.base_updates, logger=logger)


def trainer_for(
    model: TrajectoryModel,
    batches: WindowBatches | StateBatches,
    settings: TrainSettings,
    folder: Path | None = None,
    progress: bool = False,
    guard: Guard | None = None,
    device: torch.device | str = "cpu",
    capacity: int | None = None,
) -> Trainer:
    """Trainer of a trajectory model, with one persistent chain per window.

    Chains are conditional on the window's start and actions; for a joint energy nothing is fixed. `capacity` is the
    largest number of windows there will ever be; None takes the number in `batches`.
    """
    energy, layout, joint = model.energy, model.layout, model.settings.joint
    rows = model.settings.window
    fixed = torch.ones(rows, layout.dim, dtype=torch.bool, device=device)
    fixed[rows - 1 if model.settings.kind == "transition" else 1 :, : layout.obs_dim] = False
    sampler, fresh = negatives_for(model, batches, settings.langevin_steps)
    trained_by = objective(
        settings.loss,
        energy_l2=settings.energy_l2,
        noise=settings.noise,
        scale=energy.coordinate_scale(),
        proposals=settings.proposals if energy.base is not None else 0,
    )
    chains = (capacity or batches.num_windows) if trained_by.uses_chains else 1
    sample_buffer = SampleBuffer(
        chains, (rows, layout.dim), fresh, fresh_fraction=settings.fresh_fraction, device=device
    )
    noise = settings.random_negatives
    parameters = [p for p in energy.parameters() if p.requires_grad]
    return settings.trainer(
        energy,
        sampler,
        sample_buffer,
        trained_by,
        torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True),
        updates=settings.updates,
        description=model.describe(),
        fixed=None if joint else fixed,
        extra_negatives=[RandomNegatives(fresh, noise, seed=settings.seed + 4, device=device)]
        if noise
        else [],
        folder=folder,
        progress=progress,
        guard=guard,
    )


def batches_for(
    buffer: RolloutBuffer,
    model: TrajectoryModel,
    batch_size: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> WindowBatches | StateBatches:
    """Endless batches of windows in the form that the model's energy takes."""
    settings = model.settings
    gaps = settings.gaps if len(settings.gaps) > 1 else None
    batches = window_batches(
        buffer,
        model.normalizer,
        batch_size,
        settings.window,
        settings.gaps[0],
        gaps=gaps,
        device=device,
        seed=seed,
    )
    return StateBatches(batches, model.layout.obs_dim) if settings.states_only else batches


def measure_displacements(model: TrajectoryModel, batches: WindowBatches | StateBatches) -> None:
    """Set an untrained energy's displacement scale from the data, and which coordinates are steady."""
    energy, layout = model.energy, model.layout
    energy.displacement_scale.copy_(displacement_scale(batches, layout))
    if isinstance(energy, TransitionEnergy):
        energy.set_steady(*steady_coordinates(batches, layout))


def _take_up(energy: TransitionEnergy | WindowEnergy, path: Path) -> None:
    """Load the weights of a checkpoint, including the std of its base."""
    state = load_checkpoint(path).state
    try:
        energy.load_state_dict(state["energy"])
    except (KeyError, RuntimeError) as error:
        raise InputError(f"folder: expected checkpoints of this model, {path} is not: {error}") from error


def _untrained(
    train: RolloutBuffer, normalizer: Normalizer, settings: TrainSettings, device: torch.device | str
) -> TrajectoryModel:
    with seeded(settings.seed):
        probe = TrajectoryModel.create(settings.model, normalizer, torch.ones(normalizer.layout.obs_dim))
        measure_displacements(probe, batches_for(train, probe, 4096, settings.seed))
    probe.energy.to(device)
    return probe
