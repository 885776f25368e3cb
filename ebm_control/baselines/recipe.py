"""Planning with a baseline: the planner of the energies, with nothing but costs for its energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from gymnasium import spaces

from ebm_control.baselines.fit import Baseline
from ebm_control.baselines.models import Ensemble, TrajectorySampling
from ebm_control.checks import require
from ebm_control.energies.base import Energy
from ebm_control.planning.planner import Planner
from ebm_control.planning.recipe import PlanSampler, action_bounds, named_sampler
from ebm_control.planning.shooting import Dynamics


def baseline_planner(
    model: Baseline,
    costs: Energy | Sequence[Energy],
    horizon: int = 15,
    *,
    sampler: PlanSampler | str = "cem",
    action_space: spaces.Box | None = None,
    particles: int | None = None,
    chains: int = 1,
    generator: torch.Generator | None = None,
) -> Planner:
    """Planner over actions alone, warm starts and restarts as those of `planner_for`.

    Args:
        model: a fitted baseline that sees actions. A recurrent one begins each plan without a past.
        costs: what the plan is for, in normalised units.
        horizon: steps ahead.
        sampler: "cem", "mppi", "langevin" or a sampler of your own settings; action bounds are filled in where
            it has none.
        action_space: bounds on actions; None for none.
        particles: of an ensemble, a multiple of its members; None for one a member. Each candidate costs as
            many model evaluations.
        chains: a problem's chains.
        generator: source of the particles' noise; None for one of seed 0.

    Raises:
        InputError: a model that sees states alone, no such sampler, or particles that are no multiple of the
            members.

    """
    require(
        model.layout.act_dim > 0,
        "model",
        given="one that sees states alone",
        expected="a model that sees actions: a plan is searched for among them",
    )
    sampler = named_sampler(sampler)
    if sampler.clamp is None and action_space is not None:
        sampler = replace(sampler, clamp=action_bounds(model.normalizer, model.layout, action_space))
    dynamics: Dynamics = model.dynamics
    if isinstance(model.dynamics, Ensemble):
        if generator is None:
            generator = torch.Generator().manual_seed(0)
        count = model.dynamics.members if particles is None else particles
        dynamics = TrajectorySampling(model.dynamics, count, horizon, generator)
    return Planner(
        None,
        sampler,
        horizon,
        costs,
        layout=model.layout,
        chains=chains,
        first=replace(sampler, steps=3 * sampler.steps),  # a cold start has further to go
        spread=1.0,
        dynamics=dynamics,
    )
