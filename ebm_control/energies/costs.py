"""Costs: analytic energies with no parameters. Added to a learned energy, they say what a plan is for.

Figures that belong to a planning problem (its goal, say) may have a leading axis of `N` problems; a batch of
`B = N * r` chains is then read problem by problem, `r` chains each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import require, require_finite, require_flag, require_number, require_shape
from ebm_control.energies.base import Energy
from ebm_control.energies.layout import TrajectoryLayout, pick, require_index
from ebm_control.tensors import as_tensor, ordinary_tensors, outside_inference_mode


class GoalCost(Energy):
    """Distance of chosen observation coordinates to a goal, summed over the trajectory's later rows.

    `E(τ) = Σ_{t ≥ 1} |s_t[index] - goal|`, periodic coordinates by the shorter way round. Row 0 is where the
    plan starts and cannot be changed.

    Args:
        layout: meaning of the coordinates.
        index: observation coordinates that have a goal.
        norm: "l1", "l2" (Euclidean) or "squared" (half the squared distance).
        smooth: width of the rounded tip of "l1" and "l2", in the units of `x`: within it the gradient fades, so
            that a sampler can come to rest at the goal.
        last_only: only the last row counts.

    Attributes:
        goal: `(len(index),)` or `(N, len(index))`, in the units of `x`; set it with `set_goal`.

    """

    goal: Tensor

    @ordinary_tensors()
    def __init__(
        self,
        layout: TrajectoryLayout,
        index: Sequence[int],
        *,
        norm: str = "l1",
        smooth: float = 0.0,
        last_only: bool = False,
    ) -> None:
        super().__init__()
        require_index("index", index, layout.obs_dim)
        require(norm in ("l1", "l2", "squared"), "norm", given=norm, expected="'l1', 'l2' or 'squared'")
        require_number("smooth", smooth, 0)
        require_flag("last_only", last_only)
        self.index = [int(i) for i in index]
        self.norm, self.smooth, self.last_only = norm, smooth, last_only
        periods = tuple(layout.periods[i] for i in self.index) if layout.periods else ()
        self.goal_layout = TrajectoryLayout(len(self.index), periods=periods)
        self.register_buffer("goal", torch.zeros(len(self.index), dtype=torch.float32))

    @outside_inference_mode
    def set_goal(self, goal: Tensor | ArrayLike) -> None:
        """Set the goal, `(len(index),)` for all chains or `(N, len(index))` for N problems.

        Raises:
            InputError: another shape, or anything but finite numbers.

        """
        goal = as_tensor("goal", goal, self.goal.dtype, self.goal.device)
        require(
            goal.ndim in (1, 2) and goal.shape[-1] == len(self.index),
            "goal",
            given=tuple(goal.shape),
            expected=f"shape ({len(self.index)},) or (N, {len(self.index)})",
        )
        require_finite("goal", goal)
        if goal.shape == self.goal.shape:
            self.goal.copy_(goal)  # in place: a captured CUDA graph reads the goal where it lay
        else:
            self.goal = goal.clone()

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        goal = per_chain(self.goal, x.shape[0]) if self.goal.ndim == 2 else self.goal
        rows = pick(x[:, -1:] if self.last_only else x[:, 1:], self.index)
        delta = self.goal_layout.difference(rows, goal.unsqueeze(-2))
        return distance(delta, self.norm, self.smooth).sum(dim=1)


class SmoothnessCost(Energy):
    """Half the squared finite difference of a trajectory, summed over time.

    Args:
        layout: meaning of the coordinates.
        order: 1 for velocity, 2 for acceleration.
        of: "states" or "actions".

    """

    def __init__(self, layout: TrajectoryLayout, *, order: int = 1, of: str = "states") -> None:
        super().__init__()
        require_number("order", order, 1, 2, whole=True)
        require(of in ("states", "actions"), "of", given=of, expected="'states' or 'actions'")
        self.layout, self.order, self.of = layout, order, of

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        if self.of == "states":
            states = self.layout.states(x)
            step = self.layout.difference(states[:, 1:], states[:, :-1])
        else:
            step = self.layout.actions(x)[:, :-1].diff(dim=1)
        if self.order == 2:
            step = step.diff(dim=1)
        return 0.5 * step.square().sum(dim=(1, 2))


class BoxObstacle(Energy):
    """Depth inside axis-aligned boxes: 0 outside, growing linearly to the boxes' middle.

    `E(τ) = Σ_t Σ_boxes max(0, min_i min(x_i - low_i, high_i - x_i) + margin)`. Points between rows count
    too, so that a plan cannot step over a box wider than `1 / (between + 1)` of its longest step.

    Args:
        boxes: `(M, 2, len(index))` low and high corners, in the units of `x`; or `(N, M, 2, len(index))`, those of
            each of N problems. A side may be infinitely far (a half-space, a corridor's wall), but not all of a box.
        index: coordinates that the boxes bound.
        margin: distance to keep from the boxes.
        between: points checked between neighbouring rows.

    Raises:
        InputError: a setting is of no sense, or a shape does not fit.

    """

    boxes: Tensor

    @ordinary_tensors()
    def __init__(
        self, boxes: Tensor | ArrayLike, index: Sequence[int], *, margin: float = 0.0, between: int = 3
    ) -> None:
        super().__init__()
        require_index("index", index)
        boxes = _figures("boxes", boxes)
        require_shape("boxes", boxes, (*[None] * (boxes.ndim - 2 if boxes.ndim == 4 else 1), 2, len(index)))
        require(
            bool((boxes[..., 0, :] < boxes[..., 1, :]).all()),
            "boxes",
            given=boxes.tolist(),
            expected="low < high",
        )
        bounded = bool(boxes.isfinite().flatten(-2).any(dim=-1).all())
        require(bounded, "boxes", given=boxes.tolist(), expected="a finite side of each")
        require_number("margin", margin, 0)
        require_number("between", between, 0, whole=True)
        self.index, self.margin, self.between = [int(i) for i in index], margin, between
        self.register_buffer("boxes", boxes)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        points = pick(x, self.index)
        weight = torch.linspace(0, 1, self.between + 2, device=x.device, dtype=x.dtype)[:-1, None]
        dense = points[:, :-1, None] + weight * (points[:, 1:, None] - points[:, :-1, None])
        dense = torch.cat([dense.flatten(1, 2), points[:, -1:]], dim=1).unsqueeze(2)
        boxes = per_chain(self.boxes, len(x)).unsqueeze(1) if self.boxes.ndim == 4 else self.boxes
        depth = torch.minimum(dense - boxes[..., 0, :], boxes[..., 1, :] - dense).amin(dim=-1)
        return torch.relu(depth + self.margin).sum(dim=(1, 2))


class BoundCost(Energy):
    """Squared excess of chosen coordinates beyond bounds: keeps plans inside the space (or a speed limit).

    Args:
        low: `(len(index),)` lower bounds in the units of `x`.
        high: `(len(index),)` upper bounds.
        index: coordinates of a row (observations first, then actions).

    Raises:
        InputError: bounds that do not fit the coordinates or each other.

    """

    low: Tensor
    high: Tensor

    @ordinary_tensors()
    def __init__(self, low: Tensor | ArrayLike, high: Tensor | ArrayLike, index: Sequence[int]) -> None:
        super().__init__()
        require_index("index", index)
        low, high = _figures("low", low), _figures("high", high)
        require_shape("low", low, (len(index),))
        require_shape("high", high, (len(index),))
        require(
            bool(((low <= high) & (low < torch.inf) & (high > -torch.inf)).all()),
            "low",
            given=low.tolist(),
            expected=f"at most high = {high.tolist()}",
        )
        self.index = [int(i) for i in index]
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        part = pick(x, self.index)
        excess = torch.relu(part - self.high) + torch.relu(self.low - part)
        return 0.5 * excess.square().sum(dim=(1, 2))


class SpeedCost(Energy):
    """Half the squared excess of each displacement over a limit: a speed limit, summed over time.

    Args:
        layout: meaning of the coordinates.
        limit: `(obs_dim,)` largest displacement of one step, in the units of `x`; infinite for none.

    Raises:
        InputError: anything but one figure of at least 0 for each coordinate.

    """

    limit: Tensor

    @ordinary_tensors()
    def __init__(self, layout: TrajectoryLayout, limit: Tensor | ArrayLike) -> None:
        super().__init__()
        limit = _figures("limit", limit)
        require_shape("limit", limit, (layout.obs_dim,))
        require(bool((limit >= 0).all()), "limit", given=limit.tolist(), expected="figures of 0 or more")
        self.layout = layout
        self.register_buffer("limit", limit)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        states = self.layout.states(x)
        step = self.layout.difference(states[:, 1:], states[:, :-1]).abs()
        return 0.5 * torch.relu(step - self.limit).square().sum(dim=(1, 2))


class RewardCost(Energy):
    """Any differentiable reward as a cost: `E(τ) = -Σ_t reward(s_t, a_t, s_{t+1})`.

    Args:
        layout: meaning of the coordinates.
        reward: maps states `(B, T-1, obs_dim)`, actions `(B, T-1, act_dim)` and next states to rewards `(B, T-1)` of
            any dtype.
        denormalize: maps a trajectory `(B, T, D)` to raw observations and actions, the units that `reward` speaks
            (a normaliser's `denormalize`); None where it speaks those of `x`. That of a fitted normaliser gives
            float64, which a world far from its origin needs; a reward with a float32 network casts what it is given.

    Raises:
        InputError: from a call: the reward gives no tensor, or one of another shape.

    """

    def __init__(
        self,
        layout: TrajectoryLayout,
        reward: Callable[[Tensor, Tensor, Tensor], Tensor],
        *,
        denormalize: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        for name, given in (("reward", reward), ("denormalize", denormalize)):
            sound = callable(given) or (name == "denormalize" and given is None)
            require(sound, name, given=type(given).__name__, expected="a function of tensors")
        self.layout, self.reward, self.denormalize = layout, reward, denormalize

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        states, actions = self.layout.states(x), self.layout.actions(x)
        if self.denormalize is not None:
            states, actions = self.denormalize(x)
        value = self.reward(states[:, :-1], actions[:, :-1], states[:, 1:])
        given = type(value).__name__
        require(isinstance(value, Tensor), "reward(...)", given=given, expected="a tensor")
        require_shape("reward(...)", value, (x.shape[0], x.shape[1] - 1))
        return -value.to(x.dtype).sum(dim=1)


def _figures(argument: str, value: Tensor | ArrayLike) -> Tensor:
    """Figures of a cost as float32, where they are: a copy, which no later change of what was given moves."""
    device = value.device if isinstance(value, Tensor) else "cpu"
    return as_tensor(argument, value, torch.float32, device).clone()


def per_chain(value: Tensor, chains: int) -> Tensor:
    """Figures of N problems `(N, ...)`, repeated for `chains = N * r` chains, problem by problem."""
    problems = value.shape[0]
    require(
        chains % problems == 0, "x", given=f"{chains} chains", expected=f"a multiple of {problems} problems"
    )
    return value if chains == problems else value.repeat_interleave(chains // problems, dim=0)


def distance(delta: Tensor, norm: str = "l1", smooth: float = 0.0) -> Tensor:
    """Length of `delta` `(..., D) -> (...)`: "l1", "l2" or "squared", with a rounded tip of width `smooth`."""
    if norm == "squared":
        return 0.5 * delta.square().sum(dim=-1)
    if norm == "l2":
        return (delta.square().sum(dim=-1) + smooth**2 + 1e-12).sqrt() - smooth
    if smooth > 0:
        return ((delta.square() + smooth**2).sqrt() - smooth).sum(dim=-1)
    return delta.abs().sum(dim=-1)
