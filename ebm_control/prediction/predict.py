"""Prediction: a sample from the energy with history (and actions) fixed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import require, require_finite, require_number, require_shape, shown
from ebm_control.energies.base_measure import GaussianBase
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.noise import AtNoise
from ebm_control.energies.trajectory import TransitionEnergy
from ebm_control.energies.window import WindowEnergy
from ebm_control.samplers.chain import Sampler
from ebm_control.samplers.flow import ProbabilityFlow
from ebm_control.samplers.recipes import trajectory_sampler
from ebm_control.tensors import as_tensor, generator_on, outside_inference_mode


@dataclass(frozen=True)
class Prediction:
    """K futures for each of N histories, in the units of the trajectory.

    Attributes:
        states: `(N, K, horizon, obs_dim)`.
        actions: `(N, K, horizon, act_dim)` the actions that led to them, passed to `predict` or sampled.
        energy: `(N, K)` energy of each history with its future, summed over windows; for an energy of noised data at
            its lowest noise level.

    """

    states: Tensor
    actions: Tensor
    energy: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean state over the K futures, `(N, horizon, obs_dim)`; not valid for periodic coordinates."""
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

    A `TransitionEnergy` is sampled step by step: each state from the window that ends in it, with chains that start at
    draws from its base. A `WindowEnergy` is sampled at once, or window by window if its base fixes the length.

    Values may be tensors, arrays or lists of any type of real numbers. They are cast to the dtype and device of the
    energy, which are also those of predictions.

    Args:
        energy: trained energy.
        history: `(N, h, D)` observed time steps, in the units of the trajectory; the last one's action is ignored.
        actions: `(N, horizon, act_dim)` fixed actions, beginning at the last observed state. None draws them for
            each future from a standard normal (the scale of the data): an energy trained with fixed actions models
            states given actions, but not the actions themselves.
        horizon: states to predict.
        samples: futures per history, `K`.
        sampler: None for `trajectory_sampler(energy)`.
        context: `(N, context_dim)` or None.
        generator: source of noise; None takes a seed from the system.
        bounds: low and high `(obs_dim,)`, for example the range of the data; each sampled state is clamped to them
            before the next one is sampled. None for no bounds.

    Raises:
        InputError: a shape does not fit, the history is too short, or a value is not finite.

    """
    layout, like = energy.layout, energy.displacement_scale
    past, acted, condition, box = _cast(like, history, actions, context, bounds)
    _check(energy, past, acted, condition, horizon, samples, box, sampler)
    generator = generator_on(like.device, generator)
    x = past.repeat_interleave(samples, dim=0)
    if acted is None:
        shape = (len(x), horizon, layout.act_dim)
        future_actions = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
    else:
        future_actions = acted.repeat_interleave(samples, dim=0)
    contexts = None if condition is None else condition.repeat_interleave(samples, dim=0)
    rollout = _Rollout(sampler or trajectory_sampler(energy), contexts, generator, box)
    with torch.no_grad():
        x, total = rollout.extend(energy, x, future_actions)
    future = x.unflatten(0, (len(past), samples))
    history_rows = past.shape[1]
    return Prediction(
        layout.states(future)[:, :, history_rows:],
        layout.actions(future)[:, :, history_rows - 1 : -1],
        total.unflatten(0, (len(past), samples)),
    )


def _cast(
    like: Tensor,
    history: Tensor | ArrayLike,
    actions: Tensor | ArrayLike | None,
    context: Tensor | ArrayLike | None,
    bounds: tuple[Tensor | ArrayLike, Tensor | ArrayLike] | None,
) -> tuple[Tensor, Tensor | None, Tensor | None, tuple[Tensor, Tensor] | None]:
    """Arguments of `predict` as tensors with the dtype and device of `like`."""

    def cast(argument: str, value: Tensor | ArrayLike) -> Tensor:
        return as_tensor(argument, value, like.dtype, like.device)

    return (
        cast("history", history),
        None if actions is None else cast("actions", actions),
        None if context is None else cast("context", context),
        None if bounds is None else (cast("bounds", bounds[0]), cast("bounds", bounds[1])),
    )


@dataclass(frozen=True)
class _Rollout:
    """How `predict` extends histories: the sampler with its noise, the context `(B, context_dim)`, and the bounds."""

    sampler: Sampler
    context: Tensor | None
    generator: torch.Generator
    bounds: tuple[Tensor, Tensor] | None

    def extend(
        self, energy: TransitionEnergy | WindowEnergy, x: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Extend histories `(B, h, D)` by a future under `actions` `(B, horizon, act_dim)`.

        Returns:
            Trajectories `(B, h + horizon, D)` and their energies `(B,)`.

        """
        if isinstance(energy, TransitionEnergy):
            return self._stepwise(energy, x, actions)
        return self._by_window(energy, x, actions)

    def _stepwise(self, energy: TransitionEnergy, x: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Extend state by state, sampling each from the window that ends in it."""
        layout, past = energy.layout, energy.window - 1
        sampler = self.sampler
        if isinstance(sampler, ProbabilityFlow):  # energies of single windows are not used
            sampler = replace(sampler, last_energy=False)
        require(x.shape[1] >= past, "history", given=f"{x.shape[1]} rows", expected=f"at least {past}")
        fixed = _known(layout, past, 1, x.device)
        for t in range(actions.shape[1]):
            x = torch.cat([x[:, :-1], layout.join(layout.states(x)[:, -1:], actions[:, t, None])], dim=1)
            start = torch.cat([x[:, -past:], layout.join(layout.states(x)[:, -1:])], dim=1)
            sampled, _ = self._sampled(sampler, energy, start, fixed)
            x = torch.cat([x, _within(layout, sampled[:, -1:], self.bounds)], dim=1)
        whole = energy if energy.noise is None else AtNoise(energy, energy.noise[0])
        return x, whole(x, self.context)

    def _by_window(self, energy: WindowEnergy, x: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Extend at once, or window by window if a base fixes the length; energies are summed over windows."""
        layout, horizon, total = energy.layout, actions.shape[1], x.new_zeros(len(x))
        known, length = (x.shape[1], horizon) if energy.window is None else (1, energy.window - 1)
        fixed = _known(layout, known, length, x.device)
        for begin in range(0, horizon, length):
            window_actions = actions[:, begin : begin + length]
            rows = window_actions.shape[1]
            # A last window that reaches beyond the horizon is sampled completely, under mean actions, and then cut.
            padding = window_actions.new_zeros(len(x), length - rows, layout.act_dim)
            states = layout.states(x)[:, -known:]
            states = torch.cat([states, states[:, -1:].expand(-1, length, -1)], dim=1)
            past_actions = layout.actions(x)[:, -known:-1]
            start = layout.join(states, torch.cat([past_actions, window_actions, padding], dim=1))
            sampled, energies = self._sampled(self.sampler, energy, start, fixed, before=known - 1)
            future = _within(layout, sampled[:, known : known + rows], self.bounds)
            x = torch.cat([x[:, :-1], sampled[:, known - 1 : known], future], dim=1)
            total = total + energies
        return x, total

    def _sampled(
        self,
        sampler: Sampler,
        energy: TransitionEnergy | WindowEnergy,
        start: Tensor,
        fixed: Tensor,
        before: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Chains and their energies. They start from a draw of the base, except for the first `before` time steps."""
        spread = _spread(energy, sampler)
        proposed = energy.propose(start[:, before:], self.context, self.generator, spread)
        start = torch.cat([start[:, :before], proposed], dim=1)
        chain = sampler(energy, start, fixed=fixed, context=self.context, generator=self.generator)
        return chain.x, chain.energy


def _within(layout: TrajectoryLayout, x: Tensor, bounds: tuple[Tensor, Tensor] | None) -> Tensor:
    """`x` with its states clamped to the bounds."""
    if bounds is None:
        return x
    return torch.cat([layout.states(x).clamp(*bounds), layout.actions(x)], dim=-1)


def _spread(energy: TransitionEnergy | WindowEnergy, sampler: Sampler) -> float:
    """Std, in units of the base's, of the draws around the base's mean at which chains start.

    Chains that do not move between modes sample them with the right probabilities only if they start in all of them.
    Draws from the base do so for annealed chains, whose first noise levels connect all modes. Sampling at
    temperature 0 starts at the most likely state.
    """
    cold = energy.base is None and isinstance(energy, TransitionEnergy)
    if isinstance(sampler, ProbabilityFlow):  # which starts at the mean and adds all noise itself
        return 0.0
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
    sampler: object,
) -> None:
    """Raise `InputError` if arguments of `predict` do not fit."""
    layout = energy.layout
    sound = sampler is None or callable(sampler)
    require(sound, "sampler", given=shown(sampler), expected="a sampler, Langevin() for example")
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
    """Mask `(known + horizon, D)` of fixed coordinates: all except the states of the future."""
    fixed = torch.ones(known + horizon, layout.dim, dtype=torch.bool, device=device)
    fixed[known:, : layout.obs_dim] = False
    return fixed
