"""The methods: energies and baselines, each trained on the same data."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from ebm_control.baselines import BaselineSettings, fit_baseline
from ebm_control.control import planner_for
from ebm_control.data import Normalizer, RolloutBuffer
from ebm_control.energies import Energy, GoalCost, SpeedCost, TransitionEnergy
from ebm_control.models import ModelSettings, TrainSettings, TrajectoryModel, batches_for, fit_model
from ebm_control.planning import (
    ClosedForm,
    Guided,
    InverseDynamics,
    LearnedInverse,
    LineOfSight,
    MPCAgent,
    Planner,
    RecursiveLeastSquares,
    Roadmap,
)
from ebm_control.samplers import CEM, MPPI, Geometric, Langevin, Linear
from experiments.planning.problems import Problem, box_cost

# No fewer model evaluations than the energy: a plan of 80 Langevin steps and 2 chains is 160 evaluations with a
# gradient, counted as 3 each; CEM and MPPI have 1024.
SEARCHES: dict[str, CEM | MPPI] = {
    "CEM": CEM(8, candidates=128, elites=12, noise=0.7, smoothing=0.1, smooth=False),
    "MPPI": MPPI(16, candidates=64, noise=Geometric(0.5, 0.05), temperature=0.05, smooth=False),
}


@dataclass(frozen=True)
class Trained:
    """A model and what it cost.

    Attributes:
        model: a `TrajectoryModel` or a `Baseline`.
        seconds: of training.

    """

    model: Any
    seconds: float


def energy(buffer: RolloutBuffer, seed: int, *, quick: bool = False, **changes: Any) -> Trained:
    """Transition energy with a regression base."""
    began = time.perf_counter()
    settings = TrainSettings(
        ModelSettings(hidden=(128, 128)), updates=300, base_updates=3000 if quick else 6000, seed=seed
    )
    model = fit_model(buffer, replace(settings, **changes), progress=False)
    return Trained(model, time.perf_counter() - began)


def joint(
    buffer: RolloutBuffer,
    seed: int,
    gap: int,
    *,
    planned: Callable[[TrajectoryModel], Any] | None = None,
    **changes: Any,
) -> Trained:
    """Joint energy over pairs of states `gap` steps apart: where data were, and how far they moved."""
    began = time.perf_counter()
    model = ModelSettings(
        hidden=(128, 128),
        base="gaussian",
        base_std=1.2,
        gaps=(gap,),
        states_only=True,
        joint=True,
        frequencies=64,
        bandwidth=4.0,
    )
    settings = TrainSettings(
        replace(model, **changes.pop("model", {})),
        updates=1000,
        loss="softplus",
        energy_l2=0.003,
        learning_rate=1e-3,
        langevin_steps=10,
        seed=seed,
    )
    trained = fit_model(buffer, replace(settings, **changes), extra_negatives=planned, progress=False)
    return Trained(trained, time.perf_counter() - began)


def feed_forward(buffer: RolloutBuffer, seed: int, quick: bool = False) -> Trained:
    settings = BaselineSettings(hidden=(256, 256), updates=3000 if quick else 6000, seed=seed)
    fitted = fit_baseline(buffer, settings, progress=False)
    return Trained(fitted, fitted.training.seconds)


def ensemble(buffer: RolloutBuffer, seed: int, quick: bool = False) -> Trained:
    settings = BaselineSettings("ensemble", hidden=(128, 128), updates=2000 if quick else 4000, seed=seed)
    fitted = fit_baseline(buffer, settings, progress=False)
    return Trained(fitted, fitted.training.seconds)


def costs_of(problem: Problem, trained: Trained, boxes: np.ndarray | None) -> list[Energy]:
    """What the plan is for: the same costs for every plan over actions, and over states and actions."""
    costs = [problem.goal_cost(trained.model.layout)]
    if boxes is not None:
        costs.append(box_cost(trained.model.normalizer, boxes))
    return costs


def energy_agent(
    problem: Problem,
    trained: Trained,
    space: spaces.Box,
    *,
    boxes: np.ndarray | None = None,
    horizon: int = 12,
    chains: int = 2,
    seed: int = 0,
    engine: str = "auto",
    steps: int = 80,
    step_size: float = 0.1,
    weight: float = 10.0,
    shooting: bool = False,
) -> MPCAgent:
    """Langevin over states and actions; over actions alone with `shooting`."""
    sampler = Langevin(steps, Linear(step_size, 0.01), noise=0.0, adapt="rms", engine=engine)  # type: ignore[arg-type]
    planner = planner_for(
        trained.model,
        costs_of(problem, trained, boxes),
        horizon,
        sampler=sampler,
        action_space=space,
        chains=chains,
        weight=weight,
        shooting=shooting,
    )
    return MPCAgent(planner, trained.model.normalizer, space, seed=seed)


def search_agent(
    problem: Problem,
    trained: Trained,
    space: spaces.Box,
    search: str,
    *,
    boxes: np.ndarray | None = None,
    horizon: int = 10,
    chains: int = 1,
    seed: int = 0,
    sampler: Langevin | None = None,
) -> MPCAgent:
    """A baseline's model, searched over actions by one of `SEARCHES`, or by gradients with a sampler of its own."""
    planner = planner_for(
        trained.model,
        costs_of(problem, trained, boxes),
        horizon,
        sampler=sampler or SEARCHES[search],
        action_space=space,
        chains=chains,
    )
    return MPCAgent(planner, trained.model.normalizer, space, seed=seed)


def largest_displacement(env: Any, normalizer: Normalizer) -> torch.Tensor:
    """What the largest action moves a point by, `(obs_dim,)` in the units of the trajectory."""
    return (torch.as_tensor(env.action_space.high).double() / normalizer.obs_std).float()


def states_planner(
    model: TrajectoryModel,
    problem: Problem,
    limit: torch.Tensor,
    box: Energy | None = None,
    horizon: int = 10,
    engine: str = "auto",
    goal: float = 20.0,
) -> Planner:
    """Langevin over states alone, displacements within what an action can do."""
    scale = tuple((4 * limit).tolist())
    sampler = Langevin(30, Linear(0.1, 0.01), noise=0.0, adapt="rms", scale=scale, engine=engine)  # type: ignore[arg-type]
    costs: list[Energy] = [
        goal * GoalCost(model.layout, problem.goal_index, norm=problem.norm, smooth=0.02),
        1e4 * SpeedCost(model.layout, limit),
    ]
    costs += [] if box is None else [box]
    return Planner(
        model.energy,
        sampler,
        horizon,
        costs,
        layout=model.layout,
        weight=3.0,
        chains=2,
        first=replace(sampler, steps=90),
        spread=1.5 * limit,
    )


def inverse_dynamics(
    kind: str, buffer: RolloutBuffer, env: Any, model: TrajectoryModel, seed: int
) -> InverseDynamics:
    """Actions for planned states: "closed form", "learned" or "least squares" (recursive)."""
    normalizer = model.normalizer
    if kind == "closed form":
        return ClosedForm(
            env.unwrapped.inverse_dynamics, normalizer.denormalize_observations, normalizer.normalize_actions
        )
    layout, scale = normalizer.layout, model.energy.displacement_scale
    plain = TrajectoryModel.create(ModelSettings(), normalizer, scale)
    batches = batches_for(buffer, plain, 256, seed)
    if kind == "learned":
        torch.manual_seed(seed)
        learned = LearnedInverse(layout, scale)
        learned.fit(batches, 2000)
        return learned
    squares = RecursiveLeastSquares(layout, scale)
    for _ in range(8):
        x = next(batches).x
        states = layout.states(x)
        squares.update(states[:, 0], layout.actions(x)[:, 0], states[:, 1])
    return squares


def guided_agent(
    problem: Problem,
    fine: Trained,
    coarse: Trained,
    buffer: RolloutBuffer,
    env: Any,
    *,
    inverse: str = "closed form",
    guided: bool = True,
    boxes: np.ndarray | None = None,
    quantile: float = 0.85,
    goal: float = 40.0,
    seed: int = 0,
) -> MPCAgent:
    """Coarse to fine: a roadmap of replay states under the coarse energy, Langevin over states under the fine one.

    `goal` weighs the goal's cost, twice what the searches have: the energy pushes back near walls.
    """
    normalizer, space = fine.model.normalizer, env.action_space
    limit = largest_displacement(env, normalizer)
    box = None if boxes is None else box_cost(normalizer, boxes)
    planner: Any = states_planner(fine.model, problem, limit, box, goal=goal)
    if guided:
        sight = coarse.model.energy
        assert isinstance(sight, TransitionEnergy)
        count = len(buffer.observations)
        pick = np.random.default_rng(seed).choice(count, min(count, 1500), replace=False)
        nodes = normalizer.normalize_observations(torch.from_numpy(buffer.observations[pick])).float()
        sees = LineOfSight.of_data(sight, nodes, quantile, cost=box)
        planner = Guided(planner, Roadmap(sees, nodes), sees, reached=1.5)
    actions = inverse_dynamics(inverse, buffer, env, fine.model, seed)
    return MPCAgent(planner, normalizer, space, inverse_dynamics=actions, seed=seed)
