"""Costs: analytic energies without parameters. Added to a learned energy, they define the objective of a plan.

Tensors that belong to a planning problem, such as its goal, may have a leading axis of `N` problems. Chains
`i*r ... i*r + r-1` of a batch of `B = N * r` chains then belong to problem `i`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import require, require_finite, require_flag, require_number, require_shape
from ebm_control.energies.arrays import ArrayEnergy, columns_of, takes_arrays
from ebm_control.energies.base import Energy
from ebm_control.energies.cost_arrays import TIP, GoalArrays
from ebm_control.energies.curvature import Quadratic, window_bands, window_curvature
from ebm_control.energies.layout import TrajectoryLayout, pick, require_index, unpick
from ebm_control.energies.written_out import unchanged
from ebm_control.tensors import as_tensor, ordinary_tensors, outside_inference_mode

Norm = Literal["l1", "l2", "squared"]


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
        norm: Norm = "l1",
        smooth: float = 0.0,
        last_only: bool = False,
    ) -> None:
        super().__init__()
        require_index("index", index, layout.obs_dim)
        require(norm in get_args(Norm), "norm", given=norm, expected=f"one of {get_args(Norm)}")
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
        if goal.ndim not in (1, 2) or goal.shape[-1] != len(self.index):
            expected = f"shape ({len(self.index)},) or (N, {len(self.index)})"
            require(False, "goal", given=tuple(goal.shape), expected=expected)
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
        rows, delta = self._deltas(x)
        gradient = torch.zeros_like(x)
        gradient[:, rows] = unpick(direction(delta, self.norm, self.smooth), self.index, gradient[:, rows])
        return distance(delta, self.norm, self.smooth).sum(dim=1), gradient

    def quadratic(self, x: Tensor, context: Tensor | None = None) -> Quadratic:
        """Cost, gradient and curvature: of "l1" and "l2" that of the quadratic that touches them from above."""
        rows, delta = self._deltas(x)
        pull = direction(delta, self.norm, self.smooth)
        if self.norm == "squared":
            slope = torch.ones_like(delta)
        else:
            square = delta.square()
            square = square.sum(dim=-1, keepdim=True) if self.norm == "l2" else square
            slope = (square + max(self.smooth, TIP) ** 2).rsqrt().expand_as(delta)
        gradient, diagonal = torch.zeros_like(x), torch.zeros_like(x)
        gradient[:, rows] = unpick(pull, self.index, gradient[:, rows])
        diagonal[:, rows] = unpick(slope, self.index, diagonal[:, rows])
        energy = distance(delta, self.norm, self.smooth).sum(dim=1)
        return Quadratic(energy, gradient, (torch.diag_embed(diagonal),))

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of the curvature; see `quadratic`."""
        return self.quadratic(x, context).bands

    def on_arrays(self, x: Tensor, context: Tensor | None = None) -> ArrayEnergy | None:
        """For float32 on the CPU."""
        goal, problems = self.goal, self.goal.shape[0] if self.goal.ndim == 2 else 1
        fits = takes_arrays(x, goal) and x.shape[1] > 1 and problems > 0 and x.shape[0] % problems == 0
        if not fits or x.shape[2] <= max(self.index) or not unchanged(self):
            return None
        columns = columns_of(self.index)
        return GoalArrays(
            goal.detach().numpy(), self.goal_layout, columns, self.norm, self.smooth, self.last_only
        )

    def _deltas(self, x: Tensor) -> tuple[slice, Tensor]:
        """The time steps that count, and their differences from the goal `(B, steps, len(index))`."""
        goal = per_chain(self.goal, x.shape[0]) if self.goal.ndim == 2 else self.goal
        rows = slice(x.shape[1] - 1, None) if self.last_only else slice(1, None)
        return rows, self.goal_layout.difference(pick(x[:, rows], self.index), goal.unsqueeze(-2))


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

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of the Hessian, which is constant."""
        layout, states = self.layout, self.of == "states"
        length = x.shape[1] if states else x.shape[1] - 1  # the last time step's action has no effect
        weights = (-1.0, 1.0) if self.order == 1 else (1.0, -2.0, 1.0)
        width = len(weights)
        if length < width:
            return (x.new_zeros(*x.shape, x.shape[-1]),)
        chosen = torch.zeros(layout.dim, device=x.device, dtype=x.dtype)
        chosen[slice(layout.obs_dim) if states else slice(layout.obs_dim, layout.dim)] = 1.0
        block = torch.diag(chosen).expand(len(x), length - width + 1, -1, -1)
        blocks = {(i, j): weights[i] * weights[j] * block for i in range(width) for j in range(i, width)}
        return window_bands(blocks, x.shape[1])

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

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of the Hessian, with the absolute eigenvalues of that of each transition."""
        return window_curvature(self, x)


def numbers(argument: str, value: Tensor | ArrayLike) -> Tensor:
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


def distance(delta: Tensor, norm: Norm = "l1", smooth: float = 0.0) -> Tensor:
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
