"""Costs: analytic energies without parameters. Added to a learned energy, they define the objective of a plan.

Tensors that belong to a planning problem, such as its goal, may have a leading axis of `N` problems. Chains
`i*r ... i*r + r-1` of a batch of `B = N * r` chains then belong to problem `i`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import require, require_finite, require_flag, require_number, require_shape
from ebm_control.energies.base import Energy
from ebm_control.energies.layout import TrajectoryLayout, pick, require_index, unpick
from ebm_control.tensors import as_tensor, ordinary_tensors, outside_inference_mode


class GoalCost(Energy):
    """Distance of chosen observation coordinates to a goal, summed over all time steps but the first.

    `E(τ) = Σ_{t ≥ 1} |s_t[index] - goal|`; periodic coordinates are compared modulo their period. Time step 0 is
    the start of the plan and cannot be changed.

    Args:
        layout: layout of the trajectories.
        index: observation coordinates that have a goal.
        norm: "l1", "l2" (Euclidean) or "squared" (half the squared distance).
        smooth: width over which the tip of "l1" and "l2" is rounded, in the units of `x`: the gradient fades within it,
            so that a sampler can come to rest at the goal.
        last_only: count the last time step only.

    Attributes:
        goal: `(len(index),)` or `(N, len(index))`, in the units of `x`; set with `set_goal`.

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
        """Set the goal: `(len(index),)` for all chains or `(N, len(index))` for N problems.

        Raises:
            InputError: the shape is wrong or a number is not finite.

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
            self.goal.copy_(goal)  # in place: a captured CUDA graph reads the goal from this memory
        else:
            self.goal = goal.clone()

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        goal = per_chain(self.goal, x.shape[0]) if self.goal.ndim == 2 else self.goal
        rows = pick(x[:, -1:] if self.last_only else x[:, 1:], self.index)
        delta = self.goal_layout.difference(rows, goal.unsqueeze(-2))
        return distance(delta, self.norm, self.smooth).sum(dim=1)

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cost and its gradient, written out."""
        goal = per_chain(self.goal, x.shape[0]) if self.goal.ndim == 2 else self.goal
        rows = slice(x.shape[1] - 1, None) if self.last_only else slice(1, None)
        delta = self.goal_layout.difference(pick(x[:, rows], self.index), goal.unsqueeze(-2))
        gradient = torch.zeros_like(x)
        gradient[:, rows] = unpick(direction(delta, self.norm, self.smooth), self.index, gradient[:, rows])
        return distance(delta, self.norm, self.smooth).sum(dim=1), gradient


class SmoothnessCost(Energy):
    """Half the squared finite difference of a trajectory, summed over time.

    Args:
        layout: layout of the trajectories.
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

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cost and its gradient, written out."""
        gradient = torch.zeros_like(x)
        if self.of == "states":
            states, place = self.layout.states(x), self.layout.states(gradient)
            step = self.layout.difference(states[:, 1:], states[:, :-1])
        else:
            place = self.layout.actions(gradient)[:, :-1]
            step = self.layout.actions(x)[:, :-1].diff(dim=1)
        slope = step = step.diff(dim=1) if self.order == 2 else step
        for _ in range(self.order - 1):
            zero = torch.zeros_like(slope[:, :1])
            slope = torch.cat([zero, slope], dim=1) - torch.cat([slope, zero], dim=1)
        if slope.shape[1]:
            place[:, 1:] += slope
            place[:, :-1] -= slope
        return 0.5 * step.square().sum(dim=(1, 2)), gradient


class BoxObstacle(Energy):
    """Depth inside axis-aligned boxes: 0 outside, growing linearly to the middle of the box.

    `E(τ) = Σ_t Σ_boxes max(0, min_i min(x_i - low_i, high_i - x_i) + margin)`. Points between time steps count
    too, so that a plan cannot step over a box wider than `1 / (between + 1)` of its longest step.

    Args:
        boxes: `(M, 2, len(index))` low and high corners in the units of `x`, or `(N, M, 2, len(index))` for N problems.
            Some sides of a box may be infinitely far (half-space, wall of a corridor), but not all of them.
        index: coordinates that the boxes bound.
        margin: distance to keep from the boxes.
        between: points checked between neighbouring time steps.

    Raises:
        InputError: an argument is out of range, or a shape does not fit.

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

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cost and its gradient, written out: that of the nearest side, shared where several are as near."""
        points, count = pick(x, self.index), x.shape[1] - 1
        weight = torch.linspace(0, 1, self.between + 2, device=x.device, dtype=x.dtype)[:-1, None]
        dense = points[:, :-1, None] + weight * (points[:, 1:, None] - points[:, :-1, None])
        dense = torch.cat([dense.flatten(1, 2), points[:, -1:]], dim=1).unsqueeze(2)
        boxes = per_chain(self.boxes, len(x)).unsqueeze(1) if self.boxes.ndim == 4 else self.boxes
        above, below = dense - boxes[..., 0, :], boxes[..., 1, :] - dense
        near = torch.minimum(above, below)
        depth = near.amin(dim=-1, keepdim=True)
        excess = torch.relu(depth + self.margin)
        nearest = (near == depth).to(excess)
        share = nearest / nearest.sum(dim=-1, keepdim=True) * (excess > 0)
        pull = (share * torch.sign(below - above)).sum(
            dim=2
        )  # rising from the lower side, falling to the upper
        between = pull[:, :-1].unflatten(1, (count, self.between + 1))
        slope = torch.zeros_like(points, dtype=pull.dtype)
        slope[:, :-1] += (between * (1 - weight)).sum(dim=2)
        slope[:, 1:] += (between * weight).sum(dim=2)
        slope[:, -1] += pull[:, -1]
        return excess.sum(dim=(1, 2, 3)), unpick(slope, self.index, x)


class BoundCost(Energy):
    """Squared excess of chosen coordinates beyond bounds: keeps plans inside a workspace or a speed limit.

    Args:
        low: `(len(index),)` lower bounds in the units of `x`.
        high: `(len(index),)` upper bounds.
        index: coordinates of a time step (observations first, then actions).

    Raises:
        InputError: bounds do not fit the coordinates or each other.

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

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cost and its gradient, written out."""
        part = pick(x, self.index)
        above, below = torch.relu(part - self.high), torch.relu(self.low - part)
        excess = above + below
        return 0.5 * excess.square().sum(dim=(1, 2)), unpick(above - below, self.index, x)


class SpeedCost(Energy):
    """Half the squared excess of each displacement over a limit: a speed limit, summed over time.

    Args:
        layout: layout of the trajectories.
        limit: `(obs_dim,)` largest displacement of one step, in the units of `x`; infinite for none.

    Raises:
        InputError: not one number of at least 0 for each coordinate.

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

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cost and its gradient, written out."""
        states, gradient = self.layout.states(x), torch.zeros_like(x)
        step = self.layout.difference(states[:, 1:], states[:, :-1])
        excess = torch.relu(step.abs() - self.limit)
        slope, place = excess * step.sign(), self.layout.states(gradient)
        place[:, 1:] += slope
        place[:, :-1] -= slope
        return 0.5 * excess.square().sum(dim=(1, 2)), gradient


class RewardCost(Energy):
    """Any differentiable reward as a cost: `E(τ) = -Σ_t reward(s_t, a_t, s_{t+1})`.

    Args:
        layout: layout of the trajectories.
        reward: maps states `(B, T-1, obs_dim)`, actions `(B, T-1, act_dim)` and next states to rewards `(B, T-1)` of
            any dtype.
        denormalize: maps a trajectory `(B, T, D)` to the units of `reward` as observations and actions, for example
            a normaliser's `denormalize`; None if `reward` takes the units of `x`. A fitted normaliser returns float64,
            which large coordinates need; a reward with a float32 network has to cast its inputs.

    Raises:
        InputError: on a call, if the reward returns no tensor or one of another shape.

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
    """A cost's parameters as a float32 copy on their device, so that later changes of `value` have no effect."""
    device = value.device if isinstance(value, Tensor) else "cpu"
    return as_tensor(argument, value, torch.float32, device).clone()


def per_chain(value: Tensor, chains: int) -> Tensor:
    """Repeat values of N problems `(N, ...)` for `chains = N * r` chains, problem by problem."""
    problems = value.shape[0]
    require(
        chains % problems == 0, "x", given=f"{chains} chains", expected=f"a multiple of {problems} problems"
    )
    return value if chains == problems else value.repeat_interleave(chains // problems, dim=0)


def distance(delta: Tensor, norm: str = "l1", smooth: float = 0.0) -> Tensor:
    """Length of `delta` `(..., D) -> (...)`: "l1", "l2" or "squared", with a tip rounded over a width `smooth`."""
    if norm == "squared":
        return 0.5 * delta.square().sum(dim=-1)
    if norm == "l2":
        return (delta.square().sum(dim=-1) + smooth**2 + 1e-12).sqrt() - smooth
    if smooth > 0:
        return ((delta.square() + smooth**2).sqrt() - smooth).sum(dim=-1)
    return delta.abs().sum(dim=-1)


def direction(delta: Tensor, norm: str = "l1", smooth: float = 0.0) -> Tensor:
    """Gradient of `distance` with respect to `delta`, `(..., D)`."""
    if norm == "squared":
        return delta
    if norm == "l2":
        return delta / (delta.square().sum(dim=-1, keepdim=True) + smooth**2 + 1e-12).sqrt()
    return delta / (delta.square() + smooth**2).sqrt() if smooth > 0 else delta.sign()
