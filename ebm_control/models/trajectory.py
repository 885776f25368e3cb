"""A trajectory energy with its normaliser and the settings from which it is rebuilt."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ebm_control.checks import (
    as_python,
    require,
    require_flag,
    require_levels,
    require_number,
    require_widths,
)
from ebm_control.data.normalizer import Normalizer
from ebm_control.energies.base_measure import BaseMeasure, GaussianBase, RegressionBase
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.networks import HEADS, MLP, FourierMLP, TemporalConvolution, Transformer
from ebm_control.energies.trajectory import TransitionEnergy
from ebm_control.energies.window import WindowEnergy
from ebm_control.models.loading import load_energy_model, with_tuples
from ebm_control.models.raw_units import in_raw_units, raw_history
from ebm_control.models.recorded import RecordedRewards
from ebm_control.prediction.predict import Prediction, predict
from ebm_control.samplers.chain import Sampler
from ebm_control.tensors import outside_inference_mode
from ebm_control.training.checkpoint import Checkpoint, save_model
from ebm_control.training.fitting import Training


@dataclass(frozen=True)
class ModelSettings:
    """Architecture of a trajectory energy.

    Args:
        kind: "transition" sums a network over short windows; "window" evaluates one network on the whole window.
        base: base measure: "regression" (a conditional Gaussian with a learned mean), "gaussian" (the same everywhere)
            or "none".
        network: network of the tilt for kind "window": "convolution" or "transformer", of width `hidden[0]`.
        window: time steps per window: 2 for transitions, the whole length for kind "window".
        gaps: time gaps in environment steps; with more than one, the gap is the energy's context.
        states_only: whether the energy is over states only; actions then come from inverse dynamics.
        joint: whether a transition energy models the density of whole windows, so that it is high away from the
            data. Otherwise it models what follows the first state and does not rate that state.
        hidden: widths of the tilt's layers.
        base_hidden: widths of the base's layers.
        spectral: whether the tilt uses spectral normalisation.
        base_std: std of a Gaussian base, in units of the data's displacements.
        frequencies: random Fourier features of the state for tilt and base; 0 for none. Walls need them.
        bandwidth: std of their frequencies, in radians per unit of a normalised state.
        noise: lowest and highest noise level of an energy of noised data (loss "dsm"); () for no noise.

    """

    kind: Literal["transition", "window"] = "transition"
    base: Literal["regression", "gaussian", "none"] = "regression"
    network: Literal["convolution", "transformer"] = "convolution"
    window: int = 2
    gaps: tuple[int, ...] = (1,)
    states_only: bool = False
    joint: bool = False
    hidden: tuple[int, ...] = (256, 256, 256)
    base_hidden: tuple[int, ...] = (256, 256)
    spectral: bool = False
    base_std: float = 10**0.5
    frequencies: int = 0
    bandwidth: float = 2.0
    noise: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require(
            self.kind in ("transition", "window"), "kind", given=self.kind, expected="transition or window"
        )
        require(
            self.base in ("regression", "gaussian", "none"),
            "base",
            given=self.base,
            expected="'regression', 'gaussian' or 'none'",
        )
        as_python(self)
        require_number("window", self.window, 2, whole=True)
        require_widths("gaps", self.gaps, least=1)
        require_widths("hidden", self.hidden, least=1 if self.kind == "window" else 0)
        require_widths("base_hidden", self.base_hidden)
        for name in ("states_only", "joint", "spectral"):
            require_flag(name, getattr(self, name))
        require_number("base_std", self.base_std, 0, above=True)
        require_number("frequencies", self.frequencies, 0, whole=True)
        require_number("bandwidth", self.bandwidth, 0, above=True)
        if self.noise != ():
            require_levels("noise", self.noise)
        require(
            self.network in ("convolution", "transformer"),
            "network",
            given=self.network,
            expected="'convolution' or 'transformer'",
        )
        heads = self.kind == "window" and self.network == "transformer"
        even = not heads or self.hidden[0] % HEADS == 0
        require(even, "hidden", given=self.hidden, expected=f"a first width that {HEADS} heads share")
        require(
            not self.noise or (self.base != "none" and not self.joint),
            "noise",
            given=f"{self.noise}, base {self.base}, joint={self.joint}",
            expected="() or two levels, of an energy with a base that is not joint",
        )
        require(
            not self.joint or (self.kind == "transition" and self.base != "regression"),
            "joint",
            given=f"True with kind {self.kind}, base {self.base}",
            expected="a transition energy whose base is 'gaussian' or 'none': a regression is conditional",
        )


@dataclass(frozen=True, eq=False)
class TrajectoryModel:
    """An energy over normalised trajectories, and the normaliser between them and the environment's units.

    Attributes:
        energy: energy of trajectories in normalised units.
        normalizer: converts between these and the environment's units.
        settings: architecture of the energy.
        training: summary of the training; all zeros for a loaded model.
        recorded: some of the rewards in the data; a hand-written reward is compared with them.

    """

    energy: TransitionEnergy | WindowEnergy
    normalizer: Normalizer
    settings: ModelSettings
    training: Training = field(default_factory=Training)
    recorded: RecordedRewards | None = None

    @property
    def layout(self) -> TrajectoryLayout:
        """Layout of the energy's trajectories: the normaliser's, without actions if the energy is over states only."""
        return self.energy.layout

    @classmethod
    def create(
        cls, settings: ModelSettings, normalizer: Normalizer, displacement_scale: Tensor
    ) -> TrajectoryModel:
        """Untrained model; `displacement_scale` `(obs_dim,)` is the root mean square displacement of the data."""
        layout = normalizer.layout
        if settings.states_only:
            layout = replace(layout, act_dim=0)
        context_dim = 1 if len(settings.gaps) > 1 else 0
        noise = (settings.noise[0], settings.noise[1]) if settings.noise else None
        known = {"displacement_scale": displacement_scale, "context_dim": context_dim, "noise": noise}
        energy: TransitionEnergy | WindowEnergy
        if settings.kind == "window":
            channels = WindowEnergy.channels_of(
                layout, context_dim, base=settings.base != "none", noisy=noise is not None
            )
            inputs = WindowEnergy.inputs_of(layout, settings.window, context_dim)
            base = _base(settings, layout, inputs, (settings.window - 1) * layout.obs_dim)
            energy = WindowEnergy(layout, _over_time(settings, channels), base=base, **known)  # type: ignore[arg-type]
        else:
            inputs = TransitionEnergy.inputs_of(layout, settings.window, context_dim)
            energy = TransitionEnergy(
                layout,
                _network(settings, layout, inputs + bool(noise), settings.hidden, 1, settings.spectral),
                window=settings.window,
                base=_base(settings, layout, inputs - layout.obs_dim, layout.obs_dim),
                **known,  # type: ignore[arg-type]
            )
        return cls(energy, normalizer, settings)

    @property
    def parts(self) -> dict[str, slice]:
        """Slices of the observations' coordinates by name, see `FlatForm.parts`."""
        form = self.normalizer.form
        return {"observation": slice(0, self.layout.obs_dim)} if form is None else form.parts

    def describe(self) -> dict[str, Any]:
        """JSON-safe settings from which `load` rebuilds the model."""
        return {
            "model": asdict(self.settings),
            "normalizer": self.normalizer.to_dict(),
        }

    @outside_inference_mode
    def predict(
        self,
        observations: Tensor | ArrayLike,
        actions: Tensor | ArrayLike | None = None,
        *,
        horizon: int,
        samples: int = 1,
        sampler: Sampler | None = None,
        gap: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """Sample futures in the environment's units; see `ebm_control.prediction.predict` for normalised units.

        Args:
            observations: `(N, obs_dim)`, or histories `(N, h, obs_dim)`.
            actions: `(N, h - 1 + horizon, act_dim)`, starting with the action at the first observation. None samples
                the actions from the last observation on, from the mean and std of the data's actions.
            horizon: states to predict.
            samples: futures per history, `K`.
            sampler: None for `trajectory_sampler(energy)`.
            gap: environment steps per predicted state; None for the first gap that the model was trained on.
            generator: source of noise; None takes a seed from the system.

        Returns:
            `states` `(N, K, horizon, obs_dim)` and `actions` `(N, K, horizon, act_dim)` in the environment's units,
            and `energy` `(N, K)`.

        Raises:
            InputError: a shape does not fit, the history is too short for the model's window, or a value is not finite.

        """
        acts = self.layout.act_dim > 0
        history, given = raw_history(self.normalizer, observations, actions, horizon, states_only=not acts)
        gaps = self.settings.gaps
        gap = gaps[0] if gap is None else gap
        require(gap in gaps, "gap", given=gap, expected=f"one of {gaps}, which the model was trained on")
        context = torch.full((len(history), 1), math.log2(gap)) if len(gaps) > 1 else None
        found = predict(
            self.energy,
            history[..., : self.layout.dim],
            given if acts else None,
            horizon=horizon,
            samples=samples,
            sampler=sampler,
            context=context,
            generator=generator,
        )
        return in_raw_units(self.normalizer, found)

    def save(self, folder: Path | str) -> Path:
        """Write the model to `folder`, for `load`, and return the path; a model saved there earlier is replaced.

        Raises:
            CheckpointError: `folder` holds the checkpoints of a run, or writing failed.

        """
        state = {} if self.recorded is None else {"recorded": self.recorded.to_dict()}
        return save_model(folder, Checkpoint(self.energy.state_dict(), self.describe(), state))

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> TrajectoryModel:
        """Load a saved model, a checkpoint, or the newest checkpoint of a run folder, with its averaged weights.

        Raises:
            CheckpointError: the checkpoint is corrupt or does not belong to a trajectory model.

        """
        return load_energy_model(path, "a trajectory model", cls._rebuild, device)

    @classmethod
    def _rebuild(cls, checkpoint: Checkpoint) -> TrajectoryModel:
        """An untrained model from the settings that `describe` returned."""
        settings = checkpoint.settings
        model_settings = ModelSettings(**with_tuples(settings["model"]))
        normalizer = Normalizer.from_dict(settings["normalizer"])
        # The weights include the scale, as a buffer.
        model = cls.create(model_settings, normalizer, torch.ones(normalizer.layout.obs_dim))
        return replace(model, recorded=RecordedRewards.from_state(checkpoint.state))


def _base(settings: ModelSettings, layout: TrajectoryLayout, inputs: int, outputs: int) -> BaseMeasure | None:
    if settings.base == "none":
        return None
    if settings.base == "gaussian":
        return GaussianBase(outputs, settings.base_std)
    return RegressionBase(_network(settings, layout, inputs, settings.base_hidden, outputs), outputs)


def _over_time(settings: ModelSettings, channels: int) -> nn.Module:
    width = settings.hidden[0]
    if settings.network == "transformer":
        return Transformer(channels, settings.window, width)
    return TemporalConvolution(channels, width, spectral=settings.spectral)


def _network(
    settings: ModelSettings,
    layout: TrajectoryLayout,
    inputs: int,
    hidden: tuple[int, ...],
    outputs: int,
    spectral: bool = False,
) -> nn.Module:
    if not settings.frequencies:
        return MLP(inputs, hidden, outputs, spectral=spectral)
    return FourierMLP(
        inputs,
        hidden,
        outputs,
        features=layout.feature_dim,
        frequencies=settings.frequencies,
        bandwidth=settings.bandwidth,
        spectral=spectral,
    )
