"""Negatives in addition to the sampler's: random noise, and several sources in one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ebm_control.checks import require, require_number, require_seed
from ebm_control.data.batch import Batch
from ebm_control.training.sample_buffer import Fresh

Negatives = Callable[[int, Batch], Batch | None]
"""`(step, batch) -> Batch`: further negatives of an update, with a context if the energy has one; or None."""


class RandomNegatives:
    """Noise as negatives, for `Trainer(extra_negatives=...)`: raises the energy where no chain has been yet.

    Persistent chains stay near the data and reach distant places (the inside of a wall) late or never.
    With `Softplus` this is noise-contrastive estimation (Gutmann & Hyvärinen 2010).

    Args:
        fresh: source of the noise, for example `scattered(...)`; it gets no data.
        count: windows per update.
        seed: seed of the noise.
        device: device of the noise.

    """

    def __init__(
        self, fresh: Fresh, count: int, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        require_number("count", count, 1, whole=True)
        require_seed("seed", seed)
        self.fresh, self.count = fresh, count
        self._generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, step: int, batch: Batch) -> Batch:
        """`(count, window, D)` windows, with the first context of the batch if it has one."""
        x = self.fresh((self.count, *batch.x.shape[1:]), self._generator, None).to(batch.x)
        return Batch(x, None if batch.context is None else batch.context[:1].expand(self.count, -1))

    def state_dict(self) -> dict[str, Tensor]:
        """State of the draw."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where the object that returned `state` would have continued."""
        self._generator.set_state(state["generator"])


def drawn_from(sources: Sequence[Negatives], step: int, batch: Batch) -> Batch | None:
    """The windows of all sources, concatenated; None if no source returns any.

    Raises:
        InputError: some sources return a context and others do not.

    """
    given = [source(step, batch) for source in sources]
    parts = [part for part in given if part is not None]
    if not parts:
        return None
    contexts = [part.context for part in parts if part.context is not None]
    require(
        len(contexts) in (0, len(parts)),
        "extra_negatives",
        given=f"windows with a context from {len(contexts)} of {len(parts)}",
        expected="a context from all or from none",
    )
    return Batch(torch.cat([part.x for part in parts]), torch.cat(contexts) if contexts else None)


def states_of(sources: Sequence[Negatives]) -> dict[str, Any]:
    """States of those sources that have one, by index."""
    return {str(i): s.state_dict() for i, s in enumerate(sources) if hasattr(s, "state_dict")}


def load_states(sources: Sequence[Negatives], state: Mapping[str, Any]) -> None:
    """Let sources continue where those that returned `state` would have continued."""
    if state and not all(name.isdigit() for name in state):
        state = {"0": state}  # checkpoints of version 0.0 held the state of a single source
    for i, source in enumerate(sources):
        if hasattr(source, "load_state_dict"):
            source.load_state_dict(state[str(i)])
