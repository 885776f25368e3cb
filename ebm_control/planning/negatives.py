"""The planner's own plans as negatives, which raise the energy where the planner exploits model errors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ebm_control.checks import require
from ebm_control.data.batch import Batch
from ebm_control.planning.planner import Planner


class PlannedNegatives:
    """Windows of plans from data states to other data states, for `Trainer(extra_negatives=...)`.

    Planning exploits regions where a learned energy is too low, so plans are the negatives that training lacks (Du, Lin
    & Mordatch 2019). Here this is done offline, with starts and goals drawn from the batch.

    Args:
        planner: planner over the energy in training.
        count: windows per update; with `InfoNCE` a multiple of the batch size.
        every: updates between two rounds of planning; in between, windows of the last round are drawn again.
        problems: plans per round.
        seed: seed of starts, goals and chains.

    """

    def __init__(
        self, planner: Planner, *, count: int = 64, every: int = 20, problems: int = 16, seed: int = 0
    ) -> None:
        require(count >= 1, "count", given=count, expected="at least 1")
        require(every >= 1, "every", given=every, expected="at least 1")
        self.planner, self.count, self.every, self.problems = planner, count, every, problems
        self._generator = torch.Generator().manual_seed(seed)
        self._windows = torch.empty(0)

    def __call__(self, step: int, batch: Batch) -> Batch:
        """Negatives `(count, window, D)` for one update; new plans are made every `every` updates."""
        window = batch.x.shape[1]
        if step % self.every == 0 or not len(self._windows):
            order = torch.randperm(len(batch.x), generator=self._generator).to(batch.x.device)
            states = self.planner.layout.states(batch.x)[:, 0]
            start, other = states[order[: self.problems]], states[order.roll(1)[: self.problems]]
            goal = other[:, list(self.planner.goal_index)] if self.planner.goal_index else None
            plan = self.planner.plan(start, goal, generator=self._on(batch.x.device))
            chains = plan.chains.flatten(0, 1)
            self._windows = chains.unfold(1, window, 1).flatten(0, 1).transpose(1, 2).contiguous()
        pick = torch.randint(len(self._windows), (self.count,), generator=self._generator)
        context = self.planner.context
        held = None if context is None else context.to(batch.x).expand(self.count, -1)
        return Batch(self._windows[pick.to(self._windows.device)].to(batch.x), held)

    def state_dict(self) -> dict[str, Tensor]:
        """The last round's windows and the generator's state, so that a resumed run draws the same negatives."""
        return {"windows": self._windows, "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where the object that returned `state` stopped."""
        self._windows = state["windows"]
        self._generator.set_state(state["generator"])

    def _on(self, device: torch.device) -> torch.Generator:
        """A generator on `device` for the planner's noise, with a seed from this object's own generator."""
        seed = int(torch.randint(2**31, (), generator=self._generator))
        return torch.Generator(device).manual_seed(seed)
