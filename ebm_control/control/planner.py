"""Planners with tested settings for all models; the name of the sampler is enough to change it.

With a regression base, the energy's temperature is set so that an error of one typical displacement in the
dynamics costs `weight / 2` in the coordinate that the base predicts best, among those that actions can move. A base
fitted to a clean simulator is too stiff for sampling, and one stiff coordinate is enough to block all moves.
Coordinates that actions cannot move (a phase, a disturbance) are at most as stiff as that one. Coordinates that are
constant or move like a clock are fixed at their future values. Neither affects how exactly a plan follows the dynamics.

Stiffness does not slow down second-order steps ("gauss-newton"). They plan with a much larger weight of the base, so
that a gain in reward cannot pay for a violation of the dynamics. The tilt keeps the weight of first-order plans.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ebm_control.baselines import Baseline, Ensemble, TrajectorySampling
from ebm_control.checks import InputError, require, require_flag, require_number, shown
from ebm_control.control.presets import PRESETS, SAMPLERS, PlanSampler, Preset
from ebm_control.data.actions import FlatActions
from ebm_control.data.normalizer import Normalizer
from ebm_control.energies.base import Energy
from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.trajectory import TransitionEnergy
from ebm_control.models.trajectory import TrajectoryModel
from ebm_control.planning.choices import ChosenActions
from ebm_control.planning.planner import Planner
from ebm_control.planning.shooting import AlongMean, Dynamics, ExpectedDynamics
from ebm_control.planning.starts import Policy
from ebm_control.planning.stiffness import tempered
from ebm_control.samplers.langevin import Langevin
from ebm_control.samplers.population import CEM, MPPI
from ebm_control.samplers.second_order import GaussNewton

Model = TrajectoryModel | Baseline


def planner_for(
    model: Model,
    costs: Energy | Sequence[Energy],
    horizon: int = 15,
    *,
    sampler: PlanSampler | str | None = None,
    action_space: spaces.Box | None = None,
    chains: int | None = None,
    shooting: bool | None = None,
    weight: float | None = None,
    particles: int | None = None,
    generator: torch.Generator | None = None,
    preset: Literal["offline", "online", "reward"] = "offline",
    policy: Policy | None = None,
) -> Planner:
    """Planner for an energy of transitions or for a baseline, with scales taken from the model itself.

    With a baseline, plans are over actions only, with the same warm starts and restarts.

    Args:
        model: a trained energy of kind "transition", or a baseline with actions. A recurrent baseline begins each
            plan without a history.
        costs: what the plan minimises, in normalised units; for example `20 * GoalCost(model.layout, index)`.
        horizon: steps ahead.
        sampler: "gauss-newton", "langevin", "mppi", "cem" or a sampler with your own settings; missing preconditioners
            and action bounds are filled in. None for "gauss-newton" with an energy that has actions and a regression
            base ("langevin" with the preset "online" or `shooting=True`), "langevin" with another energy, and "cem"
            with a baseline, with discrete actions and with data that hold a history.
        action_space: bounds of actions; None for no bounds. With discrete parts (`flat_actions` of the environment's
            space) plans over actions only take one of the choices at each step.
        chains: chains per problem; None for 1 with a population-based sampler and the preset's with others.
        shooting: plan over actions only, as a baseline always does; None for True if the sampler uses no gradients.
        weight: weight of the energy relative to the costs; None for the preset's. Not used with a baseline. With
            "gauss-newton" the tilt has at most the preset's weight of first-order plans.
        particles: particles of an ensemble, a multiple of its members, for each candidate; None for one per member.
        generator: source of the particles' noise; None for a generator with seed 0.
        preset: "offline", "online" with fewer evaluations per plan, or "reward" with more chains and weight.
        policy: chains begin with its rollouts, see `Planner`; with several chains, all but one begin anew in each plan.

    Raises:
        InputError: the model is of another kind, or an energy of noised data or of states only; the sampler or preset
            does not exist; an argument is out of its range or does not apply to this kind of model.

    """
    require(preset in PRESETS, "preset", given=shown(preset), expected=f"one of {sorted(PRESETS)}")
    _check(weight, chains, shooting, action_space)
    known = isinstance(model, TrajectoryModel | Baseline)
    require(known, "model", given=shown(model), expected="a trajectory model or a baseline")
    chosen = PRESETS[preset]
    if isinstance(model, Baseline):
        sampler = _named("cem" if sampler is None else sampler, chosen, over_actions=True)
        return _of_baseline(
            model, costs, horizon, sampler, action_space, chains, particles, generator, chosen, policy
        )
    if sampler is None and searches(model, action_space):
        sampler = "cem"
    elif sampler is None:
        sampler = chosen.default if second_order(model) and not shooting else "langevin"
    sampler = _named(sampler, chosen, over_actions=bool(shooting))
    return _of_energy(model, costs, horizon, sampler, action_space, chains, shooting, weight, chosen, policy)


def _check(
    weight: float | None, chains: int | None, shooting: bool | None, action_space: spaces.Box | None
) -> None:
    """Raise `InputError` if one of these arguments of `planner_for` is out of its range."""
    if weight is not None:
        require_number("weight", weight, 0)
    if chains is not None:
        require_number("chains", chains, 1, whole=True)
    if shooting is not None:
        require_flag("shooting", shooting)
    box = action_space is None or isinstance(action_space, spaces.Box)
    require(box, "action_space", given=shown(action_space), expected="a Box, or None")


def _of_energy(
    model: TrajectoryModel,
    costs: Energy | Sequence[Energy],
    horizon: int,
    sampler: PlanSampler,
    action_space: spaces.Box | None,
    chains: int | None,
    shooting: bool | None,
    weight: float | None,
    preset: Preset,
    policy: Policy | None,
) -> Planner:
    if shooting is None:
        shooting = isinstance(sampler, MPPI | CEM) and model.layout.act_dim > 0
    if weight is None:
        weight = preset.second_weight if isinstance(sampler, GaussNewton) else preset.weight
    energy, layout = _plannable(model), model.layout
    step = energy.displacement_scale
    clamp = sampler.clamp
    if clamp is None and action_space is not None and layout.act_dim:
        clamp = action_bounds(model.normalizer, layout, action_space, chosen=shooting)
    scale = (*(4 * step).tolist(), *[1.0] * layout.act_dim) if sampler.scale is None else sampler.scale
    context = torch.tensor([math.log2(model.settings.gaps[0])]) if energy.context_dim else None
    energy, stiffest = tempered(energy, context)
    # As tensors, which need no conversion at every plan.
    scale = torch.as_tensor(scale, dtype=step.dtype)
    if clamp is not None:
        clamp = (torch.as_tensor(clamp[0], dtype=step.dtype), torch.as_tensor(clamp[1], dtype=step.dtype))
    settled = replace(sampler, scale=scale, clamp=clamp)
    given: dict[str, Any] = _acted(policy, _chains(chains, sampler, preset, preset.chains[0])) | {
        "first": replace(settled, steps=3 * sampler.steps),  # a cold start needs more steps
    }
    if isinstance(sampler, GaussNewton):
        if isinstance(energy.base, RegressionBase) and weight > preset.weight:
            # The tilt keeps the weight of first-order plans. It is rough at the scale of the dynamics.
            energy = energy.with_std(energy.base.std, tilt_weight=preset.weight / weight)
        wanted = "False with second-order steps (sampler='langevin' plans over actions)"
        require(not shooting, "shooting", given=True, expected=wanted)
        given["first"] = replace(settled, steps=max(16, 4 * sampler.steps))
        given["restarts"] = 1 - 1 / given["chains"]  # one warm chain: those beside it look for other basins
        given["rollouts"] = ExpectedDynamics(energy, context) if _predicts(energy) else None
    dynamics = ExpectedDynamics(energy, context) if shooting else None
    return Planner(
        energy if dynamics is None else AlongMean(energy),
        settled,
        horizon,
        costs,
        layout=layout,
        weight=weight * stiffest**2,
        spread=torch.cat([1.5 * step, step.new_ones(layout.act_dim)]),
        context=context,
        dynamics=dynamics if dynamics is None else _chosen(dynamics, model, action_space),
        steady=energy.steady,
        rate=energy.rate,
        **given,
    )


def _predicts(energy: TransitionEnergy) -> bool:
    """Whether the energy's base predicts the next state from a state and an action."""
    return energy.window == 2 and energy.layout.act_dim > 0 and isinstance(energy.base, RegressionBase)


def second_order(model: Model) -> bool:
    """Whether second-order steps suit the model: an energy that is nearly a sum of squares around a regression base.

    Without actions they do not: the base then predicts one future, and their large weight would hold plans to it.
    """
    energy = model.energy if isinstance(model, TrajectoryModel) else None
    if not isinstance(energy, TransitionEnergy):
        return False
    return energy.layout.act_dim > 0 and isinstance(energy.base, RegressionBase)


def _of_baseline(
    model: Baseline,
    costs: Energy | Sequence[Energy],
    horizon: int,
    sampler: PlanSampler,
    action_space: spaces.Box | None,
    chains: int | None,
    particles: int | None,
    generator: torch.Generator | None,
    preset: Preset,
    policy: Policy | None,
) -> Planner:
    wanted = "'cem', 'mppi' or 'langevin' with a baseline, whose plans are over actions only"
    first = not isinstance(sampler, GaussNewton)
    require(first, "sampler", given="second-order steps", expected=wanted)
    require(
        model.layout.act_dim > 0,
        "model",
        given="one without actions",
        expected="a model with actions: a plan is searched for among them",
    )
    if sampler.clamp is None and action_space is not None:
        bounds = action_bounds(model.normalizer, model.layout, action_space, chosen=True)
        sampler = replace(sampler, clamp=bounds)
    dynamics: Dynamics = model.dynamics
    if isinstance(model.dynamics, Ensemble):
        if generator is None:
            device = model.dynamics.displacement_scale.device
            generator = torch.Generator(device).manual_seed(0)
        count = model.dynamics.members if particles is None else particles
        dynamics = TrajectorySampling(model.dynamics, count, horizon, generator)
    return Planner(
        None,
        sampler,
        horizon,
        costs,
        layout=model.layout,
        **_acted(policy, _chains(chains, sampler, preset, preset.chains[1])),
        first=replace(sampler, steps=3 * sampler.steps),  # a cold start needs more steps
        spread=1.0,
        dynamics=_chosen(dynamics, model, action_space),
    )


def searches(model: Model, action_space: spaces.Box | None) -> bool:
    """Whether plans are searched for without gradients by default.

    Choices have no gradients. With a history, coordinates that only repeat others would be as stiff as these.
    """
    discrete = isinstance(action_space, FlatActions) and action_space.discrete
    form = model.normalizer.form
    return model.layout.act_dim > 0 and (discrete or (form is not None and form.history > 1))


def _chosen(dynamics: Dynamics, model: Model, action_space: spaces.Box | None) -> Dynamics:
    """The dynamics under the actions that would be taken, if some of them are choices."""
    if not isinstance(action_space, FlatActions):
        return dynamics
    return ChosenActions(dynamics, model.normalizer, action_space)


def _chains(given: int | None, sampler: PlanSampler, preset: Preset, usual: int) -> int:
    if given is not None:
        return given
    if isinstance(sampler, GaussNewton):
        return preset.second_chains
    return usual if isinstance(sampler, Langevin) else 1


def _acted(policy: Policy | None, chains: int) -> dict[str, Any]:
    """Arguments of `Planner` for its chains; with a policy, one warm chain and new ones by the policy beside it."""
    if policy is None:
        return {"chains": chains}
    return {"chains": chains, "policy": policy, "restarts": 1 - 1 / chains if chains > 1 else 0.0}


def _plannable(model: TrajectoryModel) -> TransitionEnergy:
    """The model's energy; raises `InputError` if it does not support planning."""
    energy = model.energy
    require(
        energy.noise is None,
        "model",
        given='a model trained with loss="dsm"',
        expected="one trained with another loss",
    )
    if not isinstance(energy, TransitionEnergy):
        raise InputError(f"model: expected kind 'transition', got '{model.settings.kind}'")
    return energy


def _named(sampler: PlanSampler | str, preset: Preset, *, over_actions: bool) -> PlanSampler:
    """The sampler itself, or the preset's sampler of this name."""
    if isinstance(sampler, PlanSampler):
        return sampler
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        raise InputError(
            f"sampler: expected one of {sorted(SAMPLERS)} or a sampler of plans, got {shown(sampler)}"
        )
    if sampler == "gauss-newton":
        return preset.second_order
    if sampler == "langevin" and over_actions:
        return preset.over_actions
    return preset.samplers[sampler]


def action_bounds(
    normalizer: Normalizer, layout: TrajectoryLayout, action_space: spaces.Box, *, chosen: bool = False
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Low and high of one normalised time step: states are unbounded, actions within the space.

    With `chosen`, only the order of a choice's coordinates counts: they get more room, so that they do not end up equal
    at a bound.
    """
    free = [float("inf")] * layout.obs_dim
    room = np.zeros(action_space.shape)
    if chosen and isinstance(action_space, FlatActions):
        room = action_space.of_kind("choice").astype(np.float64)

    def normalised(bound: object) -> list[float]:
        actions: Tensor = normalizer.normalize_actions(torch.as_tensor(bound).double())
        return [float(a) for a in actions]

    low, high = normalised(action_space.low - room), normalised(action_space.high + room)
    return tuple([-f for f in free] + low), tuple(free + high)
