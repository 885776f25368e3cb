"""Models that go on learning from the data there are so far: energies, and what they have to beat."""

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
    """A model that is trained again and again, from the weights that it has."""

    @property
    def model(self) -> Model:
        """What planners are made of."""
        ...

    @property
    def displacement_scale(self) -> Tensor:
        """`(obs_dim,)` a typical displacement, in the units of the trajectory."""
        ...

    def begin(self, data: RolloutBuffer, normalizer: Normalizer) -> None:
        """Make an untrained model in these units, its displacements those of the first data."""
        ...

    def update(self, data: RolloutBuffer, held: RolloutBuffer, planned: Tensor) -> dict[str, float]:
        """One round of training.

        Args:
            data: all that was executed so far, oldest first; earlier rounds saw the beginning of it.
            held: executed too, but never trained on.
            planned: `(M, 2, D)` planned transitions, in the units of the trajectory: negatives of an energy.

        Returns:
            Metrics of the round.

        """
        ...

    def surprise(self, x: Tensor) -> Tensor:
        """How unlikely transitions `(B, 2, D)` are, `(B,)`: `obs_dim / 2` on average where the model is right."""
        ...

    def error(self, x: Tensor) -> Tensor:
        """Root mean square of what is wrong about the second states of transitions `(B, 2, D)`, `(B,)`.

        In typical displacements.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that it takes to go on: tensors, numbers and containers of them."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, after `begin` with the same data and normaliser."""
        ...


class EnergyLearner:
    """A transition energy: its base regressed, then its tilt by contrastive divergence, a little each round.

    What was executed is data; the negatives are the sampler's own and the planner's plans (Du, Lin & Mordatch 2019).

    Args:
        settings: `base_updates` and `updates` are those of one round; the learning rate stays as it is.
        transitions: most that there will ever be: chains of the sample buffer.
        planned: planned transitions among the negatives of an update; 0 for none.

    Raises:
        InputError: an energy over anything but single transitions.

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
        # Averaged weights would lag behind a base that is regressed anew every round.
        self.settings = replace(settings, ema=0.0)
        self.transitions = transitions
        self._seen: tuple[RolloutBuffer | None, int] = (None, 0)
        self.plans = PlannedWindows(planned, settings.seed + 5) if planned else None

    @property
    def displacement_scale(self) -> Tensor:
        """Of the first data."""
        return self.model.energy.displacement_scale

    def begin(self, data: RolloutBuffer, normalizer: Normalizer) -> None:
        """See `Learner`."""
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

    def update(self, data: RolloutBuffer, held: RolloutBuffer, planned: Tensor) -> dict[str, float]:
        """See `Learner`."""
        settings, seed, figures = self.settings, self.settings.seed + 31 * self.trainer.step, {}
        batches = batches_for(data, self.model, settings.batch_size, seed)
        energy = self.model.energy
        assert isinstance(energy, TransitionEnergy)
        if bool((energy.steady & ~steady_coordinates(batches, energy.layout)[0]).any()):
            # What stood still until now has moved: its displacements have a unit only from here on.
            self.begin(data, self.model.normalizer)
            return self.update(data, held, planned)
        base = self._base
        if base is not None:
            base.requires_grad_(True)
            held_out = batches_for(held, self.model, settings.batch_size, seed + 1)
            std = fit_base(energy, batches, held_out, settings.base_updates)
            figures["held_out_error"] = float(std.square().mean().sqrt())
        if self.plans is not None:
            self.plans.windows = planned[..., : self.model.layout.dim]
        sampler, fresh = negatives_for(self.model, batches, settings.langevin_steps)
        # Other windows, or they have moved up: chains would go on against others than their own.
        self.trainer.rebind(sampler, fresh, forget=(data, data.evicted) != self._seen)
        self._seen = (data, data.evicted)
        outcome = self.trainer.fit(batches, self.trainer.step + settings.updates)
        return figures | {name: float(value) for name, value in outcome.metrics.items()}

    @torch.no_grad()
    def surprise(self, x: Tensor) -> Tensor:
        """The energy."""
        return self.model.energy(x[..., : self.model.layout.dim])

    @torch.no_grad()
    def error(self, x: Tensor) -> Tensor:
        """Of the base's expectation: no displacement, where the base predicts none."""
        energy, x = self.model.energy, x[..., : self.model.layout.dim]
        assert isinstance(energy, TransitionEnergy)
        inputs, displacement = energy.windows(x)
        expected = torch.zeros_like(displacement) if energy.base is None else energy.base.mean(inputs)
        return (displacement - expected).square().mean(dim=(1, 2)).sqrt()

    def state_dict(self) -> dict[str, Any]:
        """See `Learner`."""
        return {"trainer": self.trainer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Learner`."""
        self.trainer.load_state_dict(state["trainer"])

    @property
    def _base(self) -> RegressionBase | None:
        energy = self.model.energy
        base = energy.base if isinstance(energy, TransitionEnergy) else None
        return base if isinstance(base, RegressionBase) else None


class PlannedWindows:
    """Planned transitions as negatives, for `Trainer(extra_negatives=...)`.

    Args:
        count: of an update.
        seed: of the draw.

    Attributes:
        windows: `(M, 2, D)` what they are drawn from; none as long as there are none.

    """

    def __init__(self, count: int, seed: int) -> None:
        require(count >= 1, "count", given=count, expected="at least 1")
        self.count, self.windows = count, torch.empty(0)
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, step: int, batch: Batch) -> Batch | None:
        """`(count, 2, D)` windows, some of them twice where there are fewer."""
        if not len(self.windows):
            return None
        pick = torch.randint(len(self.windows), (self.count,), generator=self._generator)
        return Batch(self.windows[pick].to(batch.x), None)

    def state_dict(self) -> dict[str, Tensor]:
        """Windows and the state of the draw."""
        return {"windows": self.windows, "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where the object that gave `state` would have."""
        self.windows = state["windows"]
        self._generator.set_state(state["generator"])


class BaselineLearner:
    """A feed-forward model or a probabilistic ensemble, trained on the same data in the same rounds.

    Args:
        members: 1 for `FeedForward`, more for an `Ensemble` of so many.
        hidden: widths.
        updates: of one round.
        batch_size: windows an update (and member).
        learning_rate: at the start of a round, falling to 0 along a cosine, as that of an energy's base.
        seed: of weights, batches and bootstraps.

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
        """Of the first data."""
        return self.model.dynamics.displacement_scale

    def begin(self, data: RolloutBuffer, normalizer: Normalizer) -> None:
        """See `Learner`."""
        layout = normalizer.layout
        scale = displacement_scale(window_batches(data, normalizer, 4096, seed=self.seed), layout)
        with seeded(self.seed):
            dynamics = self._kind.model(layout, scale)
        dynamics.requires_grad_(False)
        self.model = Baseline(dynamics, normalizer, Training(), torch.ones(layout.obs_dim))

    def update(self, data: RolloutBuffer, held: RolloutBuffer, planned: Tensor) -> dict[str, float]:
        """See `Learner`; plans mean nothing to a model without an energy."""
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
        error = held_out_error(dynamics, window_batches(held, self.model.normalizer, 1024, seed=seed + 1))
        self.rounds += 1
        figures = {"loss": loss, "held_out_error": float(error.square().mean().sqrt())}
        before = self.model.training
        training = Training(
            before.updates + self.updates, before.seconds + time.perf_counter() - began, metrics=figures
        )
        self.model = replace(self.model, training=training, held_out_error=error)
        return figures

    @torch.no_grad()
    def surprise(self, x: Tensor) -> Tensor:
        """Half the squared residual in units of the held-out error."""
        residual = self.model.dynamics.residual(x) / self.model.held_out_error.clamp_min(1e-3)
        return 0.5 * residual.square().sum(dim=-1)

    @torch.no_grad()
    def error(self, x: Tensor) -> Tensor:
        """Of the prediction, the members' mean."""
        residual: Tensor = self.model.dynamics.residual(x)
        return residual.square().mean(dim=-1).sqrt()

    def state_dict(self) -> dict[str, Any]:
        """See `Learner`."""
        return {
            "dynamics": self.model.dynamics.state_dict(),
            "rounds": self.rounds,
            "updates": self.model.training.updates,
            "held_out_error": self.model.held_out_error,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Learner`."""
        self.model.dynamics.load_state_dict(state["dynamics"])
        self.rounds = int(state["rounds"])
        training = Training(int(state["updates"]))
        self.model = replace(self.model, training=training, held_out_error=state["held_out_error"])
