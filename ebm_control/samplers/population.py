"""Gradient-free samplers that move a mean according to the energies of candidates around it: MPPI and CEM."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from ebm_control.checks import require, require_flag, require_number
from ebm_control.samplers.chain import Bound, KernelSampler
from ebm_control.samplers.engines import Engine
from ebm_control.samplers.kernel import Info, Kernel, State, Target
from ebm_control.samplers.schedules import Schedule, require_values, values

_LEAST = 0.02  # smallest std of noise that adapts, relative to its σ


@dataclass(frozen=True)
class MPPI(KernelSampler):
    """Model-predictive path integral update: the mean of candidates weighted by `exp(-E / λ)`.

    Williams et al. 2017, with the noise of Kalakrishnan et al. 2011 (STOMP): smooth in time, its covariance
    is the inverse of the squared second-difference matrix.

    For plans whose best actions lie at their bounds use `free=True`, coloured noise, a σ above half the width of the
    bounds, a tenth of the candidates as elites and `adapt=0.5`. The lab notes on planning say what each adds.

    Args:
        steps: number of updates of the mean.
        candidates: candidates per chain and update, including the mean itself.
        noise: σ, greatest std along the time axis; a number or a schedule.
        temperature: λ in units of the root mean square of the energies above the best, of all candidates that count.
        elites: number of best candidates that count (and those of equal energy); None for all.
        adapt: share of the candidates' weighted variance in the variance of the next noise, per coordinate; 0 leaves
            the noise as it is. The std stays above 0.02 of `noise`.
        smooth: make the noise smooth along the first axis of a sample (time), if a sample has two or more axes.
        colour: exponent β of the noise's power spectrum over time, 1/f^β: 0 for white noise, 1 for pink noise (iCEM,
            Pinneri et al. 2020). Its std is the same at all times. Only without `smooth`.
        scale: noise scale per coordinate, broadcast to `x`.
        clamp: bounds on what is evaluated and returned.
        free: let candidates and their mean leave the bounds; each is evaluated at the closest point within them. Else
            candidates are clamped before they are averaged, so that their mean hardly reaches a bound.
        engine: "eager", "compile", "graph" or "auto", see `Langevin`.

    A non-finite energy counts as +inf. Metrics in `Chain.info`, one value per step: `energy` (mean over chains) and
    `rejected` (number of non-finite candidates).

    """

    steps: int = 20
    candidates: int = 128
    noise: float | Schedule = 0.3
    temperature: float = 0.1
    smooth: bool = True
    scale: Tensor | tuple[float, ...] | None = None
    clamp: tuple[Bound, Bound] | None = None
    elites: int | None = None
    adapt: float = 0.0
    colour: float = 0.0
    free: bool = False
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        require_number("steps", self.steps, 0, whole=True)
        require_number("candidates", self.candidates, 2, whole=True)
        require_values("noise", self.noise, self.steps, 0, above=True)
        require_number("temperature", self.temperature, 0, above=True)
        if self.elites is not None:
            require_number("elites", self.elites, 2, self.candidates, whole=True)
        require_number("adapt", self.adapt, 0, 1)
        _require_noise(self)

    def kernel(self) -> Kernel:
        """One MPPI update: candidates around the mean, then the mean moves to their weighted mean."""
        return MPPIKernel(
            self.candidates, self.smooth, self.elites, self.adapt, colour=self.colour, free=self.free
        )

    def step_parameters(self) -> Tensor:
        """Parameters of each update: σ, λ."""
        return torch.tensor(
            [[sigma, self.temperature] for sigma in values(self.noise, self.steps)], dtype=torch.float64
        ).reshape(-1, 2)


@dataclass(frozen=True)
class CEM(KernelSampler):
    """Cross-entropy method (Rubinstein 1999): refit a Gaussian to the best candidates, with smooth noise.

    Args:
        steps: number of refits.
        candidates: candidates per chain and refit, including the mean itself.
        elites: number of best candidates that the Gaussian is fitted to.
        noise: σ, initial std.
        minimum: smallest std, as a fraction of `noise`.
        smoothing: weight of the old mean and variance in a refit, so that a few lucky elites do not end the search
            (PETS, Chua et al. 2018, uses 0.1); 0 for none.
        smooth: make the noise smooth in time, see `MPPI`.
        colour: exponent of the noise's power spectrum, see `MPPI`.
        scale: noise scale per coordinate, broadcast to `x`.
        clamp: bounds on what is evaluated and returned.
        free: let candidates and the Gaussian leave the bounds, see `MPPI`.
        engine: "eager", "compile", "graph" or "auto", see `Langevin`.

    The chain ends at the best candidate visited. `Chain.info` holds the metrics of `MPPI`.

    """

    steps: int = 20
    candidates: int = 128
    elites: int = 12
    noise: float = 0.3
    minimum: float = 0.02
    smoothing: float = 0.1
    smooth: bool = True
    scale: Tensor | tuple[float, ...] | None = None
    clamp: tuple[Bound, Bound] | None = None
    colour: float = 0.0
    free: bool = False
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        require_number("steps", self.steps, 0, whole=True)
        require_number("noise", self.noise, 0, above=True)
        require_number("minimum", self.minimum, 0, 1, above=True)
        require_number("smoothing", self.smoothing, 0, 1, below=True)
        require_number("candidates", self.candidates, 2, whole=True)
        require_number("elites", self.elites, 2, self.candidates, whole=True)
        _require_noise(self)

    def kernel(self) -> Kernel:
        """One CEM refit: candidates around the mean, then mean and std are fitted to the best of them."""
        return CEMKernel(
            self.candidates, self.smooth, self.elites, self.smoothing, colour=self.colour, free=self.free
        )

    def step_parameters(self) -> Tensor:
        """Parameters of each refit: initial std, smallest std."""
        return torch.tensor([[self.noise, self.minimum * self.noise]], dtype=torch.float64).expand(
            self.steps, 2
        )


def _require_noise(search: MPPI | CEM) -> None:
    """Raise `InputError` unless the settings that both searches share are valid."""
    require_flag("smooth", search.smooth)
    require_flag("free", search.free)
    require_number("colour", search.colour, 0)
    expected = "0 with smooth=True: noise is smooth or coloured"
    require(not (search.smooth and search.colour), "colour", given=search.colour, expected=expected)


@dataclass(frozen=True)
class _PopulationKernel:
    """Shared part of MPPI and CEM: candidates around a mean and their energies.

    "mean" is the mean of the candidates. "x" is the mean within the bounds; the two differ only if `free` is set.
    """

    candidates: int
    smooth: bool
    colour: float = field(default=0.0, kw_only=True)
    free: bool = field(default=False, kw_only=True)

    def init(self, target: Target, x: Tensor) -> State:
        """The first mean; no energy is evaluated yet."""
        return {"x": x, "mean": x, "energy": x.new_full(x.shape[:1], torch.inf)}

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noise `(B, candidates, *shape)`; 0 for the first candidate, which is the mean."""
        length, coloured = x.shape[1], self.colour > 0 and x.ndim >= 3
        # Coloured noise is drawn with time as the last axis: one matrix product without copies.
        shape = (*x.shape[2:], length) if coloured else x.shape[1:]
        size = (x.shape[0], self.candidates, *shape)
        noise = torch.randn(size, generator=generator, device=x.device, dtype=x.dtype)
        if coloured:
            noise = (noise @ coloured_factor(length, self.colour, x).T).movedim(-1, 2)
        if self.smooth and x.ndim >= 3:
            noise = torch.einsum("ij,bcj...->bci...", smooth_factor(length, x), noise)
        noise[:, 0] = 0
        return (noise,)

    def marginal(self, x: Tensor) -> Tensor:
        """Std of the noise along the first axis of a sample, broadcastable to `x`."""
        if not self.smooth or x.ndim < 3:
            return x.new_ones(())
        return smooth_factor(x.shape[1], x).norm(dim=1).reshape(-1, *[1] * (x.ndim - 2))

    def propose(self, target: Target, state: State, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates `(B, C, *shape)`, their energies `(B, C)` (never NaN), and how many were not finite `(B,)`."""
        # Masks and bounds are shaped for (B, *shape): the candidates' axis comes first here.
        proposals = (state["mean"].unsqueeze(1) + noise).transpose(0, 1)
        held = target.hold(proposals, state["x"])
        energies = target.value(held.transpose(0, 1).flatten(0, 1)).reshape(noise.shape[:2])
        sound = torch.isfinite(energies)
        candidates = target.pin(proposals, state["x"]) if self.free else held
        return candidates.transpose(0, 1), torch.where(sound, energies, torch.inf), (~sound).sum(dim=1)

    def moved(self, target: Target, state: State, mean: Tensor) -> State:
        """The new mean and the point within the bounds that is closest to it."""
        x = target.hold(mean, state["x"])
        return {"x": x, "mean": mean if self.free else x}


@dataclass(frozen=True)
class MPPIKernel(_PopulationKernel):
    """One MPPI update; the fields are those of `MPPI`."""

    elites: int | None = None
    adapt: float = 0.0

    def init(self, target: Target, x: Tensor) -> State:
        """The first mean, with the std of the noise relative to its σ if that adapts."""
        state = _PopulationKernel.init(self, target, x)
        return state | {"std": torch.ones_like(x)} if self.adapt else state

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        """Move the mean to the candidates' weighted mean."""
        sigma, temperature = row.unbind(0)
        mean, unit = state["mean"], sigma * scale
        spread = (unit * state["std"] if self.adapt else unit.expand(mean.shape)).unsqueeze(1)
        candidates, energies, rejected = self.propose(target, state, spread * noise[0])
        weight = self.weights(energies, temperature)
        # Computed as a move from the old mean: it stays where no candidate has a finite energy.
        offsets = candidates - mean.unsqueeze(1)
        move = _average(weight, offsets)
        new = self.moved(target, state, mean + move) | {"energy": energies[:, 0]}
        if self.adapt:
            variance = _average(weight, (offsets - move.unsqueeze(1)).square())
            share = variance / (unit * self.marginal(mean)).square()
            std = torch.lerp(state["std"].square(), share, self.adapt).sqrt().clamp_min(_LEAST)
            enough = ((energies < torch.inf).sum(dim=1) > 1).reshape(-1, *[1] * (mean.ndim - 1))
            new["std"] = torch.where(enough, std, state["std"])
        return new, {"energy": energies[:, 0], "rejected": rejected}

    def weights(self, energies: Tensor, temperature: Tensor) -> Tensor:
        """Weights of candidates from their energies `(B, C)`; each row sums to 1, or is 0 if no energy is finite."""
        known = energies < torch.inf
        if self.elites is not None:
            worst = energies.topk(self.elites, dim=1, largest=False).values[:, -1:]
            known = known & (energies <= worst)
        lowest = energies.amin(dim=1, keepdim=True)
        above = torch.where(known, energies - torch.where(lowest < torch.inf, lowest, 0.0), 0.0)
        size = (above.square().sum(dim=1) / known.sum(dim=1).clamp_min(1)).sqrt().unsqueeze(1) + 1e-12
        weight = torch.where(known, (-above / (temperature * size)).exp(), 0.0)
        return weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-30)

    def finish(self, target: Target, state: State) -> State:
        """The last mean with its own energy, which no step has evaluated."""
        return {"x": state["x"], "energy": target.value(state["x"])}


@dataclass(frozen=True)
class CEMKernel(_PopulationKernel):
    """One CEM refit; the fields are those of `CEM`."""

    elites: int
    smoothing: float = 0.0

    def init(self, target: Target, x: Tensor) -> State:
        """The first mean with the initial std; it is the best sample until others are evaluated."""
        state = _PopulationKernel.init(self, target, x)
        return state | {"std": self.marginal(x).expand(x.shape), "best": x}

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noise of std 1 everywhere, also if it is smooth: the fitted std scales it."""
        (noise,) = _PopulationKernel.draw(self, x, generator)
        return (noise / self.marginal(x),)

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        """Refit mean and std to the elites and store the best candidate."""
        sigma, minimum = row.unbind(0)
        spread = (sigma * scale * state["std"]).unsqueeze(1)
        candidates, energies, rejected = self.propose(target, state, spread * noise[0])
        value, index = energies.topk(self.elites, dim=1, largest=False)
        view = index.reshape(*index.shape, *[1] * (candidates.ndim - 2)).expand(-1, -1, *candidates.shape[2:])
        elite = candidates.gather(1, view)
        better = (value[:, 0] < state["energy"]).reshape(-1, *[1] * (state["x"].ndim - 1))
        # Only elites of finite energy count; with fewer than two the Gaussian is not refitted.
        known = torch.isfinite(value).reshape(view.shape[:2] + (1,) * (view.ndim - 2))
        count = known.sum(dim=1)
        mean = (known * elite).sum(dim=1) / count.clamp_min(1)
        variance = (known * (elite - mean.unsqueeze(1)).square()).sum(dim=1) / (count - 1).clamp_min(1)
        std = (variance.sqrt() / (sigma * scale)).clamp_min(minimum / sigma)
        if self.smoothing:
            mean = torch.lerp(mean, state["mean"], self.smoothing)
            std = torch.lerp(std.square(), state["std"].square(), self.smoothing).sqrt()
        new = self.moved(target, state, torch.where(count > 1, mean, state["mean"])) | {
            "energy": torch.minimum(value[:, 0], state["energy"]),
            "std": torch.where(count > 1, std, state["std"]),
            "best": torch.where(better, elite[:, 0], state["best"]),
        }
        return new, {"energy": energies[:, 0], "rejected": rejected}

    def finish(self, target: Target, state: State) -> State:
        """The best candidate, or the last mean if that is better."""
        energy = target.value(state["x"])
        better = torch.isfinite(energy) & (energy < state["energy"])
        expanded = better.reshape(-1, *[1] * (state["x"].ndim - 1))
        x = target.hold(torch.where(expanded, state["x"], state["best"]), state["x"])
        return {"x": x, "energy": torch.where(better, energy, state["energy"])}


def _average(weight: Tensor, values: Tensor) -> Tensor:
    """Weighted sum `(B, *shape)` of values `(B, C, *shape)` under weights `(B, C)`."""
    weight = weight.to(values.dtype).unsqueeze(1)
    return torch.bmm(weight, values.flatten(2)).reshape(values.shape[:1] + values.shape[2:])


def coloured_factor(length: int, colour: float, like: Tensor) -> Tensor:
    """Square root `(length, length)` of the covariance of stationary noise of std 1 with the power spectrum 1/f^colour.

    The noise is a part of one with twice the period, so that its ends are not correlated. The frequency 0 has the
    power of the lowest one.
    """
    return _coloured_factor(length, colour, like.device, like.dtype)


@lru_cache(maxsize=64)
def _coloured_factor(length: int, colour: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    frequency = torch.arange(length + 1, dtype=torch.float64).clamp_min(1)
    # The power at all 2 * length frequencies, as a real FFT takes it; relative to the lowest, so that none overflows.
    covariance = torch.fft.irfft(frequency.pow(-colour), n=2 * length)[:length]
    lag = torch.arange(length)
    matrix = (covariance / covariance[0])[(lag[:, None] - lag).abs()]
    values, vectors = torch.linalg.eigh(matrix)
    factor = vectors * values.clamp_min(0).sqrt()
    return factor.to(device=device, dtype=dtype)


def smooth_factor(length: int, like: Tensor) -> Tensor:
    """Square root `(length, length)` of the smooth noise's covariance, with greatest std 1.

    The covariance is `(AᵀA)⁻¹`, `A` the second-difference matrix with zero boundaries (after STOMP,
    Kalakrishnan et al. 2011, whose matrix has two rows more). The noise is smooth and fades to 0 just outside
    both ends.
    """
    return _smooth_factor(length, like.device, like.dtype)


@lru_cache(maxsize=64)  # used at every step, but copied to the device only once
def _smooth_factor(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    difference = (
        2 * torch.eye(length, dtype=torch.float64)
        - torch.diag(torch.ones(length - 1, dtype=torch.float64), 1)
        - torch.diag(torch.ones(length - 1, dtype=torch.float64), -1)
    )
    factor = torch.linalg.inv(difference)
    factor = factor / factor.square().sum(dim=1).sqrt().max()
    return factor.to(device=device, dtype=dtype)
