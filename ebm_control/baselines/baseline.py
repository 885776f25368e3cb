"""A fitted dynamics model with its units, which can be saved, loaded and used for prediction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.baselines.futures import futures
from ebm_control.baselines.settings import MODELS, Model
from ebm_control.checks import require
from ebm_control.data.normalizer import Normalizer
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.models.raw_units import in_raw_units, raw_history
from ebm_control.models.recorded import RecordedRewards
from ebm_control.prediction.predict import Prediction
from ebm_control.tensors import outside_inference_mode
from ebm_control.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, one_line, save_model
from ebm_control.training.fitting import Training


@dataclass(frozen=True, eq=False)
class Baseline:
    """A dynamics model with its units.

    Attributes:
        dynamics: model over normalised trajectories.
        normalizer: converts between these and the environment's units.
        training: summary of the fit: updates, seconds, metrics.
        held_out_error: `(obs_dim,)` root mean squared error of one displacement on held-out episodes, in typical
            displacements (`dynamics.displacement_scale`), as returned by `fit_base`. For a recurrent model, of the last
            displacement of a window.
        recorded: some of the rewards in the data; a hand-written reward is compared with them.

    """

    dynamics: Model
    normalizer: Normalizer
    training: Training
    held_out_error: Tensor
    recorded: RecordedRewards | None = None

    @property
    def layout(self) -> TrajectoryLayout:
        """Layout of the normalised trajectories: the normaliser's, without actions if the model has states only."""
        return self.dynamics.layout

    @outside_inference_mode
    def predict(
        self,
        observations: Tensor | ArrayLike,
        actions: Tensor | ArrayLike | None = None,
        *,
        horizon: int,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """Futures in the environment's units; see `ebm_control.baselines.futures` for normalised units.

        A feed-forward or recurrent model predicts one future, which is repeated. In an ensemble each future follows
        one member, in turn, with its noise. Periodic coordinates are not wrapped.

        Args:
            observations: `(N, obs_dim)`, or histories `(N, h, obs_dim)`; only a recurrent model uses more than the last
                observation.
            actions: `(N, h - 1 + horizon, act_dim)`, beginning at the first observation; None for a model of states.
            horizon: states to predict.
            samples: futures per history, `K`.
            generator: source of an ensemble's noise; None takes a seed from the system.

        Returns:
            `states` `(N, K, horizon, obs_dim)` and `actions` `(N, K, horizon, act_dim)` in the environment's units;
            `energy` `(N, K)` is NaN, as a baseline has none.

        Raises:
            InputError: a shape does not fit, a value is not finite, or actions are missing or not supported.

        """
        seen = self.layout.act_dim > 0
        require(
            (actions is not None) == seen,
            "actions",
            given=None if actions is None else "some",
            expected=f"shape (N, h - 1 + {horizon}, {self.layout.act_dim}), as the model has actions"
            if seen
            else "None: the model has no actions",
        )
        device = self.dynamics.displacement_scale.device
        history, given = raw_history(self.normalizer, observations, actions, horizon, states_only=not seen)
        history, given = (
            history.to(device)[..., : self.layout.dim],
            None if given is None else given.to(device),
        )
        states = futures(self, history, given, horizon=horizon, samples=samples, generator=generator)
        acts = history.new_empty(len(history), horizon, 0) if given is None else given
        energy = states.new_full(states.shape[:2], torch.nan)
        return in_raw_units(
            self.normalizer, Prediction(states, acts[:, None].expand(-1, samples, -1, -1), energy)
        )

    @property
    def parts(self) -> dict[str, slice]:
        """Slices of the observations' coordinates by name, see `FlatForm.parts`."""
        form = self.normalizer.form
        return {"observation": slice(0, self.layout.obs_dim)} if form is None else form.parts

    def describe(self) -> dict[str, Any]:
        """JSON-safe settings from which `load` rebuilds the model."""
        dynamics, training = self.dynamics, self.training
        return {
            "kind": next(kind for kind, model in MODELS.items() if type(dynamics) is model),
            "model": dynamics.settings,
            "states_only": self.layout.act_dim == 0,
            "normalizer": self.normalizer.to_dict(),
            "updates": training.updates,
            "train_seconds": training.seconds,
            "metrics": dict(training.metrics),
            "held_out_error": self.held_out_error.tolist(),
        }

    def save(self, folder: Path | str) -> Path:
        """Write the model to `folder`, for `load`, and return the path; a model saved there earlier is replaced.

        Raises:
            CheckpointError: `folder` holds the checkpoints of a run, or writing failed.

        """
        state = {} if self.recorded is None else {"recorded": self.recorded.to_dict()}
        return save_model(folder, Checkpoint(self.dynamics.state_dict(), self.describe(), state))

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> Baseline:
        """Load the baseline that was saved in `path`, a folder or a checkpoint.

        Raises:
            CheckpointError: the checkpoint is corrupt or does not belong to a baseline.

        """
        checkpoint = load_checkpoint(path)
        try:
            loaded = _rebuilt(checkpoint)
        except Exception as error:  # settings from an unknown source may raise anything
            raise CheckpointError(f"{path}: not a checkpoint of a baseline ({one_line(error)})") from error
        loaded.dynamics.to(device).eval().requires_grad_(False)
        return loaded


def _rebuilt(checkpoint: Checkpoint) -> Baseline:
    settings = checkpoint.settings
    normalizer = Normalizer.from_dict(settings["normalizer"])
    # Old checkpoints lack this setting: models of states only were added later.
    layout = layout_of(normalizer, bool(settings.get("states_only", False)))
    # The weights include the scale, as a buffer.
    scale = torch.ones(layout.obs_dim, dtype=torch.float32)
    dynamics = MODELS[settings["kind"]](layout, scale, **settings["model"])
    dynamics.load_state_dict(dict(checkpoint.weights))
    metrics = {str(name): float(value) for name, value in settings.get("metrics", {}).items()}
    training = Training(int(settings["updates"]), float(settings["train_seconds"]), metrics=metrics)
    error = torch.tensor(settings["held_out_error"], dtype=torch.float32)
    return Baseline(dynamics, normalizer, training, error, RecordedRewards.from_state(checkpoint.state))


def layout_of(normalizer: Normalizer, states_only: bool) -> TrajectoryLayout:
    """The normaliser's layout, without actions if the model has states only."""
    return replace(normalizer.layout, act_dim=0) if states_only else normalizer.layout
