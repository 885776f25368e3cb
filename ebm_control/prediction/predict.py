"""Prediction: history (and actions) fixed, the future is a sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import require, require_finite, require_number, require_shape
from ebm_control.energies.base import Energy
from ebm_control.energies.base_measure import GaussianBase
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.noise import AtNoise
from ebm_control.energies.trajectory import TransitionEnergy, WindowEnergy
from ebm_control.samplers.chain import Sampler
from ebm_control.samplers.recipes import trajectory_sampler
from ebm_control.tensors import as_tensor, generator_on, outside_inference_mode


@dataclass(frozen=True)
class Prediction:
    """Futures, K for each of N histories, in the units of the trajectory.

    Attributes:
        states: `(N, K, horizon, obs_dim)`.
        actions: `(N, K, horizon, act_dim)` those that led to them, given or sampled.
        energy: `(N, K)` of each history with its future, summed over windows; at the least noise level of an energy
            of noised data.

    """

    states: Tensor
    actions: Tensor
    energy: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean state over the K futures, `(N, horizon, obs_dim)` (not for coordinates that wrap)."""
        return self.states.mean(dim=1)


@outside_inference_mode
def predict(
    energy: TransitionEnergy | WindowEnergy,
    history: Tensor | ArrayLike,
    actions: Tensor | ArrayLike | None = None,
    *,
    horizon: int,
    samples: int = 1,
    sampler: Sampler | None = None,
    context: Tensor | ArrayLike | None = None,
    generator: torch.Generator | None = None,
    bounds: tuple[Tensor | ArrayLike, Tensor | ArrayLike] | None = None,
) -> Prediction:
    """Sample futures of given histories.

    A `TransitionEnergy` is sampled step by step, each state from the window that ends in it, chains starting at draws
    from its base; a `WindowEnergy` the whole future at once, or window after window where its base fixes their length.

    Figures may be tensors, arrays or lists of any type of real numbers: they are cast to the energy's dtype and device,
    in which predictions come.

    Args:
        energy: trained.
        history: `(N, h, D)` rows known, in the units of the trajectory; the last row's action is ignored.
        actions: `(N, horizon, act_dim)` from the last known state on, held fixed; None draws them, for each
            future its own, from a standard normal (the data's own scale): an energy trained with the data's
            actions fixed says how likely states are given actions, and nothing of the actions themselves.
        horizon: states to predict.
        samples: futures a history, `K`.
        sampler: None for `trajectory_sampler(energy)`.
        context: `(N, context_dim)` or None.
        generator: source of noise; None seeds from the system.
        bounds: low and high `(obs_dim,)`, the range of the data say, that each sampled state is put back into before
            the next one is sampled; None for none.

    Raises:
        InputError: a shape does not fit, the history is too short, or a figure is not finite.

    """
    layout, like = energy.layout, energy.displacement_scale

    def cast(argument: str, value: Tensor | ArrayLike) -> Tensor:
        return as_tensor(argument, value, like.dtype, like.device)

    past = cast("history", history)
    acted = None if actions is None else cast("actions", actions)
    condition = None if context is None else cast("context", context)
    box = None if bounds is None else (cast("bounds", bounds[0]), cast("bounds", bounds[1]))
    _check(energy, past, acted, condition, horizon, samples, box)
    generator = generator_on(like.device, generator)
    x = past.repeat_interleave(samples, dim=0)
    if acted is None:
        shape = (len(x), horizon, layout.act_dim)
        given = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
    else:
        given = acted.repeat_interleave(samples, dim=0)
    held = None if condition is None else condition.repeat_interleave(samples, dim=0)
    roll = _stepwise if isinstance(energy, TransitionEnergy) else _by_window
    with torch.no_grad():
        x, total = roll(
            energy, x, given, horizon, sampler or trajectory_sampler(energy), held, generator, box
        )
    future = x.unflatten(0, (len(past), samples))
    known = past.shape[1]
    return Prediction(
        layout.states(future)[:, :, known:],
        layout.actions(future)[:, :, known - 1 : -1],
        total.unflatten(0, (len(past), samples)),
    )


def _stepwise(
    energy: Energy,
    x: Tensor,
    actions: Tensor,
    horizon: int,
    sampler: Sampler,
    context: Tensor | None,
    generator: torch.Generator,
    bounds: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """Trajectories and their energies."""
    assert isinstance(energy, TransitionEnergy)
    layout, past, spread = energy.layout, energy.window - 1, _spread(energy, sampler)
    require(x.shape[1] >= past, "history", given=f"{x.shape[1]} rows", expected=f"at least {past}")
    fixed = _known(layout, past, 1, x.device)
    for t in range(horizon):
        x = torch.cat([x[:, :-1], layout.join(layout.states(x)[:, -1:], actions[:, t, None])], dim=1)
        start = torch.cat([x[:, -past:], layout.join(layout.states(x)[:, -1:])], dim=1)
        start = energy.propose(start, context, generator, spread)
        chain = sampler(energy, start, fixed=fixed, context=context, generator=generator)
        x = torch.cat([x, _within(layout, chain.x[:, -1:], bounds)], dim=1)
    whole = energy if energy.noise is None else AtNoise(energy, energy.noise[0])
    return x, whole(x, context)


def _by_window(
    energy: Energy,
    x: Tensor,
    actions: Tensor,
    horizon: int,
    sampler: Sampler,
    context: Tensor | None,
    generator: torch.Generator,
    bounds: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """Trajectories and energies: at once, or window after window where a base fixes their length."""
    assert isinstance(energy, WindowEnergy)
    layout, total = energy.layout, x.new_zeros(len(x))
    known, length = (x.shape[1], horizon) if energy.window is None else (1, energy.window - 1)
    fixed = _known(layout, known, length, x.device)
    for begin in range(0, horizon, length):
        given = actions[:, begin : begin + length]
        wanted = given.shape[1]
        # A last window that reaches beyond the horizon is sampled whole, under mean actions, and cut.
        rest = given.new_zeros(len(x), length - wanted, layout.act_dim)
        states = layout.states(x)[:, -known:]
        states = torch.cat([states, states[:, -1:].expand(-1, length, -1)], dim=1)
        start = layout.join(states, torch.cat([layout.actions(x)[:, -known:-1], given, rest], dim=1))
        drawn = energy.propose(start[:, known - 1 :], context, generator, _spread(energy, sampler))
        start = torch.cat([start[:, : known - 1], drawn], dim=1)
        chain = sampler(energy, start, fixed=fixed, context=context, generator=generator)
        new = _within(layout, chain.x[:, known : known + wanted], bounds)
        x = torch.cat([x[:, :-1], chain.x[:, known - 1 : known], new], dim=1)
        total = total + chain.energy
    return x, total


def _within(layout: TrajectoryLayout, x: Tensor, bounds: tuple[Tensor, Tensor] | None) -> Tensor:
    """Rows whose states are within bounds."""
    if bounds is None:
        return x
    return torch.cat([layout.states(x).clamp(*bounds), layout.actions(x)], dim=-1)


def _spread(energy: TransitionEnergy | WindowEnergy, sampler: Sampler) -> float:
    """Of first states around those that the base expects, in its deviations: those of the sampler's temperature.

    Modes that a chain does not leave are met in the right shares only by chains that start in all of them: at draws
    from the base, to which annealed chains add noise that joins all modes. What follows cold dynamics starts at the
    most likely place.
    """
    cold = energy.base is None and isinstance(energy, TransitionEnergy)
    if cold or (isinstance(energy.base, GaussianBase) and energy.noise is None):
        return 0.0
    temperature = getattr(sampler, "temperature", 1.0)
    return float(temperature) ** 0.5 if isinstance(temperature, int | float) else 1.0


def _check(
    energy: TransitionEnergy | WindowEnergy,
    history: Tensor,
    actions: Tensor | None,
    context: Tensor | None,
    horizon: int,
    samples: int,
    bounds: tuple[Tensor, Tensor] | None,
) -> None:
    """Raise `InputError` where what `predict` was given does not fit."""
    layout = energy.layout
    require_number("horizon", horizon, 1, whole=True)
    require_number("samples", samples, 1, whole=True)
    layout.check("history", history)
    require(history.shape[1] >= 1, "history", given="no rows", expected="at least 1")
    require_finite("history", history)
    expected = (len(history), energy.context_dim)
    require(context is not None or expected[1] == 0, "context", given=None, expected=f"shape {expected}")
    if context is not None:
        require_shape("context", context, expected)
        require_finite("context", context)
    for bound in bounds or ():
        require_shape("bounds", bound, (layout.obs_dim,))
        require(not bool(bound.isnan().any()), "bounds", given=bound.tolist(), expected="no NaN")
    if bounds is not None:
        sound = bool((bounds[0] <= bounds[1]).all())
        require(sound, "bounds", given=[b.tolist() for b in bounds], expected="(low, high) with low <= high")
    if actions is not None:
        require_shape("actions", actions, (len(history), horizon, layout.act_dim))
        require_finite("actions", actions)


def _known(layout: TrajectoryLayout, known: int, horizon: int, device: torch.device) -> Tensor:
    """Mask `(known + horizon, D)` of what is held: all but the states of the future."""
    fixed = torch.ones(known + horizon, layout.dim, dtype=torch.bool, device=device)
    fixed[known:, : layout.obs_dim] = False
    return fixed
