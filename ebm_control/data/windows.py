"""Endless batches of training windows, with a state from which they can be resumed."""

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
    """Infinite iterator over batches of windows; created by `window_batches`, see there."""

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
        # One tensor of time steps for each gap, so that a batch is a single gather.
        self._data = [_normalised_rows(buffer, normalizer, g).to(device, dtype) for g in self.gaps]
        self._before = np.cumsum([0, *(len(starts) for starts in self._starts)]).tolist()
        self._offsets = torch.arange(length, device=device)
        self._generator = torch_generator(seed, device)
        # The gap decides which tensor is read, so it is drawn on the host; on a device it would need a sync.
        self._gap_generator = torch_generator(seed)

    @property
    def num_windows(self) -> int:
        """Number of distinct windows over all gaps: one more than the greatest `index` of a batch."""
        return int(self._before[-1])

    def range(self) -> tuple[Tensor, Tensor]:
        """Least and greatest value of each coordinate of a time step, `(D,)` each, in normalised units."""
        return self._data[0].amin(dim=0), self._data[0].amax(dim=0)

    def all_pairs(self) -> tuple[Tensor, Tensor]:
        """First and second time step `(N, D)` of every window of the first gap."""
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
        """State of the draw as uint8 tensors, which `torch.load(weights_only=True)` can read."""
        return {"generator": self._generator.get_state(), "gap_generator": self._gap_generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly where the iterator that returned `state` would have continued, given the same data.

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
    """Windows without their actions, for energies over states only."""

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
        """State of the random draw; with it a resumed run continues with the same windows."""
        return self.batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where the iterator that returned `state` would have continued."""
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

    The data are normalised and moved to `device` once, so a batch costs one gather and no transfer. Episodes added
    to the buffer later are not used: create a new iterator and load the `state_dict` of the old one.

    Args:
        buffer: source of the windows.
        normalizer: units of the windows.
        batch_size: windows per batch, `B`.
        length: time steps per window, `T`.
        gap: steps from one time step of the window to the next; its action is the mean of those taken in between. If
            the episode ends before that, the last action is 0 in normalised units: the mean action.
        gaps: several gaps instead of `gap`: each batch has one of them, drawn at random and passed as context.
        device: device of the data and of the draw.
        dtype: dtype of the windows.
        seed: seed of the draw.

    Returns:
        Iterator over `Batch`: windows `x` `(B, T, D)`; `context` None, or with `gaps` `(B, 1)`, log2 of
            the gap; `index` `(B,)`, the index of each window among all `num_windows`. With `state_dict` and
            `load_state_dict` a resumed run gets the same batches.

    Raises:
        InputError: windows longer than the longest episode, or a normaliser of other dimensions.

    """
    chosen, with_context = ((gap,), False) if gaps is None else (gaps, True)
    return WindowBatches(buffer, normalizer, batch_size, length, chosen, with_context, device, dtype, seed)


# Displacements that differ by less than this count as equal, in normalised units: float32's rounding of values
# of up to ten units.
STEADY = 2e-6


def steady_coordinates(
    batches: WindowBatches | StateBatches, layout: TrajectoryLayout
) -> tuple[Tensor, Tensor]:
    """Coordinates whose one-step displacement is the same in all data, and that displacement.

    These are constants, coordinates that are constant within each episode (a goal or a parameter) and clocks.

    Returns:
        `(obs_dim,)` boolean, and `(obs_dim,)` displacements in the units of the windows.

    """
    first, second = (batches.batches if isinstance(batches, StateBatches) else batches).all_pairs()
    moved = layout.difference(layout.states(second), layout.states(first))
    steady = moved.amax(dim=0) - moved.amin(dim=0) <= STEADY
    rate = moved.mean(dim=0)
    return steady, torch.where(rate.abs() > STEADY, rate, torch.zeros_like(rate))


def displacement_scale(batches: Iterator[Batch], layout: TrajectoryLayout, draws: int = 10) -> Tensor:
    """Root mean square `(obs_dim,)` of one displacement over `draws` batches of windows; 1 for constants.

    It is not the std: for even motion, such as a clock, the std is tiny and its motion would be huge in that unit.
    """
    states = layout.states(torch.cat([next(batches).x for _ in range(draws)]))
    scale = layout.difference(states[:, 1:], states[:, :-1]).flatten(0, 1).square().mean(dim=0).sqrt()
    return torch.where(scale > STEADY, scale, torch.ones_like(scale))


def _normalised_rows(buffer: RolloutBuffer, normalizer: Normalizer, gap: int) -> Tensor:
    """Time steps `(N, D)`: every state of the buffer with the mean of the `gap` actions that follow."""
    observations = torch.from_numpy(buffer.observations)
    actions, known = buffer.gap_actions(np.arange(len(observations)), gap)
    normalised = normalizer.normalize_actions(torch.from_numpy(actions)) * torch.from_numpy(known).unsqueeze(
        1
    )
    return torch.cat([normalizer.normalize_observations(observations), normalised], dim=1)
