"""Endless batches of training windows, and the state to take them up again after a break."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ebm_control.checks import InputError, require, require_number, require_widths
from ebm_control.data.batch import Batch
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.seeds import torch_generator


class WindowBatches(Iterator[Batch]):
    """Infinite iterator over batches of windows; made and described by `window_batches`."""

    def __init__(
        self,
        buffer: RolloutBuffer,
        normalizer: Normalizer,
        batch_size: int,
        length: int,
        gaps: Sequence[int],
        with_context: bool,
        device: torch.device | str,
        dtype: torch.dtype,
        seed: int,
    ) -> None:
        require_number("batch_size", batch_size, 1, whole=True)
        require_widths("gaps" if with_context else "gap", gaps, least=1)
        dims = normalizer.layout.obs_dim, normalizer.layout.act_dim
        expected = buffer.obs_dim, buffer.act_dim
        require(
            dims == expected, "normalizer", given=f"dimensions {dims}", expected=f"the buffer's, {expected}"
        )
        self.gaps = tuple(gaps)
        self._batch_size, self._length, self._with_context = batch_size, length, with_context
        self._starts = [torch.from_numpy(buffer.window_starts(length, g)).to(device) for g in self.gaps]
        # One tensor of rows for each gap, from which a batch is a single gather.
        self._data = [_normalised_rows(buffer, normalizer, g).to(device, dtype) for g in self.gaps]
        self._before = np.cumsum([0, *(len(starts) for starts in self._starts)]).tolist()
        self._offsets = torch.arange(length, device=device)
        self._generator = torch_generator(seed, device)
        # The gap decides which tensor is read, so it is drawn on the host: on a device it would cost a sync.
        self._gap_generator = torch_generator(seed)

    @property
    def num_windows(self) -> int:
        """Distinct windows, over all gaps: one more than the greatest `index` of a batch."""
        return int(self._before[-1])

    def range(self) -> tuple[Tensor, Tensor]:
        """Least and greatest figure of each coordinate of a row, `(D,)` each, in normalised units."""
        return self._data[0].amin(dim=0), self._data[0].amax(dim=0)

    def all_pairs(self) -> tuple[Tensor, Tensor]:
        """First and second row `(N, D)` of every window of the first gap."""
        starts = self._starts[0]
        return self._data[0][starts], self._data[0][starts + self.gaps[0]]

    def __next__(self) -> Batch:
        many = len(self.gaps) > 1
        k = int(torch.randint(len(self.gaps), (), generator=self._gap_generator)) if many else 0
        gap, starts, data = self.gaps[k], self._starts[k], self._data[k]
        picks = torch.randint(
            starts.shape[0], (self._batch_size,), generator=self._generator, device=self._offsets.device
        )
        rows = starts[picks].unsqueeze(1) + gap * self._offsets
        x = data.index_select(0, rows.flatten()).view(self._batch_size, self._length, -1)
        context = x.new_full((self._batch_size, 1), math.log2(gap)) if self._with_context else None
        return Batch(x, context, self._before[k] + picks)

    def state_dict(self) -> dict[str, Tensor]:
        """State of the draw: uint8 tensors, which `torch.load(weights_only=True)` reads back."""
        return {"generator": self._generator.get_state(), "gap_generator": self._gap_generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on exactly where the iterator that gave `state` would have gone on, given the same data.

        Raises:
            InputError: an entry is missing, or comes from another kind of device.

        """
        try:
            self._generator.set_state(state["generator"].cpu())
            self._gap_generator.set_state(state["gap_generator"].cpu())
        except (KeyError, RuntimeError) as error:
            raise InputError(
                f"state: expected what state_dict gave on a {self._offsets.device.type} device, got {error}"
            ) from error


class StateBatches(Iterator[Batch]):
    """Windows without their actions, for energies over states alone."""

    def __init__(self, batches: WindowBatches, obs_dim: int) -> None:
        self.batches, self.obs_dim = batches, obs_dim

    @property
    def num_windows(self) -> int:
        """Number of distinct windows that can be drawn."""
        return self.batches.num_windows

    def __next__(self) -> Batch:
        batch = next(self.batches)
        return batch._replace(x=batch.x[..., : self.obs_dim])

    def state_dict(self) -> dict[str, Tensor]:
        """State of the random draw, by which a resumed run goes on with the same windows."""
        return self.batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where the iterator that gave `state` would have."""
        self.batches.load_state_dict(state)


def window_batches(
    buffer: RolloutBuffer,
    normalizer: Normalizer,
    batch_size: int = 256,
    length: int = 2,
    gap: int = 1,
    *,
    gaps: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> WindowBatches:
    """Endless batches of normalised windows, uniform over all windows of the buffer as it is now.

    The data are normalised and moved to `device` once, so a batch costs one gather and no transfer. Episodes
    added to the buffer later are not seen: make a new iterator, and hand it the old one's `state_dict`.

    Args:
        buffer: where the windows come from.
        normalizer: units of the windows.
        batch_size: windows in a batch, `B`.
        length: rows of a window, `T`.
        gap: steps from one row to the next; the row's action is the mean of those taken on the way. Where the
            episode ends before that, the last row's action is 0 in normalised units: the mean action.
        gaps: instead of `gap`, several: each batch has one of them, drawn at random, and says so as context.
        device: where the data and the draw live.
        dtype: of the windows.
        seed: of the draw.

    Returns:
        Iterator over `Batch`: windows `x` of `(B, T, D)`; `context` None, or with `gaps` `(B, 1)` holding log2 of
        the gap; `index` `(B,)`, which of the `num_windows` windows each one is. It has `state_dict` and
        `load_state_dict`: a resumed run sees the same batches.

    Raises:
        InputError: windows longer than the longest episode, or a normaliser of other dimensions.

    """
    chosen, with_context = ((gap,), False) if gaps is None else (gaps, True)
    return WindowBatches(buffer, normalizer, batch_size, length, chosen, with_context, device, dtype, seed)


# Displacements that differ by less than this are one and the same, in normalised units: float32's rounding of figures
# of up to ten units.
STEADY = 2e-6


def steady_coordinates(
    batches: WindowBatches | StateBatches, layout: TrajectoryLayout
) -> tuple[Tensor, Tensor]:
    """Coordinates whose displacement from a row to the next is the same in all data, and that displacement.

    Constants, coordinates that are constant within each episode (a goal or a parameter of it), clocks.

    Returns:
        `(obs_dim,)` boolean, and `(obs_dim,)` displacements in the units of the windows.

    """
    first, second = (batches.batches if isinstance(batches, StateBatches) else batches).all_pairs()
    moved = layout.difference(layout.states(second), layout.states(first))
    steady = moved.amax(dim=0) - moved.amin(dim=0) <= STEADY
    rate = moved.mean(dim=0)
    return steady, torch.where(rate.abs() > STEADY, rate, torch.zeros_like(rate))


def displacement_scale(batches: Iterator[Batch], layout: TrajectoryLayout, draws: int = 10) -> Tensor:
    """Root mean square `(obs_dim,)` of one displacement over `draws` batches of windows, 1 where nothing moves.

    Not the deviation: what moves evenly, a clock say, would be told in a unit in which its motion is huge.
    """
    states = layout.states(torch.cat([next(batches).x for _ in range(draws)]))
    scale = layout.difference(states[:, 1:], states[:, :-1]).flatten(0, 1).square().mean(dim=0).sqrt()
    return torch.where(scale > STEADY, scale, torch.ones_like(scale))


def _normalised_rows(buffer: RolloutBuffer, normalizer: Normalizer, gap: int) -> Tensor:
    """Rows `(N, D)`: every state of the buffer with the mean of the `gap` actions that follow."""
    observations = torch.from_numpy(buffer.observations)
    actions, known = buffer.gap_actions(np.arange(len(observations)), gap)
    normalised = normalizer.normalize_actions(torch.from_numpy(actions)) * torch.from_numpy(known).unsqueeze(
        1
    )
    return torch.cat([normalizer.normalize_observations(observations), normalised], dim=1)
