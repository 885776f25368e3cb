"""The whole recipe: rollouts in, trajectory model out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebm_control.checks import InputError, require
from ebm_control.data.batch import Batch
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.data.windows import WindowBatches, displacement_scale, window_batches
from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.trajectory import TransitionEnergy, WindowEnergy
from ebm_control.samplers.langevin import Langevin
from ebm_control.samplers.schedules import Linear
from ebm_control.training.base_fit import fit_base
from ebm_control.training.checkpoint import latest_checkpoint, load_checkpoint
from ebm_control.training.guard import Guard
from ebm_control.training.logger import Logger
from ebm_control.training.losses import ContrastiveDivergence, ContrastiveLoss, InfoNCE, LogSumExp, Softplus
from ebm_control.training.model import ModelSettings, TrajectoryModel
from ebm_control.training.negatives import RandomNegatives, Together
from ebm_control.training.regression import seeded
from ebm_control.training.sample_buffer import Fresh, SampleBuffer, displaced, scattered
from ebm_control.training.trainer import Negatives, Trainer, Training

LOSSES: Mapping[str, type[ContrastiveLoss]] = {
    "cd": ContrastiveDivergence,
    "softplus": Softplus,
    "logsumexp": LogSumExp,
    "infonce": InfoNCE,
}


@dataclass(frozen=True)
class TrainSettings:
    """How a trajectory energy is trained.

    Args:
        model: what is trained.
        updates: contrastive updates of the tilt.
        base_updates: regression updates of the base before them ("regression" bases only).
        batch: windows an update.
        learning_rate: of Adam, falling to a thirtieth along a cosine.
        loss: "cd", "softplus", "logsumexp" or "infonce".
        energy_l2: weight of the squared tilt.
        random_negatives: windows of noise an update, from anywhere in the data's range, as further negatives; take
            a loss that is bounded in them ("softplus"). For a joint energy.
        langevin_steps: of each negative chain.
        fresh_fraction: share of chains that start afresh.
        gradient_clip: of each update.
        ema: decay of the averaged weights.
        held_out: share of the episodes that the base's deviation is measured on.
        checkpoint_every: updates between checkpoints.
        seed: of everything that is drawn.

    """

    model: ModelSettings = field(default_factory=ModelSettings)
    updates: int = 2000
    base_updates: int = 3000
    batch: int = 256
    learning_rate: float = 3e-4
    loss: str = "cd"
    energy_l2: float = 0.1
    random_negatives: int = 0
    langevin_steps: int = 20
    fresh_fraction: float = 0.05
    gradient_clip: float = 1.0
    ema: float = 0.999
    held_out: float = 0.05
    checkpoint_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.loss in LOSSES, "loss", given=self.loss, expected=f"one of {sorted(LOSSES)}")
        require(self.updates >= 1, "updates", given=self.updates, expected="at least 1")
        require(
            self.random_negatives == 0 or (self.random_negatives > 0 and self.model.joint),
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
    planned: Callable[[TrajectoryModel], Negatives] | None = None,
    device: torch.device | str = "cpu",
) -> tuple[TrajectoryModel, Training]:
    """Train a trajectory energy on rollouts: normalise, fit the base, then the tilt by contrastive divergence.

    Args:
        buffer: rollouts, at least 2 episodes.
        settings: see `TrainSettings`.
        folder: gets `checkpoints/` and TensorBoard events in `events/`; None writes nothing.
        resume: go on from the newest checkpoint of `folder`, if there is one.
        progress: show progress bars.
        guard: limits of a healthy run.
        planned: makes a source of further negatives from the model in training, such as
            `lambda model: PlannedNegatives(planner_for(model, costs))`.
        device: where to train.

    Returns:
        The model with averaged weights, and how training went.

    Raises:
        InputError: fewer than 2 episodes, `folder` holds checkpoints although `resume` is False, or they are of
            another model or of other settings.
        CheckpointError: the newest checkpoint is not sound, or one cannot be written.
        DivergenceError: see `Trainer.fit`.

    """
    settings = settings or TrainSettings()
    folder = None if folder is None else Path(folder)
    found = latest_checkpoint(folder / "checkpoints") if folder is not None else None
    require(
        resume or found is None, "folder", given=f"{found}", expected="none with checkpoints, or resume=True"
    )
    if found is not None:
        _require_same(settings, found)
    train, held = _split(buffer, settings)
    model = _untrained(train, buffer, settings, device)
    _fit_or_take_up_base(model, train, held, settings, folder, found, progress, device)
    batches = batches_for(train, model, settings.batch, settings.seed, device)
    trainer = trainer_for(model, batches, settings, folder, progress, guard, device)
    if planned is not None:
        trainer.planned = Together([*([] if trainer.planned is None else [trainer.planned]), planned(model)])
    if found is not None:
        trainer.resume(found, batches)
    outcome = trainer.fit(batches, settings.updates)
    averaged = trainer.averaged
    assert isinstance(averaged, TransitionEnergy | WindowEnergy)
    averaged.eval().requires_grad_(False)
    return TrajectoryModel(averaged, model.normalizer, settings.model), outcome


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
    """Regress the base of a new run; that of a resumed one comes with its checkpoint."""
    energy = model.energy
    if not isinstance(energy, TransitionEnergy) or not isinstance(energy.base, RegressionBase):
        return
    if found is not None:
        # Before the trainer is made: sampler and fresh chains take their scale from the base's deviation.
        _take_up(energy, found)
        energy.base.requires_grad_(False)
        return
    fitting = batches_for(train, model, settings.batch, settings.seed + 1, device)
    held_out = batches_for(held, model, settings.batch, settings.seed + 2, device)
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
    """Trainer of a trajectory model: one persistent chain a window.

    Chains are conditional on the window's start and actions, or free where the energy is joint. `capacity` is the most
    windows there will ever be; None where there will be no more than `batches` has.
    """
    energy, layout, joint = model.energy, model.layout, model.settings.joint
    rows = model.settings.window
    fixed = torch.ones(rows, layout.dim, dtype=torch.bool, device=device)
    fixed[rows - 1 if model.settings.kind == "transition" else 1 :, : layout.obs_dim] = False
    sampler, fresh = negatives_for(model, batches, settings.langevin_steps)
    sample_buffer = SampleBuffer(
        capacity or batches.num_windows,
        (rows, layout.dim),
        fresh,
        fresh_fraction=settings.fresh_fraction,
        device=device,
    )
    parameters = [p for p in energy.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
    return Trainer(
        energy,
        sampler,
        sample_buffer,
        LOSSES[settings.loss](settings.energy_l2),
        optimizer,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, settings.updates, settings.learning_rate / 30
        ),
        fixed=None if joint else fixed,
        planned=RandomNegatives(fresh, settings.random_negatives, seed=settings.seed + 4, device=device)
        if settings.random_negatives
        else None,
        gradient_clip=settings.gradient_clip,
        ema=settings.ema,
        guard=guard,
        logger=Logger(None if folder is None else folder / "events", progress=progress),
        checkpoints=None if folder is None else folder / "checkpoints",
        checkpoint_every=settings.checkpoint_every,
        settings=model.describe() | {"train": _plain(settings)},
        seed=settings.seed + 3,
    )


def negatives_for(
    model: TrajectoryModel, batches: WindowBatches | StateBatches, steps: int
) -> tuple[Langevin, Fresh]:
    """Sampler of training negatives and where its fresh chains start: at the model's scale, within the data's range."""
    energy, layout = model.energy, model.layout
    scale = energy.next_deviation() if isinstance(energy, TransitionEnergy) else energy.displacement_scale
    if not model.settings.joint:
        return negative_sampler(model, steps), displaced(layout, 3 * scale)
    low, high = _data_range(batches, layout)
    return negative_sampler(model, steps, (low, high)), scattered(layout, low, high, scale)


def negative_sampler(
    model: TrajectoryModel, steps: int, bounds: tuple[Tensor, Tensor] | None = None
) -> Langevin:
    """Langevin for training negatives, preconditioned by the energy's own scale.

    For a joint energy it is exact at temperature 1, and states stay within `bounds` (low, high), `(obs_dim,)`
    each: there its density has to be learned, which is flat beyond the data otherwise.

    Around a regression base the energy is near a standard normal in that scale, and exact Langevin mixes in tens
    of steps. Without one the tilt alone shapes the density; the cold dynamics of Du & Mordatch 2019 are used.
    """
    energy = model.energy
    if isinstance(energy, TransitionEnergy) and isinstance(energy.base, RegressionBase):
        scale = (*energy.next_deviation().tolist(), *[1.0] * model.layout.act_dim)
        return Langevin(steps, Linear(0.3, 0.06), scale=scale)
    scale = (*energy.displacement_scale.tolist(), *[1.0] * model.layout.act_dim)
    if bounds is not None:
        free = [float("inf")] * model.layout.act_dim
        low, high = (bound.tolist() for bound in bounds)
        clamp = ((*low, *[-f for f in free]), (*high, *free))
        return Langevin(steps, Linear(0.3, 0.06), scale=scale, clamp=clamp)
    return Langevin(steps, 0.5, noise=0.02, scale=scale, gradient_clip=1.0)


class StateBatches(Iterator[Batch]):
    """Windows without their actions, for energies over states alone."""

    def __init__(self, batches: WindowBatches, obs_dim: int) -> None:
        self.batches, self.obs_dim = batches, obs_dim

    @property
    def num_windows(self) -> int:
        """Distinct windows."""
        return self.batches.num_windows

    def __next__(self) -> Batch:
        batch = next(self.batches)
        return batch._replace(x=batch.x[..., : self.obs_dim])

    def state_dict(self) -> dict[str, Tensor]:
        """State of the draw."""
        return self.batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where the iterator that gave `state` would have."""
        self.batches.load_state_dict(state)


def batches_for(
    buffer: RolloutBuffer,
    model: TrajectoryModel,
    batch: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> WindowBatches | StateBatches:
    """Endless windows as the model's energy takes them."""
    settings = model.settings
    gaps = settings.gaps if len(settings.gaps) > 1 else None
    batches = window_batches(
        buffer,
        model.normalizer,
        batch,
        settings.window,
        settings.gaps[0],
        gaps=gaps,
        device=device,
        seed=seed,
    )
    return StateBatches(batches, model.layout.obs_dim) if settings.states_only else batches


def _data_range(batches: WindowBatches | StateBatches, layout: TrajectoryLayout) -> tuple[Tensor, Tensor]:
    """Corners `(obs_dim,)` of the box of all states, a twentieth wider on each side than the data."""
    source = batches.batches if isinstance(batches, StateBatches) else batches
    low, high = (bound[: layout.obs_dim] for bound in source.range())
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def _take_up(energy: TransitionEnergy | WindowEnergy, path: Path) -> None:
    """Weights of a checkpoint, and with them the deviation of its base."""
    state = load_checkpoint(path).state
    try:
        energy.load_state_dict(state["energy"])
    except (KeyError, RuntimeError) as error:
        raise InputError(f"folder: expected checkpoints of this model, {path} is not: {error}") from error


def _plain(settings: TrainSettings) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    return dict(json.loads(json.dumps(asdict(settings))))


def _require_same(settings: TrainSettings, found: Path) -> None:
    """Raise `InputError` where a run would go on under other settings than it began with."""
    before, now = load_checkpoint(found).settings.get("train", {}), _plain(settings)
    changed = sorted(name for name in now if before.get(name) != now[name] and name != "checkpoint_every")
    require(
        not changed,
        "settings",
        given={name: now[name] for name in changed},
        expected=f"those that {found} began with, { ({name: before.get(name) for name in changed}) }",
    )


def _split(buffer: RolloutBuffer, settings: TrainSettings) -> tuple[RolloutBuffer, RolloutBuffer]:
    require(
        buffer.num_episodes >= 2, "buffer", given=f"{buffer.num_episodes} episodes", expected="at least 2"
    )
    held, train = buffer.split(settings.held_out, np.random.default_rng(settings.seed))
    return train, held


def _untrained(
    train: RolloutBuffer, buffer: RolloutBuffer, settings: TrainSettings, device: torch.device | str
) -> TrajectoryModel:
    normalizer = buffer.normalizer()
    with seeded(settings.seed):
        probe = TrajectoryModel.create(settings.model, normalizer, torch.ones(normalizer.layout.obs_dim))
        batches = batches_for(train, probe, 4096, settings.seed)
        probe.energy.displacement_scale.copy_(displacement_scale(batches, probe.layout))
    probe.energy.to(device)
    return probe
