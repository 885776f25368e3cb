"""How observations and actions of an environment are laid out as vectors: named parts, and a history of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import require, require_number, shown

Array = NDArray[np.float64]
Kind = Literal["numbers", "whole", "choice", "flags"]


@dataclass(frozen=True)
class Part:
    """Neighbouring coordinates with one meaning.

    Attributes:
        name: path in the space, such as "arm.position"; "observation" or "action" for a space without names.
        kind: "numbers", "whole" numbers, a "choice" (one-hot: one coordinate for each value) or "flags" (0 or 1).
        size: number of coordinates.

    """

    name: str
    kind: Kind
    size: int

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.size} {self.kind}"
            if self.kind == "numbers"
            else f"{self.name}: {self.kind} {self.size}"
        )


@dataclass(frozen=True)
class FlatForm:
    """Parts of the vectors that stand for an environment's observations and actions.

    With a history an observation holds the last observations and the actions between them, the latest first:
    `o_t, o_{t-1}, a_{t-1}, o_{t-2}, a_{t-2}, ...`. So coordinates of the latest observation have the same indices as
    without a history. At the start of an episode the first observation is repeated, and the actions are 0.

    Args:
        observations: parts of one observation.
        actions: parts of one action.
        history: number of observations `k`, 1 for the latest alone.

    """

    observations: tuple[Part, ...]
    actions: tuple[Part, ...]
    history: int = 1

    def __post_init__(self) -> None:
        require_number("history", self.history, 1, whole=True)
        object.__setattr__(self, "history", int(self.history))

    @property
    def frame(self) -> int:
        """Coordinates of one observation."""
        return sum(part.size for part in self.observations)

    @property
    def act_dim(self) -> int:
        """Coordinates of an action."""
        return sum(part.size for part in self.actions)

    @property
    def obs_dim(self) -> int:
        """Coordinates of an observation with its history."""
        return self.history * self.frame + (self.history - 1) * self.act_dim

    @property
    def parts(self) -> dict[str, slice]:
        """Slices of an observation's coordinates by name; those k steps ago are called "name[-k]"."""
        found, at = {}, 0
        for back in range(self.history):
            for part in self.observations + (self.actions if back else ()):
                found[part.name if back == 0 else f"{part.name}[-{back}]"] = slice(at, at + part.size)
                at += part.size
        return found

    @property
    def action_parts(self) -> dict[str, slice]:
        """Slices of an action's coordinates by name."""
        ends = np.cumsum([part.size for part in self.actions]).tolist()
        return {part.name: slice(end - part.size, end) for part, end in zip(self.actions, ends, strict=True)}

    def begun(self, frames: Array) -> Array:
        """What precedes the first observations `(N, frame)` of episodes: these repeated, with actions of 0."""
        before = np.concatenate([frames, np.zeros((len(frames), self.act_dim))], axis=1)
        return np.tile(before, (1, self.history - 1))

    def advanced(self, frames: Array, past: Array, actions: Array) -> Array:
        """What precedes the next observations, after the present ones and actions `(N, act_dim)`."""
        return np.concatenate([frames, actions, past], axis=1)[:, : past.shape[1]]

    def repeated(self, values: Sequence[float]) -> tuple[float, ...]:
        """Values `(frame,)` of one observation for all observations of a history; 0 for its actions."""
        again = (*values, *[0.0] * self.act_dim)
        return (*values, *again * (self.history - 1))

    def __str__(self) -> str:
        observed, acted = (", ".join(map(str, parts)) for parts in (self.observations, self.actions))
        return f"observations ({observed}) of {self.history} steps and actions ({acted})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        rows = {
            name: [[part.name, part.kind, part.size] for part in getattr(self, name)]
            for name in ("observations", "actions")
        }
        return {**rows, "history": self.history}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> FlatForm:
        """The form from the result of `to_dict`.

        Raises:
            InputError: it is no such dictionary.

        """
        known = {"observations", "actions", "history"} <= set(saved)
        require(known, "form", given=shown(saved), expected="a dictionary that FlatForm.to_dict returned")
        observed, acted = (tuple(Part(*row) for row in saved[name]) for name in ("observations", "actions"))
        for part in (*observed, *acted):
            require(part.kind in get_args(Kind), "form", given=part.kind, expected=f"one of {get_args(Kind)}")
            require_number("form", part.size, 1, whole=True)
        return cls(observed, acted, saved["history"])
