"""Settings of a baseline: kind of model, size, and fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from torch import Tensor

from ebm_control.baselines.models import Ensemble, FeedForward
from ebm_control.baselines.recurrent import Recurrent
from ebm_control.checks import (
    as_python,
    require,
    require_flag,
    require_number,
    require_seed,
    require_widths,
    shown,
)
from ebm_control.energies.layout import TrajectoryLayout

Model = FeedForward | Ensemble | Recurrent
Kind = Literal["feed-forward", "ensemble", "recurrent"]

MODELS: dict[str, type[FeedForward] | type[Ensemble] | type[Recurrent]] = {
    "feed-forward": FeedForward,
    "ensemble": Ensemble,
    "recurrent": Recurrent,
}


class _Usual(NamedTuple):
    """Default settings that depend on the kind."""

    hidden: tuple[int, ...] | int
    updates: int
    batch_size: int


_USUAL = {
    "feed-forward": _Usual((256, 256), 6000, 256),
    "ensemble": _Usual((200, 200, 200), 6000, 256),
    "recurrent": _Usual(192, 3000, 64),
}


@dataclass(frozen=True)
class BaselineSettings:
    """Settings of a dynamics model and of its fit.

    Args:
        kind: "feed-forward" (`FeedForward`, least squares), "ensemble" (`Ensemble`, maximum likelihood, a separate
            bootstrap for each member; PETS, Chua et al. 2018) or "recurrent" (`Recurrent`, least squares on all
            displacements of windows, each from the true states before it: teacher forcing, Williams & Zipser 1989).
        hidden: widths of the network, or of each member of an ensemble; for a recurrent model the width of the GRU.
            None for (256, 256), (200, 200, 200) and 192.
        members: number of networks of an ensemble.
        window: states per training window of a recurrent model, which limits how much history it learns to use.
        frequencies: random Fourier features of the state, for dynamics with sharp edges; 0 for none.
        bandwidth: standard deviation of their frequencies.
        updates: updates of Adam, the learning rate falling to 0 along a cosine; None for 6000, or 3000 (recurrent).
        batch_size: windows per update (and member); None for 256, or 64 (recurrent).
        learning_rate: initial learning rate.
        held_out: fraction of the transitions that is held out to measure the error.
        states_only: whether to fit a model without actions, for prediction without them.
        seed: seed of the split, the initial weights, the bootstraps and the batches.

    Raises:
        InputError: a setting is out of its range.

    """

    kind: Kind = "feed-forward"
    hidden: tuple[int, ...] | int | None = None
    members: int = 5
    window: int = 20
    frequencies: int = 0
    bandwidth: float = 2.0
    updates: int | None = None
    batch_size: int | None = None
    learning_rate: float = 1e-3
    held_out: float = 0.05
    states_only: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        as_python(self)
        known = isinstance(self.kind, str) and self.kind in MODELS
        require(known, "kind", given=shown(self.kind), expected=f"one of {sorted(MODELS)}")
        if self.hidden is not None:
            if self.kind == "recurrent":
                require_number("hidden", self.hidden, 1, whole=True)
            else:
                require_widths("hidden", self.hidden, least=1)
        for name in ("updates", "batch_size"):
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name), 1, whole=True)
        require_number("members", self.members, 1, whole=True)
        require_number("window", self.window, 2, whole=True)
        require_number("frequencies", self.frequencies, 0, whole=True)
        require_number("bandwidth", self.bandwidth, 0, above=True)
        require_number("learning_rate", self.learning_rate, 0, above=True)
        require_number("held_out", self.held_out, 0, 1, above=True, below=True)
        require_flag("states_only", self.states_only)
        require_seed("seed", self.seed)

    def resolved(self) -> BaselineSettings:
        """The same settings with None replaced by the kind's defaults."""
        usual = _USUAL[self.kind]._asdict()
        return replace(self, **{name: value for name, value in usual.items() if getattr(self, name) is None})

    @property
    def states(self) -> int:
        """Number of states in the windows that the model is fitted to."""
        return self.window if self.kind == "recurrent" else 2

    def model(self, layout: TrajectoryLayout, displacement_scale: Tensor) -> Model:
        """An untrained model; its weights are drawn from torch's global generator.

        Args:
            layout: layout of normalised trajectories.
            displacement_scale: `(obs_dim,)` root mean square of one displacement in the data, normalised.

        """
        size = {
            "hidden": self.resolved().hidden,
            "frequencies": self.frequencies,
            "bandwidth": self.bandwidth,
        }
        if self.kind == "ensemble":
            size["members"] = self.members
        return MODELS[self.kind](layout, displacement_scale, **size)  # type: ignore[arg-type]
