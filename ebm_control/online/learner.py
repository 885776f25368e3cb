"""Models that are trained repeatedly on growing data: energies, and the baselines they are compared with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ebm_control.baselines import Baseline, BaselineSettings
from ebm_control.baselines.bootstrap import stream_bootstrap_counts
from ebm_control.baselines.fit import held_out_error
from ebm_control.baselines.settings import Kind
from ebm_control.checks import require
from ebm_control.data import Normalizer, RolloutBuffer
from ebm_control.data.batch import Batch
from ebm_control.data.windows import displacement_scale, steady_coordinates, window_batches
from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.trajectory import TransitionEnergy
from ebm_control.models import TrainSettings, TrajectoryModel, batches_for, trainer_for
from ebm_control.models.base_fit import fit_base
from ebm_control.models.negative_chains import negatives_for
from ebm_control.models.trajectory_fit import measure_displacements
from ebm_control.training.fitting import Training
from ebm_control.training.regression import regress, seeded

Model = TrajectoryModel | Baseline


class Learner(Protocol):
    """A model that is trained in rounds, each starting from the present weights."""

    @property
    def model(self) -> Model:
        """The model from which planners are built."""
        ...

    @property
    def displacement_scale(self) -> Tensor:
        """A typical displacement `(obs_dim,)`, in the units of the trajectory."""
        ...

    def begin(self, data: RolloutBuffer, normalizer: Normalizer) -> None:
        """Build an untrained model in these units, with the displacement scale of the first data."""
        ...

    def update(self, data: RolloutBuffer, validation: RolloutBuffer, plans: Tensor) -> dict[str, float]:
        """Train for one round.

        Args:
            data: all transitions executed so far, oldest first; earlier rounds used the beginning of them.
            validation: held-out transitions, which are never trained on.
            plans: `(M, 2, D)` planned transitions, in the units of the trajectory: negatives for an energy.

        Returns:
            Metrics of the round.

        """
        ...

    def surprise(self, x: Tensor) -> Tensor:
        """How unlikely transitions `(B, 2, D)` are, `(B,)`: `obs_dim / 2` on average for a correct model."""
        ...

    def error(self, x: Tensor) -> Tensor:
        """Root mean square error `(B,)` of the predicted second states of transitions `(B, 2, D)`.

        It is in typical displacements.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """State to continue from: tensors, numbers and containers of them."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state, after `begin` with the same data and normaliser."""
        ...


class EnergyLearner:
    """A transition energy: each round regresses its base, then trains its tilt by contrastive divergence.

    Executed transitions are the data. Negatives come from the sampler and from plans (Du, Lin & Mordatch 2019).

    Args:
        settings: `base_updates` and `updates` are per round; the tilt's learning rate is constant.
        transitions: largest number of transitions there will ever be, which is the number of chains in the buffer.
        planned: planned transitions among the negatives per update; 0 for none.

    Raises:
        InputError: the energy is not one of single transitions.

    """

    model: TrajectoryModel

    def __init__(self, settings: TrainSettings, transitions: int, planned: int = 64) -> None:
        model = settings.model
        require(
            model.kind == "transition" and model.window == 2 and model.gaps == (1,),
            "settings.model",
            given=f"kind {model.kind}, window {model.window}, gaps {model.gaps}",
            expected="an energy of transitions: kind transition, window 2, gaps (1,)",
        )
        # Averaged weights would lag behind a base that is fitted again in every round.
        self.settings = replace(settings, ema=0.0)
        self.transitions = transitions
        self._seen: tuple[RolloutBuffer | None, int] = (None, 0)
        self.plans = PlannedWindows(planned, settings.seed + 5) if planned else None

    @property
    def displacement_scale(self) -> Tensor:
        """Typical displacement `(obs_dim,)` in the first data."""
        return self.model.energy.displacement_scale

    def begin(self, data: RolloutBuffer, normalizer: Normalizer) -> None:
        """Build the untrained energy and its trainer, see `Learner.begin`."""
        settings = self.settings
        with seeded(settings.seed):
            self.model = TrajectoryModel.create(
                settings.model, normalizer, torch.ones(normalizer.layout.obs_dim)
            )
        batches = batches_for(data, self.model, 4096, settings.seed)
        measure_displacements(self.model, batches)
        base = self._base
        if base is not None:
            base.requires_grad_(False)
        self.trainer = trainer_for(self.model, batches, settings, capacity=self.transitions)
        self.trainer.scheduler = None
        if self.plans is not None:
            self.trainer.extra_negatives.append(self.plans)
        self._seen = (data, data.evicted)

    def update(self, data: RolloutBuffer, validation: RolloutBuffer, plans: Tensor) -> dict[str, float]:
        """Regress the base, then train the tilt, see `Learner.update`."""
        settings, seed, metrics = self.settings, self.settings.seed + 31 * self.trainer.step, {}
        batches = batches_for(data, self.model, settings.batch_size, seed)
        energy = self.model.energy
        assert isinstance(energy, TransitionEnergy)
        if bool((energy.steady & ~steady_coordinates(batches, energy.layout)[0]).any()):
            # A coordinate that was constant has moved: its displacements have a scale only from now on.
            self.begin(data, self.model.normalizer)
            return self.update(data, validation, plans)
        base = self._base
        if base is not None:
            base.requires_grad_(True)
            held_out = batches_for(validation, self.model, settings.batch_size, seed + 1)
            std = fit_base(energy, batches, held_out, settings.base_updates)
            metrics["held_out_error"] = float(std.square().mean().sqrt())
        if self.plans is not None:
            self.plans.windows = plans[..., : self.model.layout.dim]
        sampler, fresh = negatives_for(self.model, batches, settings.langevin_steps)
        # The windows have changed or moved in the buffer, so chains would continue from those of other windows.
        self.trainer.rebind(sampler, fresh, forget=(data, data.evicted) != self._seen)
        self._seen = (data, data.evicted)
        outcome = self.trainer.fit(batches, self.trainer.step + settings.updates)
        return metrics | {name: float(value) for name, value in outcome.metrics.items()}

    @torch.no_grad()
    def surprise(self, x: Tensor) -> Tensor:
        """Energy `(B,)` of the transitions, see `Learner.surprise`."""
        return self.model.energy(x[..., : self.model.layout.dim])

    @torch.no_grad()
    def error(self, x: Tensor) -> Tensor:
        """Error of the base's mean, or of predicting no displacement without a base; see `Learner.error`."""
        energy, x = self.model.energy, x[..., : self.model.layout.dim]
        assert isinstance(energy, TransitionEnergy)
        inputs, displacement = energy.windows(x)
        expected = torch.zeros_like(displacement) if energy.base is None else energy.base.mean(inputs)
        return (displacement - expected).square().mean(dim=(1, 2)).sqrt()

    def state_dict(self) -> dict[str, Any]:
        """State of the trainer, see `Learner.state_dict`."""
        return {"trainer": self.trainer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the trainer, see `Learner.load_state_dict`."""
        self.trainer.load_state_dict(state["trainer"])

    @property
    def _base(self) -> RegressionBase | None:
        energy = self.model.energy
        base = energy.base if isinstance(energy, TransitionEnergy) else None
        return base if isinstance(base, RegressionBase) else None


class PlannedWindows:
    """Planned transitions as negatives, for `Trainer(extra_negatives=...)`.

    Args:
        count: negatives per update.
        seed: seed of the random choice.

    Attributes:
        windows: `(M, 2, D)` planned transitions to draw from; empty before the first plans.

    """

    def __init__(self, count: int, seed: int) -> None:
        require(count >= 1, "count", given=count, expected="at least 1")
        self.count, self.windows = count, torch.empty(0)
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, step: int, batch: Batch) -> Batch | None:
        """Windows `(count, 2, D)`, drawn with replacement; None if there are no plans yet."""
        if not len(self.windows):
            return None
        pick = torch.randint(len(self.windows), (self.count,), generator=self._generator)
        return Batch(self.windows[pick].to(batch.x), None)

    def state_dict(self) -> dict[str, Tensor]:
        """Windows and the generator's state."""
        return {"windows": self.windows, "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where the object that returned `state` stopped."""
        self.windows = state["windows"]
        self._generator.set_state(state["generator"])


class BaselineLearner:
    """A feed-forward model or a probabilistic ensemble, trained on the same data in the same rounds.

    Args:
        members: 1 for `FeedForward`, more for an `Ensemble` with this many members.
        hidden: widths of the hidden layers.
        updates: updates per round.
        batch_size: windows per update (and member).
        learning_rate: initial learning rate of a round, falling to 0 along a cosine, like that of an energy's base.
        seed: seed of weights, batches and bootstraps.

    """

    model: Baseline

    def __init__(
        self,
        members: int = 1,
        hidden: tuple[int, ...] = (256, 256),
        updates: int = 300,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        kind: Kind = "feed-forward" if members == 1 else "ensemble"
        self._kind = BaselineSettings(kind, hidden, members, seed=seed)
        self.members, self.hidden, self.updates = members, hidden, updates
        self.batch_size, self.learning_rate, self.seed, self.rounds = batch_size, learning_rate, seed, 0

    @property
    def displacement_scale(self) -> Tensor:
        """Typical displacement `(obs_dim,)` in the first data."""
        return self.model.dynamics.displacement_scale

    def begin(self, data: RolloutBuffer, normalizer: Normalizer) -> None:
        """Build the untrained model, see `Learner.begin`."""
        layout = normalizer.layout
        scale = displacement_scale(window_batches(data, normalizer, 4096, seed=self.seed), layout)
        with seeded(self.seed):
            dynamics = self._kind.model(layout, scale)
        dynamics.requires_grad_(False)
        self.model = Baseline(dynamics, normalizer, Training(), torch.ones(layout.obs_dim))

    def update(self, data: RolloutBuffer, validation: RolloutBuffer, plans: Tensor) -> dict[str, float]:
        """Train for one round, see `Learner.update`; `plans` are not used without an energy."""
        began, dynamics, seed = time.perf_counter(), self.model.dynamics, self.seed + 31 * self.rounds
        dynamics.requires_grad_(True)
        batches = window_batches(data, self.model.normalizer, self.members * self.batch_size, seed=seed)
        counts = stream_bootstrap_counts(self.members, batches.num_windows, self.seed)
        loss = regress(
            dynamics.parameters(),
            lambda batch: dynamics.loss(batch, counts),
            batches,
            self.updates,
            learning_rate=self.learning_rate,
            gradient_clip=1.0,
        )
        dynamics.requires_grad_(False)
        error = held_out_error(
            dynamics, window_batches(validation, self.model.normalizer, 1024, seed=seed + 1)
        )
        self.rounds += 1
        metrics = {"loss": loss, "held_out_error": float(error.square().mean().sqrt())}
        before = self.model.training
        training = Training(
            before.updates + self.updates, before.seconds + time.perf_counter() - began, metrics=metrics
        )
        self.model = replace(self.model, training=training, held_out_error=error)
        return metrics

    @torch.no_grad()
    def surprise(self, x: Tensor) -> Tensor:
        """Half the squared residual `(B,)` in units of the held-out error, see `Learner.surprise`."""
        residual = self.model.dynamics.residual(x) / self.model.held_out_error.clamp_min(1e-3)
        return 0.5 * residual.square().sum(dim=-1)

    @torch.no_grad()
    def error(self, x: Tensor) -> Tensor:
        """Error of the prediction (an ensemble's mean), see `Learner.error`."""
        residual: Tensor = self.model.dynamics.residual(x)
        return residual.square().mean(dim=-1).sqrt()

    def state_dict(self) -> dict[str, Any]:
        """Weights and counters, see `Learner.state_dict`."""
        return {
            "dynamics": self.model.dynamics.state_dict(),
            "rounds": self.rounds,
            "updates": self.model.training.updates,
            "held_out_error": self.model.held_out_error,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore weights and counters, see `Learner.load_state_dict`."""
        self.model.dynamics.load_state_dict(state["dynamics"])
        self.rounds = int(state["rounds"])
        training = Training(int(state["updates"]))
        self.model = replace(self.model, training=training, held_out_error=state["held_out_error"])
