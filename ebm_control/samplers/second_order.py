"""Second-order samplers: steps preconditioned by the curvature of the energy, for stiff energies of trajectories."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm_control.checks import require, require_number
from ebm_control.energies.banded import Banded
from ebm_control.energies.curvature import Quadratic
from ebm_control.samplers.chain import Bound, KernelSampler
from ebm_control.samplers.engines import Engine
from ebm_control.samplers.kernel import Info, Kernel, State, Target, choose, masked, norms, per_chain

# Dampings that each step tries, in units of that of the last step. The matrix is factorised for each, which costs less
# than a curvature, so few steps are wasted.
_TRIED = (0.1, 3.0)
_STIFF = 1e8  # stiffness of a coordinate that is held, in units of the largest curvature
_ROUNDS = 5  # solutions of a step while coordinates reach their bounds
_GROWN = 30.0  # factor of the damping after a step of which no damping lowered the energy
_LEAST, _GREATEST = 1e-8, 1e12  # range of the damping


@dataclass(frozen=True)
class GaussNewton(KernelSampler):
    """Gauss-Newton steps: a search for a mode at temperature 0, exact sampling above it.

    The curvature `C` is that of `Energy.quadratic`, and `A = C + damping / scale²`. For trajectories the cost of a step
    is linear in their length.

    At temperature 0 this is the method of Levenberg and Marquardt: `x <- x - A⁻¹ ∇E`, within bounds by an active-set
    search. Each step tries two dampings at once, ten times less and three times more than the last, and takes the
    better one. If neither lowers the energy of the chain, it stays and the damping grows.

    Above 0 it samples `exp(-E / T)`: simplified manifold MALA (Girolami & Calderhead 2011) with proposals
    `N(x - η A⁻¹ ∇E, T η (2 - η) A⁻¹)`, which leave a Gaussian with curvature `A` invariant, and the acceptance test of
    Metropolis and Hastings. Proposals beyond a bound are refused.

    Args:
        steps: number of steps.
        temperature: T; 0 searches for a mode.
        step_size: η of the proposals at a positive temperature, in (0, 1].
        damping: initial damping (constant at a positive temperature), in units of the energy per squared `scale`.
        scale: natural unit of each coordinate, broadcast to `x`.
        clamp: low and high bound on coordinates that are not fixed, numbers or broadcast to `x`.
        engine: "eager" or "auto", which are the same here.

    Metrics in `Chain.info`, one value per step: `acceptance` (fraction of chains that moved), `gradient_norm`,
    `rejected` (number of chains with a non-finite proposal) and `energy` (mean over chains).

    """

    steps: int = 8
    temperature: float = 0.0
    step_size: float = 0.5
    damping: float = 0.01
    scale: Tensor | tuple[float, ...] | None = None
    clamp: tuple[Bound, Bound] | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        require_number("steps", self.steps, 0, whole=True)
        require_number("temperature", self.temperature, 0)
        require_number("step_size", self.step_size, 0, 1, above=True)
        require_number("damping", self.damping, 0, above=True)
        known = self.engine in ("auto", "eager")
        require(known, "engine", given=self.engine, expected="'auto' or 'eager' for second-order steps")

    def kernel(self) -> Kernel:
        """One step of every chain."""
        return GaussNewtonKernel() if self.temperature == 0 else ManifoldKernel()

    def step_parameters(self) -> Tensor:
        """Parameters of each step: damping, η, T, and the dampings that a step at T = 0 tries."""
        row = [self.damping, self.step_size, self.temperature, *_TRIED]
        return torch.tensor([row], dtype=torch.float64).expand(self.steps, len(row))


@dataclass(frozen=True)
class GaussNewtonKernel:
    """A step of Levenberg and Marquardt.

    It is written for both values of `Target.backend`: what it calls exists in both by the same name.
    """

    capturable: ClassVar[bool] = False  # it stops solving when no coordinate is beyond a bound
    arrays: ClassVar[bool] = True

    def init(self, target: Target, x: Tensor) -> State:
        """The start, within the bounds; each step evaluates the energy itself."""
        return {"x": target.hold(x, x)}

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """No noise."""
        return ()

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        """Solve for the step and take it where it lowers the energy."""
        xp: Any = target.backend
        x, count = state["x"], len(state["x"])
        damping = state["damping"] if "damping" in state else row[:1].repeat(count)
        model = target.quadratic(x)
        gradient = xp.where(xp.isfinite(model.gradient), model.gradient, 0.0)
        tried = row[3:, None] * damping
        moves = _bounded_moves(target, model, gradient, tried, scale, x)
        # The candidates of a chain are adjacent, as costs of several problems want them.
        candidates = xp.swapaxes(target.hold(x + moves, x), 0, 1)
        energies = target.value(candidates.reshape(count * len(tried), *x.shape[1:])).reshape(
            count, len(tried)
        )
        energies = xp.where(xp.isfinite(energies), energies, xp.inf)
        chains, best = xp.arange(count), energies.argmin(1)
        energy = energies[chains, best]
        sound = energy < xp.inf
        accept = sound & ((energy < model.energy) | ~xp.isfinite(model.energy))
        new = {
            "x": xp.where(per_chain(accept, x), candidates[chains, best], x),
            "energy": xp.where(accept, energy, model.energy),
            "damping": xp.where(accept, tried[best, chains], _GROWN * damping).clip(_LEAST, _GREATEST),
        }
        info = {
            "acceptance": xp.asarray(accept, dtype=x.dtype),
            "gradient_norm": xp.sqrt((gradient * gradient).sum(tuple(range(1, x.ndim)))),
            "rejected": ~sound,
            "energy": model.energy,
        }
        return new, info

    def finish(self, target: Target, state: State) -> State:
        """The last state; without a step its energy is still to be evaluated."""
        return state if "damping" in state else state | {"energy": target.value(state["x"])}


@dataclass(frozen=True)
class ManifoldKernel:
    """A proposal of simplified manifold MALA and its acceptance test."""

    capturable: ClassVar[bool] = False  # curvatures read which coordinates they couple

    def init(self, target: Target, x: Tensor) -> State:
        """Energy, gradient and curvature at the start; non-finite gradients become 0, as in `HMCKernel`."""
        model = target.quadratic(x)
        return _state(x, replace(model, gradient=torch.nan_to_num(model.gradient, 0.0, 0.0, 0.0)))

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Normal noise for the proposal, uniform for the acceptance test."""
        normal = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return normal, torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype)

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        """Propose around the Gauss-Newton step, accept with the ratio of Metropolis and Hastings."""
        damping, eta, temperature = row[:3].unbind(0)
        x, free = state["x"], target.loose
        variance = temperature * eta * (2 - eta)
        here = _Proposal(_model(state), damping, scale, x, free)
        mean = x - eta * masked(here.step(state["gradient"]), free)
        kick = masked(here.spread(masked(noise[0], free)), free)
        proposal = masked(mean + variance.sqrt() * kick - x, free) + x
        held = target.hold(proposal, x)
        new = _state(held, target.quadratic(held))
        there = _Proposal(_model(new), damping, scale, x, free)
        back = held - eta * masked(there.step(new["gradient"]), free)
        forward = here.log_determinant - here.squared(held - mean) / variance
        backward = there.log_determinant - there.squared(x - back) / variance
        log_ratio = (state["energy"] - new["energy"]) / temperature + 0.5 * (backward - forward)
        sound = new["energy"].isfinite() & new["gradient"].flatten(1).isfinite().all(dim=1)
        inside = (held == proposal).flatten(1).all(dim=1)
        accept = inside & ((noise[1].log() < log_ratio) | ~state["energy"].isfinite())
        if target.low is not None:  # a start beyond a bound is left at the first chance
            accept |= (target.hold(x, x) != x).flatten(1).any(dim=1)
        accept &= sound
        info = {
            "acceptance": accept.to(x.dtype),
            "gradient_norm": norms(state["gradient"]),
            "rejected": ~sound,
            "energy": state["energy"],
        }
        return choose(accept, new, state), info

    def finish(self, target: Target, state: State) -> State:
        """The state unchanged: each step evaluates the energy of its end."""
        return state


def _state(x: Tensor, model: Quadratic) -> State:
    bands = {f"band{k}": band for k, band in enumerate(model.bands)}
    return {"x": x, "energy": model.energy, "gradient": model.gradient, **bands}


def _model(state: State) -> Quadratic:
    count = sum(name.startswith("band") for name in state)
    return Quadratic(state["energy"], state["gradient"], tuple(state[f"band{k}"] for k in range(count)))


def _bounded_moves(target: Target, model: Quadratic, gradient: Any, dampings: Any, scale: Any, x: Any) -> Any:
    """Moves `(K, *x.shape)` to the minimum of the damped model within the bounds, for K dampings `(K, B)`.

    An active-set search: coordinates that the minimum would take beyond a bound are set to that bound, and the others
    are solved for again. Clamping afterwards would leave states that do not follow from the clamped actions.
    """
    xp: Any = target.backend
    solver = target.solver(model)

    def wide(t: Any) -> Any:
        """In a shape that broadcasts to the solver's vectors, which have three axes or more."""
        if x.ndim == 3:
            return t
        lead = t.shape[: max(t.ndim - x.ndim, 0)]
        return xp.broadcast_to(t, (*lead, *x.shape)).reshape(*lead, *solver.shape)

    def exact(t: Any) -> Any:
        return wide(xp.asarray(t, dtype=xp.float64))

    slope = exact(gradient)
    added = exact(dampings.reshape(*dampings.shape, *[1] * (x.ndim - 1)) / (scale * scale))
    free = target.unblocked(x, gradient)
    held = xp.isnan(slope) if free is None else wide(~free)  # none of them, or those that are not free
    low, high = (None if bound is None else exact(bound - x) for bound in (target.low, target.high))
    # So stiff that a coordinate is where it is set to, and the others are solved for with that move.
    stiff = _STIFF * (1 + solver.largest)
    set_to = move = xp.zeros_like(added + slope)
    added = added + set_to  # a number for each coordinate, where the damping is one for all
    again = None  # the matrices whose coordinates reached a bound; None for all
    for _ in range(_ROUNDS):
        right = xp.where(held, stiff * set_to, -slope)
        found = xp.where(held, set_to, solver.solve(added + stiff * held, right, again))
        move = found if again is None else xp.where(again[..., None, None], found, move)
        if low is None or high is None:
            break
        inside = xp.minimum(xp.maximum(move, low), high)
        beyond = (inside != move) & ~held
        again = beyond.any(-1).any(-1)
        if not bool(again.any()):
            break
        set_to, held = xp.where(beyond, inside, set_to), held | beyond
    return xp.asarray(move, dtype=x.dtype).reshape(len(dampings), *x.shape)


class _Proposal:
    """The Gaussian proposal from `x` under a model, without its mean: products with vectors in the shape of `x`."""

    def __init__(
        self, model: Quadratic, damping: Tensor, scale: Tensor, x: Tensor, free: Tensor | None
    ) -> None:
        self._matrix, self._like = Banded.of(model.bands), x
        self._shape = (len(x), *model.bands[0].shape[1:3])
        kept = None if free is None else self._split(free.expand(x.shape).to(x.dtype))
        self._factor = self._matrix.factor(self._split((damping / scale.square()).expand(x.shape)), kept)
        self.log_determinant = self._factor.log_determinant()

    def step(self, gradient: Tensor) -> Tensor:
        """`A⁻¹` times the gradient."""
        return self._joined(self._factor.solve(self._split(gradient)))

    def spread(self, noise: Tensor) -> Tensor:
        """Noise of covariance `A⁻¹` from standard normal noise."""
        return self._joined(self._factor.spread(self._split(noise)))

    def squared(self, move: Tensor) -> Tensor:
        """`(B,)` squared length of moves in the metric `A`."""
        return self._factor.squared(self._split(move))

    def _split(self, t: Tensor) -> Tensor:
        return self._matrix.split(t.reshape(self._shape))

    def _joined(self, parts: Tensor) -> Tensor:
        return self._matrix.joined(parts).reshape(self._like.shape)
