"""The methods: energies and baselines, each trained on the same data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ebm_control.baselines import BaselineSettings, fit_baseline
from ebm_control.control import planner_for
from ebm_control.data import Normalizer, RolloutBuffer
from ebm_control.data.batch import Batch
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
from ebm_control.samplers.engines import Engine
from experiments.planning.problems import Problem, box_cost


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        model: a `TrajectoryModel` or a `Baseline`.
        seconds: training time.
        name: name of its kind, as in the table.

    """

    model: Any
    seconds: float
    name: str = "EBM"


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        planner: description of the planner.
        trained: the trained models; the first one is used for planning.
        agent: the agent.

    """

    planner: str
    trained: Sequence[Trained]
    agent: MPCAgent


@dataclass(frozen=True)
class Search:
    """A search over actions."""

    name: str
    sampler: CEM | MPPI | Langevin


# At least as many model evaluations as the energy: 80 Langevin steps with 2 chains are 160 evaluations with gradient,
# each counted as 3; CEM and MPPI have 1024.
BY_CEM = Search("CEM", CEM(8, candidates=128, elites=12, noise=0.7, smoothing=0.1, smooth=False))
BY_MPPI = Search("MPPI", MPPI(16, candidates=64, noise=Geometric(0.5, 0.05), temperature=0.05, smooth=False))
SEARCHES = (BY_CEM, BY_MPPI)


def energy(buffer: RolloutBuffer, seed: int, *, quick: bool = False, **changes: Any) -> Trained:
    """A trained transition energy with a regression base."""
    settings = TrainSettings(
        ModelSettings(hidden=(128, 128)), updates=300, base_updates=3000 if quick else 6000, seed=seed
    )
    return fitted(buffer, replace(settings, **changes))


def fitted(buffer: RolloutBuffer, settings: TrainSettings, **given: Any) -> Trained:
    """A trained trajectory model."""
    began = time.perf_counter()
    model = fit_model(buffer, settings, progress=False, **given)
    return Trained(model, time.perf_counter() - began)


def joint(
    buffer: RolloutBuffer,
    seed: int,
    gap: int,
    *,
    planned: Callable[[TrajectoryModel], Any] | None = None,
    **changes: Any,
) -> Trained:
    """A joint energy over pairs of states `gap` steps apart: the distribution of states and of their displacements."""
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
    return fitted(buffer, replace(settings, **changes), extra_negatives=planned)


def fine_and_coarse(buffer: RolloutBuffer, seed: int, **changes: Any) -> tuple[Trained, Trained]:
    """Joint energies over pairs of states one step and four steps apart."""
    return joint(buffer, seed, 1, **changes), joint(buffer, seed, 4, **changes)


def feed_forward(buffer: RolloutBuffer, seed: int, quick: bool = False) -> Trained:
    settings = BaselineSettings(hidden=(256, 256), updates=3000 if quick else 6000, seed=seed)
    model = fit_baseline(buffer, settings, progress=False)
    return Trained(model, model.training.seconds, "feed-forward")


def ensemble(
    buffer: RolloutBuffer,
    seed: int,
    quick: bool = False,
    *,
    hidden: tuple[int, ...] = (128, 128),
    updates: int = 4000,
) -> Trained:
    updates = updates // 2 if quick else updates
    model = fit_baseline(
        buffer, BaselineSettings("ensemble", hidden=hidden, updates=updates, seed=seed), progress=False
    )
    return Trained(model, model.training.seconds, "ensemble of 5")


def costs_of(problem: Problem, trained: Trained, boxes: np.ndarray | None = None) -> list[Energy]:
    """The costs of a plan, the same for plans over actions and over states and actions."""
    costs = [problem.goal_cost(trained.model.layout)]
    if boxes is not None:
        costs.append(box_cost(trained.model.normalizer, boxes))
    return costs


def energy_method(
    problem: Problem,
    trained: Trained,
    *,
    horizon: int = 12,
    chains: int = 2,
    seed: int = 0,
    engine: Engine = "auto",
    steps: int = 80,
    step_size: float = 0.1,
) -> Method:
    """Planning by Langevin dynamics over states and actions."""
    space = problem.action_space
    planner = planner_for(
        trained.model,
        costs_of(problem, trained),
        horizon,
        sampler=Langevin(steps, Linear(step_size, 0.01), noise=0.0, adapt="rms", engine=engine),
        action_space=space,
        chains=chains,
    )
    agent = MPCAgent(planner, trained.model.normalizer, space, seed=seed)
    return Method("Langevin, states and actions", [trained], agent)


def search_method(
    problem: Problem,
    trained: Trained,
    search: Search,
    *,
    boxes: np.ndarray | None = None,
    horizon: int = 10,
    chains: int = 1,
    seed: int = 0,
) -> Method:
    """Planning by a search over actions, with a baseline's model or an energy's own base measure."""
    space, costs = problem.action_space, costs_of(problem, trained, boxes)
    given: dict[str, Any] = {"sampler": search.sampler, "action_space": space, "chains": chains}
    planner = (
        planner_for(trained.model, costs, horizon, shooting=True, **given)
        if isinstance(trained.model, TrajectoryModel)
        else planner_for(trained.model, costs, horizon, **given)
    )
    agent = MPCAgent(planner, trained.model.normalizer, space, seed=seed)
    return Method(f"{search.name}, actions", [trained], agent)


def largest_displacement(env: Any, normalizer: Normalizer) -> torch.Tensor:
    """Displacement `(obs_dim,)` of a point by the largest action, in the units of the trajectory."""
    return (torch.as_tensor(env.action_space.high).double() / normalizer.obs_std).float()


def states_planner(
    model: TrajectoryModel,
    problem: Problem,
    limit: torch.Tensor,
    box: Energy | None = None,
    goal: float = 20.0,
    steps: float = 1.0,
) -> Planner:
    """Planning by Langevin dynamics over states only, with displacements within `limit`, such as those of actions.

    `steps` scales Langevin's step sizes; a hard limit is satisfied only up to the last step size.
    """
    scale = tuple((4 * steps * limit).tolist())
    sampler = Langevin(30, Linear(0.1, 0.01), noise=0.0, adapt="rms", scale=scale)
    costs: list[Energy] = [
        goal * GoalCost(model.layout, problem.goal_index, norm=problem.norm, smooth=0.02),
        1e4 * SpeedCost(model.layout, limit),
    ]
    costs += [] if box is None else [box]
    return Planner(
        model.energy,
        sampler,
        10,
        costs,
        layout=model.layout,
        weight=3.0,
        chains=2,
        first=replace(sampler, steps=90),
        spread=1.5 * limit,
    )


def learned(buffer: RolloutBuffer, model: TrajectoryModel, seed: int) -> InverseDynamics:
    """Inverse dynamics by a network."""
    batches = transitions(buffer, model, seed)
    torch.manual_seed(seed)
    inverse = LearnedInverse(model.layout, model.energy.displacement_scale)
    inverse.fit(batches, 2000)
    return inverse


def least_squares(buffer: RolloutBuffer, model: TrajectoryModel, seed: int) -> InverseDynamics:
    """Inverse dynamics that are linear in their features, by recursive least squares."""
    layout, batches = model.layout, transitions(buffer, model, seed)
    inverse = RecursiveLeastSquares(layout, model.energy.displacement_scale)
    for _ in range(8):
        x = next(batches).x
        states = layout.states(x)
        inverse.update(states[:, 0], layout.actions(x)[:, 0], states[:, 1])
    return inverse


def transitions(buffer: RolloutBuffer, model: TrajectoryModel, seed: int) -> Iterator[Batch]:
    """Batches of transitions with their actions, which energies over states only do not use."""
    plain = TrajectoryModel.create(ModelSettings(), model.normalizer, model.energy.displacement_scale)
    return batches_for(buffer, plain, 256, seed)


COARSE_TO_FINE = "coarse to fine, closed form"


def guided_method(
    problem: Problem,
    fine: Trained,
    coarse: Trained | None,
    buffer: RolloutBuffer,
    planner: str = COARSE_TO_FINE,
    *,
    inverse: Callable[[RolloutBuffer, TrajectoryModel, int], InverseDynamics] | None = None,
    boxes: np.ndarray | None = None,
    quantile: float = 0.85,
    goal: float = 40.0,
    seed: int = 0,
) -> Method:
    """Coarse to fine: a roadmap of data states under the coarse energy, Langevin over states under the fine one.

    Without a coarse energy there is no roadmap; without `inverse`, actions are from the environment's closed-form
    inverse dynamics. `goal` weighs the goal's cost, twice that of the searches: near walls the energy opposes it.
    """
    env: Any = problem.make()
    normalizer, space = fine.model.normalizer, env.action_space
    limit = largest_displacement(env, normalizer)
    box = None if boxes is None else box_cost(normalizer, boxes)
    plans: Any = states_planner(fine.model, problem, limit, box, goal=goal)
    if coarse is not None:
        sight = coarse.model.energy
        assert isinstance(sight, TransitionEnergy)
        count = len(buffer.observations)
        pick = np.random.default_rng(seed).choice(count, min(count, 1500), replace=False)
        nodes = normalizer.normalize_observations(torch.from_numpy(buffer.observations[pick])).float()
        sees = LineOfSight.of_data(sight, nodes, quantile, cost=box)
        plans = Guided(plans, Roadmap(sees, nodes), sees, reached=1.5)
    actions: InverseDynamics = (
        ClosedForm(
            env.unwrapped.inverse_dynamics, normalizer.denormalize_observations, normalizer.normalize_actions
        )
        if inverse is None
        else inverse(buffer, fine.model, seed)
    )
    agent = MPCAgent(plans, normalizer, space, inverse_dynamics=actions, seed=seed)
    return Method(planner, [fine] if coarse is None else [fine, coarse], agent)
