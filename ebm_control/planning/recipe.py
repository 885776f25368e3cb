"""Planner settings that work for a trained trajectory model, and one word to change the sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from gymnasium import spaces
from torch import Tensor

from ebm_control.checks import InputError, require, require_flag, require_number, shown
from ebm_control.data.normalizer import Normalizer
from ebm_control.energies.base import Energy
from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.trajectory import TransitionEnergy
from ebm_control.planning.planner import Planner
from ebm_control.planning.shooting import ExpectedDynamics
from ebm_control.samplers.langevin import Langevin
from ebm_control.samplers.population import CEM, MPPI
from ebm_control.samplers.schedules import Linear
from ebm_control.training.model import TrajectoryModel

PlanSampler = Langevin | MPPI | CEM

SAMPLERS: dict[str, Callable[[], PlanSampler]] = {
    # RMS-preconditioned descent: a plan is a mode, not a sample; steps shrink so that it settles.
    "langevin": lambda: Langevin(80, Linear(0.1, 0.01), noise=0.0, adapt="rms"),
    "mppi": lambda: MPPI(8, candidates=128, noise=1.0, temperature=0.05, smooth=False),
    "cem": lambda: CEM(8, candidates=128, elites=12, noise=1.0, smooth=False),
}


_PROBES = 256  # random states and actions at which a base is asked what moves what
_MOVES = 0.05  # above what a base errs by where it has learned that nothing moves


def planner_for(
    model: TrajectoryModel,
    costs: Energy | Sequence[Energy],
    horizon: int = 15,
    *,
    sampler: PlanSampler | str = "langevin",
    action_space: spaces.Box | None = None,
    chains: int | None = None,
    shooting: bool | None = None,
    weight: float = 10.0,
) -> Planner:
    """Planner for a transition model, in scales taken from the model itself.

    With a regression base the energy is taken at the temperature where one typical displacement off the dynamics
    costs `weight / 2` in the coordinate that the base knows best, of those that actions can move: a base fitted to a
    clean simulator is far too stiff to move trajectories through, and one stiff coordinate is enough to hold them.
    Coordinates that actions cannot move (a phase, a disturbance) are at most as stiff as that one, and those that are
    constant or move like a clock are held where they will be: neither decides how closely a plan keeps to the dynamics.

    Args:
        model: trained, of kind "transition".
        costs: what the plan is for, in normalised units; `20 * GoalCost(model.layout, index)`, say.
        horizon: steps ahead.
        sampler: "langevin", "mppi", "cem" or a sampler of your own settings; preconditioner and action bounds
            are filled in where it has none.
        action_space: bounds on actions; None for none.
        chains: a problem's chains; None for 4 with Langevin and 1 for a population.
        shooting: plan over actions alone; None where the sampler takes no gradients.
        weight: of the energy against the costs.

    Raises:
        InputError: the model is not of kind "transition" or of noised data, no such sampler, or a figure is out of its
            range.

    """
    require_number("weight", weight, 0)
    if chains is not None:
        require_number("chains", chains, 1, whole=True)
    if shooting is not None:
        require_flag("shooting", shooting)
    box = action_space is None or isinstance(action_space, spaces.Box)
    require(box, "action_space", given=shown(action_space), expected="a Box, or None")
    energy, layout = _plannable(model), model.layout
    sampler = named_sampler(sampler)
    gradients = isinstance(sampler, Langevin)
    step = energy.displacement_scale
    states = tuple((4 * step).tolist())
    clamp = sampler.clamp
    if clamp is None and action_space is not None and layout.act_dim:
        clamp = action_bounds(model.normalizer, layout, action_space)
    scale = (*states, *[1.0] * layout.act_dim) if sampler.scale is None else sampler.scale
    context = torch.tensor([math.log2(model.settings.gaps[0])]) if energy.context_dim else None
    energy, stiffest = tempered(energy, context)
    if shooting is None:
        shooting = not gradients and layout.act_dim > 0
    settled = replace(sampler, scale=scale, clamp=clamp)
    return Planner(
        energy,
        settled,
        horizon,
        costs,
        layout=layout,
        weight=weight * stiffest**2,
        chains=(4 if gradients else 1) if chains is None else chains,
        first=replace(settled, steps=3 * sampler.steps),  # a cold start has further to go
        spread=torch.cat([1.5 * step, step.new_ones(layout.act_dim)]),
        context=context,
        dynamics=ExpectedDynamics(energy, context) if shooting else None,
        steady=energy.steady,
        rate=energy.rate,
    )


def tempered(energy: TransitionEnergy, context: Tensor | None = None) -> tuple[TransitionEnergy, float]:
    """The energy as plans take it, and the deviation of its stiffest coordinate.

    Without a `RegressionBase` it is the energy itself, and 1.
    """
    base = energy.base
    if not isinstance(base, RegressionBase):
        return energy, 1.0
    counted = moved_by_actions(energy, context) & ~energy.steady
    if not bool(counted.any()):
        counted = ~energy.steady if bool((~energy.steady).any()) else torch.ones_like(energy.steady)
    stiffest = base.deviation[counted].amin()
    if bool((base.deviation >= stiffest).all()):
        return energy, float(stiffest)
    return energy.with_deviation(base.deviation.clamp_min(float(stiffest))), float(stiffest)


def moved_by_actions(energy: TransitionEnergy, context: Tensor | None = None) -> Tensor:
    """Which observation coordinates `(obs_dim,)` actions move under the base, directly or through others.

    By the derivatives of the base's expectation where the data may be: a coordinate counts as moved by another if one
    deviation of that moves it by a twentieth of its typical displacement.
    """
    layout, base = energy.layout, energy.base
    assert base is not None
    generator = torch.Generator().manual_seed(0)
    scale = energy.displacement_scale
    x = torch.randn(_PROBES, energy.window, layout.dim, generator=generator).to(scale)
    x[..., : layout.obs_dim] = torch.where(energy.steady, 0.0, x[:, :1, : layout.obs_dim])
    known = None if context is None else context.to(scale).expand(len(x), -1)
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()
        expected = base.mean(energy.windows(x, known)[0])[:, 0]
        rows = [
            torch.autograd.grad(expected[:, i].sum(), x, retain_graph=True)[0].sum(dim=1).square().mean(dim=0)
            for i in range(layout.obs_dim)
        ]
    moves = torch.stack(rows).sqrt() > _MOVES
    found: Tensor = moves[:, layout.obs_dim :].any(dim=1)
    for _ in range(layout.obs_dim):
        found = found | (moves[:, : layout.obs_dim] & found).any(dim=1)
    return found


def _plannable(model: TrajectoryModel) -> TransitionEnergy:
    """The model's energy; raises `InputError` where plans cannot be made with it."""
    energy = model.energy
    require(
        energy.noise is None,
        "model",
        given="an energy of noised data",
        expected="one of data as they are, trained by another objective than 'dsm'",
    )
    if not isinstance(energy, TransitionEnergy):
        raise InputError(f"model: expected kind 'transition', got '{model.settings.kind}'")
    return energy


def named_sampler(sampler: PlanSampler | str) -> PlanSampler:
    """The sampler itself, or the one of `SAMPLERS` that has this name.

    Raises:
        InputError: no such sampler.

    """
    if isinstance(sampler, PlanSampler):
        return sampler
    if not isinstance(sampler, str):
        raise InputError(
            f"sampler: expected one of {sorted(SAMPLERS)} or a sampler of plans, got {shown(sampler)}"
        )
    if sampler not in SAMPLERS:
        raise InputError(f"sampler: expected one of {sorted(SAMPLERS)}, got '{sampler}'")
    return SAMPLERS[sampler]()


def action_bounds(
    normalizer: Normalizer, layout: TrajectoryLayout, action_space: spaces.Box
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Low and high of one normalised row: states are free, actions within the space."""
    free = [float("inf")] * layout.obs_dim

    def normalised(bound: object) -> list[float]:
        actions: Tensor = normalizer.normalize_actions(torch.as_tensor(bound).double())
        return [float(a) for a in actions]

    low, high = normalised(action_space.low), normalised(action_space.high)
    return tuple([-f for f in free] + low), tuple(free + high)
