"""The contenders: the default planner, and first-order plans as they were before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm_control.control import planner_for
from ebm_control.energies import Energy
from ebm_control.planning import MPCAgent
from ebm_control.samplers.engines import Engine
from experiments.planning.methods import Trained, energy_method
from experiments.planning.problems import ARM, PARTICLE, REACHER, Problem

DEFAULT, COMPILED, EAGER = "default", "first-order, compiled", "first-order, eager"

# Horizon and first-order settings of each problem: those of the preset "langevin" on Reacher, else the experiments'.
HORIZONS = {REACHER.name: 15, PARTICLE.name: 12, ARM.name: 15}
FIRST_ORDER: dict[str, dict[str, Any]] = {
    REACHER.name: {"steps": 80, "step_size": 0.1, "chains": 4},
    PARTICLE.name: {"steps": 80, "step_size": 0.1, "chains": 2},
    ARM.name: {"steps": 60, "step_size": 0.2, "chains": 4},
}


class ByAutograd(Energy):
    """The same energy with gradients by automatic differentiation, whatever its parts have written out.

    It has no `value_and_gradient` of its own, so it has that of `Energy`, which differentiates `forward`. Compiled
    steps differentiate `forward` in any case.
    """

    def __init__(self, energy: Energy) -> None:
        super().__init__()
        self.energy = energy

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.energy(x, context)


def default_agent(problem: Problem, model: Any, horizon: int | None = None, seed: int = 0) -> MPCAgent:
    """The planner that a user gets who names no sampler."""
    space, horizon = problem.action_space, horizon or HORIZONS[problem.name]
    planner = planner_for(model, problem.goal_cost(model.layout), horizon, action_space=space)
    return MPCAgent(planner, model.normalizer, space, seed=seed)


def first_order_agent(problem: Problem, trained: Trained, engine: Engine, seed: int = 0) -> MPCAgent:
    """Langevin descent over states and actions by automatic differentiation."""
    if engine == "compile":
        # As in a new process: otherwise the compiler makes the shapes of a second problem symbolic, and gives up after
        # eight problems.
        torch.compiler.reset()
    settings = FIRST_ORDER[problem.name] | {"horizon": HORIZONS[problem.name]}
    agent = energy_method(problem, trained, engine=engine, seed=seed, **settings).agent
    planner: Any = agent.planner
    planner.energy = ByAutograd(planner.energy)
    return agent


def finite(plan: Any) -> bool:
    """Whether states, actions and energies of all plans are finite."""
    return all(bool(torch.isfinite(part).all()) for part in (plan.states, plan.actions, plan.energy))
