"""Settings of a baseline: which model, how large, and how it is fitted."""

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
    """Defaults that depend on the kind."""

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
    """Which dynamics model to fit, and how.

    Args:
        kind: "feed-forward" (`FeedForward`, least squares), "ensemble" (`Ensemble`, maximum likelihood, each member on
            a bootstrap of its own; PETS, Chua et al. 2018) or "recurrent" (`Recurrent`, least squares on all
            displacements of windows, each from the true states before it: teacher forcing, Williams & Zipser 1989).
        hidden: widths of the network, of each member of an ensemble; one number, the GRU's width, of a recurrent model.
            None for (256, 256), (200, 200, 200) and 192.
        members: networks of an ensemble.
        window: states of a recurrent model's windows: how far back it learns to look.
        frequencies: random Fourier features of the state, for dynamics with edges; 0 for none.
        bandwidth: standard deviation of their directions.
        updates: of Adam, the learning rate falling to 0 along a cosine; None for 6000, and 3000 of a recurrent model.
        batch_size: windows per update (and member); None for 256, and 64 of a recurrent model.
        learning_rate: at the start.
        held_out: share of the transitions that the error is measured on.
        states_only: fit a model that sees no actions, for futures without them.
        seed: of the split, the first weights, the bootstraps and the batches.

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
        """The same with the kind's defaults in place of None."""
        usual = _USUAL[self.kind]._asdict()
        return replace(self, **{name: value for name, value in usual.items() if getattr(self, name) is None})

    @property
    def states(self) -> int:
        """States of the windows that the model is fitted to."""
        return self.window if self.kind == "recurrent" else 2

    def model(self, layout: TrajectoryLayout, displacement_scale: Tensor) -> Model:
        """An untrained model, its weights drawn from torch's global generator.

        Args:
            layout: of normalised trajectories.
            displacement_scale: `(obs_dim,)` the data's standard deviation of one displacement, normalised.

        """
        size = {
            "hidden": self.resolved().hidden,
            "frequencies": self.frequencies,
            "bandwidth": self.bandwidth,
        }
        if self.kind == "ensemble":
            size["members"] = self.members
        return MODELS[self.kind](layout, displacement_scale, **size)  # type: ignore[arg-type]
