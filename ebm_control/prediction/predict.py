"""Prediction: history (and actions) fixed, the future is a sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_control.checks import require, require_finite, require_shape
from ebm_control.energies.base import Energy
from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.trajectory import TransitionEnergy, WindowEnergy
from ebm_control.samplers.chain import Sampler
from ebm_control.samplers.langevin import Langevin
from ebm_control.samplers.schedules import Linear


@dataclass(frozen=True)
class Prediction:
    """Futures, K for each of N histories, in the units of the trajectory.

    Attributes:
        states: `(N, K, horizon, obs_dim)`.
        actions: `(N, K, horizon, act_dim)` those that led to them, given or sampled.
        energy: `(N, K)` of each history with its future.

    """

    states: Tensor
    actions: Tensor
    energy: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean state over the K futures, `(N, horizon, obs_dim)` (not for coordinates that wrap)."""
        return self.states.mean(dim=1)


def predict(
    energy: TransitionEnergy | WindowEnergy,
    history: Tensor,
    actions: Tensor | None = None,
    *,
    horizon: int,
    samples: int = 1,
    sampler: Sampler | None = None,
    context: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Prediction:
    """Sample futures of given histories.

    A `TransitionEnergy` is sampled step by step, each state from the window that ends in it, starting where
    the base measure expects it; a `WindowEnergy` the whole future at once.

    Args:
        energy: trained.
        history: `(N, h, D)` rows known, in the units of the trajectory; the last row's action is ignored.
        actions: `(N, horizon, act_dim)` from the last known state on, held fixed; None draws them, for each
            future its own, from a standard normal (the data's own scale): an energy trained with the data's
            actions fixed says how likely states are given actions, and nothing of the actions themselves.
        horizon: states to predict.
        samples: futures a history, `K`.
        sampler: None for `sampler_for(energy)`.
        context: `(N, context_dim)` or None.
        generator: source of noise; None seeds from the system.

    Raises:
        InputError: a shape does not fit, the history is too short, or a figure is not finite.

    """
    layout = energy.layout
    require(horizon >= 1, "horizon", given=horizon, expected="at least 1")
    require(samples >= 1, "samples", given=samples, expected="at least 1")
    layout.check("history", history)
    require_finite("history", history)
    if actions is not None:
        require_shape("actions", actions, (len(history), horizon, layout.act_dim))
        require_finite("actions", actions)
    if generator is None:
        generator = torch.Generator(history.device)
        generator.seed()
    x = history.repeat_interleave(samples, dim=0)
    if actions is None:
        shape = (len(x), horizon, layout.act_dim)
        given = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
    else:
        given = actions.repeat_interleave(samples, dim=0)
    held = None if context is None else context.repeat_interleave(samples, dim=0)
    roll = _stepwise if isinstance(energy, TransitionEnergy) else _at_once
    with torch.no_grad():
        x = roll(energy, x, given, horizon, sampler or sampler_for(energy), held, generator)
        total = energy(x, held).unflatten(0, (len(history), samples))
    future = x.unflatten(0, (len(history), samples))
    known = history.shape[1]
    return Prediction(
        layout.states(future)[:, :, known:], layout.actions(future)[:, :, known - 1 : -1], total
    )


def sampler_for(
    energy: TransitionEnergy | WindowEnergy, steps: int = 30, *, temperature: float = 1.0
) -> Langevin:
    """Langevin preconditioned by the energy's own scale, as it was trained with.

    Around a regression base the energy is near a standard normal in units of the base's deviation, which exact
    Langevin samples. Elsewhere the tilt alone was shaped, by cold and clipped dynamics in units of a
    displacement: its samples are those of the same dynamics, whose noise is `sqrt(temperature)` of that.

    Args:
        energy: to be sampled.
        steps: of each chain.
        temperature: 1 samples the model, 0 seeks the most likely future.

    """
    ones = [1.0] * energy.layout.act_dim
    if isinstance(energy, TransitionEnergy) and isinstance(energy.base, RegressionBase):
        scale = (*energy.next_deviation().tolist(), *ones)
        return Langevin(steps, Linear(0.2, 0.05), temperature=temperature, scale=scale)
    scale = (*energy.displacement_scale.tolist(), *ones)
    return Langevin(steps, 0.5, noise=0.02 * temperature**0.5, scale=scale, gradient_clip=1.0)


def _stepwise(
    energy: Energy,
    x: Tensor,
    actions: Tensor,
    horizon: int,
    sampler: Sampler,
    context: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    assert isinstance(energy, TransitionEnergy)
    layout, past = energy.layout, energy.window - 1
    require(x.shape[1] >= past, "history", given=f"{x.shape[1]} rows", expected=f"at least {past}")
    fixed = _known(layout, past, 1, x.device)
    for t in range(horizon):
        x = torch.cat([x[:, :-1], layout.join(layout.states(x)[:, -1:], actions[:, t, None])], dim=1)
        window = x[:, -past:]
        nxt = energy.expected_next(window, context)
        start = torch.cat([window, layout.join(nxt[:, None])], dim=1)
        chain = sampler(energy, start, fixed=fixed, context=context, generator=generator)
        x = torch.cat([x, chain.x[:, -1:]], dim=1)
    return x


def _at_once(
    energy: Energy,
    x: Tensor,
    actions: Tensor,
    horizon: int,
    sampler: Sampler,
    context: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    assert isinstance(energy, WindowEnergy)
    layout, known = energy.layout, x.shape[1]
    fixed = _known(layout, known, horizon, x.device)
    noise = torch.randn(
        (len(x), horizon, layout.obs_dim), generator=generator, device=x.device, dtype=x.dtype
    )
    states = layout.states(x)[:, -1:] + (noise * energy.displacement_scale).cumsum(dim=1)
    x = torch.cat([x, layout.join(states)], dim=1)
    x[:, known - 1 : -1, layout.obs_dim :] = actions
    return sampler(energy, x, fixed=fixed, context=context, generator=generator).x


def _known(layout: TrajectoryLayout, known: int, horizon: int, device: torch.device) -> Tensor:
    """Mask `(known + horizon, D)` of what is held: all but the states of the future."""
    fixed = torch.ones(known + horizon, layout.dim, dtype=torch.bool, device=device)
    fixed[known:, : layout.obs_dim] = False
    return fixed
