"""Second-order samplers: steps preconditioned by the curvature of the energy, for stiff energies of trajectories."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_control.checks import require, require_number
from ebm_control.energies.curvature import BandedFactor, Quadratic
from ebm_control.samplers.chain import Bound, KernelSampler
from ebm_control.samplers.engines import Engine
from ebm_control.samplers.kernel import Info, Kernel, State, Target, choose, norms

# Dampings that each step tries, in units of that of the last step. The matrix is factorised for each, which costs less
# than a curvature, so few steps are wasted.
_TRIED = (0.1, 3.0)
_ROUNDS = 3  # solutions of a step while coordinates reach their bounds
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
        """Parameters of each step: damping, η, T."""
        row = torch.tensor([[self.damping, self.step_size, self.temperature]], dtype=torch.float64)
        return row.expand(self.steps, 3)


@dataclass(frozen=True)
class GaussNewtonKernel:
    """A step of Levenberg and Marquardt."""

    def init(self, target: Target, x: Tensor) -> State:
        """The start; the first step evaluates its energy."""
        return {"x": x, "energy": x.new_full(x.shape[:1], torch.inf)}

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """No noise."""
        return ()

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        """Solve for the step and take it where it lowers the energy."""
        x = state["x"]
        damping = state["damping"] if "damping" in state else row[0].expand(len(x))
        model = target.quadratic(x)
        gradient = torch.nan_to_num(model.gradient, 0.0, 0.0, 0.0)
        tried = torch.stack([factor * damping for factor in _TRIED])
        moves = _bounded_moves(model, gradient, tried, scale, x, target)
        # The candidates of a chain are adjacent, as costs of several problems want them.
        candidates = target.hold(x + moves, x).transpose(0, 1)
        energies = target.value(candidates.flatten(0, 1)).reshape(len(x), -1)
        energy, best = torch.where(energies.isfinite(), energies, torch.inf).min(dim=1)
        accept = (energy < model.energy) | ~model.energy.isfinite()
        accept &= energy.isfinite()
        index = best.reshape(-1, *[1] * x.ndim).expand(-1, 1, *x.shape[1:])
        new = choose(
            accept,
            {
                "x": candidates.gather(1, index)[:, 0],
                "energy": energy,
                "damping": tried.gather(0, best[None])[0],
            },
            {"x": x, "energy": model.energy, "damping": _GROWN * damping},
        )
        new["damping"] = new["damping"].clamp(_LEAST, _GREATEST)
        info = {
            "acceptance": accept.to(x.dtype),
            "gradient_norm": norms(gradient),
            "rejected": ~energy.isfinite(),
            "energy": model.energy,
        }
        return new, info

    def finish(self, target: Target, state: State) -> State:
        """The last state; without a step its energy is still to be evaluated."""
        return state if "damping" in state else state | {"energy": target.value(state["x"])}


@dataclass(frozen=True)
class ManifoldKernel:
    """A proposal of simplified manifold MALA and its acceptance test."""

    def init(self, target: Target, x: Tensor) -> State:
        """Energy, gradient and curvature at the start."""
        return _state(x, target.quadratic(x))

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Normal noise for the proposal, uniform for the acceptance test."""
        normal = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return normal, torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype)

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        """Propose around the Gauss-Newton step, accept with the ratio of Metropolis and Hastings."""
        damping, eta, temperature = row.unbind(0)
        x, free = state["x"], target.movable
        variance = temperature * eta * (2 - eta)
        here = _factor(_model(state), damping, scale, x, free)
        shape = (len(x), here.length, here.dim)
        mean = x - eta * target.mask(here.solve(state["gradient"].reshape(shape)).reshape(x.shape))
        kick = target.mask(here.spread(target.mask(noise[0]).reshape(shape)).reshape(x.shape))
        proposal = target.mask(mean + variance.sqrt() * kick - x) + x
        held = target.hold(proposal, x)
        new = _state(held, target.quadratic(held))
        there = _factor(_model(new), damping, scale, x, free)
        back = held - eta * target.mask(there.solve(new["gradient"].reshape(shape)).reshape(x.shape))
        forward = here.log_determinant() - here.squared((held - mean).reshape(shape)) / variance
        backward = there.log_determinant() - there.squared((x - back).reshape(shape)) / variance
        log_ratio = (state["energy"] - new["energy"]) / temperature + 0.5 * (backward - forward)
        sound = new["energy"].isfinite() & new["gradient"].flatten(1).isfinite().all(dim=1)
        inside = (held == proposal).flatten(1).all(dim=1)
        accept = sound & inside & ((noise[1].log() < log_ratio) | ~state["energy"].isfinite())
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


def _bounded_moves(
    model: Quadratic, gradient: Tensor, dampings: Tensor, scale: Tensor, x: Tensor, target: Target
) -> Tensor:
    """Moves `(K, *x.shape)` to the minimum of the damped model within the bounds, for K dampings `(K, B)`.

    An active-set search: coordinates that the minimum would take beyond a bound are set to that bound, and the others
    are solved for again. Clamping afterwards would leave states that do not follow from the clamped actions.
    """
    count, shape = len(dampings), (-1, *model.bands[0].shape[1:3])

    def tiled(t: Tensor) -> Tensor:
        return t.repeat(count, *[1] * (t.ndim - 1))

    free = target.unblocked(x, gradient)
    free = None if free is None else tiled(free.expand(x.shape))
    start, slope, bands = tiled(x), tiled(gradient), tuple(tiled(band) for band in model.bands)
    added = (dampings.reshape(-1, *[1] * (x.ndim - 1)) / scale.square()).expand(start.shape)
    whole = Quadratic(model.energy, slope, bands)
    set_to: Tensor | None = None  # moves of coordinates that have reached a bound, else 0
    for _ in range(_ROUNDS):
        pull = slope
        if set_to is not None:
            pull = slope + added * set_to + whole.times(set_to.reshape(shape)).reshape(start.shape)
        pull = pull if free is None else torch.where(free, pull, 0.0)
        solved = _damped(bands, added, free, shape).solve(pull.reshape(shape)).reshape(start.shape)
        move = -solved if set_to is None else set_to - solved
        if target.low is None or target.high is None:
            break
        inside = target.clamped(start + move) - start
        beyond = inside != move if free is None else (inside != move) & free
        if not bool(beyond.any()):
            break
        set_to = torch.where(beyond, inside, 0.0 if set_to is None else set_to)
        free = ~beyond if free is None else free & ~beyond
    return move.reshape(count, *x.shape)


def _damped(
    bands: tuple[Tensor, ...], added: Tensor, free: Tensor | None, shape: tuple[int, ...]
) -> BandedFactor:
    """Factor of the damped curvature, with the identity for coordinates that are not free."""
    if free is None:
        return BandedFactor(bands, added.reshape(shape))
    kept, length = free.reshape(shape).to(added.dtype), shape[1]
    masked = [band * kept[:, : length - k, :, None] * kept[:, k:, None, :] for k, band in enumerate(bands)]
    return BandedFactor(masked, torch.where(free, added, 1.0).reshape(shape))


def _factor(model: Quadratic, damping: Tensor, scale: Tensor, x: Tensor, free: Tensor | None) -> BandedFactor:
    """Factor of the curvature plus the damping, with the identity for coordinates that are not free."""
    added = (damping / scale.square()).expand(x.shape)
    free = None if free is None else free.expand(x.shape)
    return _damped(model.bands, added, free, (-1, *model.bands[0].shape[1:3]))
