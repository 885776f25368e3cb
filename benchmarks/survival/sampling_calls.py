"""Valid calls for fuzzing: costs and samplers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.survival.calls import SPACE
from benchmarks.survival.fuzz import Call
from benchmarks.survival.material import trajectory_model
from ebm_control.control import planner_for
from ebm_control.energies import BoundCost, BoxObstacle, GoalCost, SmoothnessCost, SpeedCost
from ebm_control.energies.base import Energy
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.samplers import CEM, HMC, MALA, MPPI, Annealed, Langevin, ProbabilityFlow, noise_levels

Given = Mapping[str, Any]
LAYOUT = TrajectoryLayout(3, 2)


class Bowl(Energy):
    """Half the squared length: a standard normal."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return 0.5 * x.flatten(1).square().sum(dim=1)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _trajectories() -> Tensor:
    return torch.randn(4, 5, 5, generator=_generator())


def _goal(**given: Any) -> Any:
    cost = GoalCost(LAYOUT, given["index"], norm=given["norm"], smooth=given["smooth"])
    cost.set_goal(given["goal"])
    return cost(_trajectories())


def _box(boxes: Any, index: Any, margin: Any, between: Any) -> Any:
    return _inside(BoxObstacle(boxes, index, margin=margin, between=between))


def _inside(cost: Energy) -> Any:
    """Values of a cost after it was used in a planner, where its coordinates are checked against the energy."""
    model = trajectory_model()
    planner_for(model, cost, 2, sampler="mppi", action_space=SPACE).plan(torch.zeros(1, 3))
    return cost(_trajectories())


def _a_cost(value: Tensor, given: Given) -> bool:
    return value.shape == (4,)


COSTS = (
    Call(
        "GoalCost",
        _goal,
        {"index": "index", "norm": "choice", "smooth": "number", "goal": "tensor"},
        lambda: {"index": (0, 1), "norm": "l1", "smooth": 0.1, "goal": torch.tensor([0.5, 0.25])},
        _a_cost,
        exact=True,
    ),
    Call(
        "SmoothnessCost",
        lambda **given: SmoothnessCost(LAYOUT, **given)(_trajectories()),
        {"order": "count", "of": "choice"},
        lambda: {"order": 1, "of": "states"},
        _a_cost,
    ),
    Call(
        "BoxObstacle",
        _box,
        {"boxes": "bounds", "index": "index", "margin": "number", "between": "count"},
        lambda: {
            "boxes": torch.tensor([[[-1.0, -1.0], [0.5, 0.5]]]),
            "index": (0, 1),
            "margin": 0.1,
            "between": 3,
        },
        _a_cost,
        exact=True,
    ),
    Call(
        "BoundCost",
        lambda **given: _inside(BoundCost(**given)),
        {"low": "bounds", "high": "bounds", "index": "index"},
        lambda: {"low": torch.tensor([-0.5, -0.5]), "high": torch.tensor([0.5, 0.5]), "index": (0, 1)},
        _a_cost,
        exact=True,
    ),
    Call(
        "SpeedCost",
        lambda limit: SpeedCost(LAYOUT, limit)(_trajectories()),
        {"limit": "bounds"},
        lambda: {"limit": torch.full((3,), 0.5)},
        _a_cost,
        exact=True,
    ),
)


def _sampler(kind: type, roles: dict[str, str], valid: dict[str, Any]) -> Call:
    """A call that builds a sampler and runs it."""

    def drawn(x: Any, trace: Any, **given: Any) -> Any:
        return kind(**given)(Bowl(), x, trace=trace, generator=_generator()).x

    return Call(
        kind.__name__,
        drawn,
        {**roles, "x": "tensor", "trace": "count"},
        lambda: {**valid, "x": torch.zeros(3, 2), "trace": 0},
        lambda value, given: value.shape == np.shape(given["x"]),
    )


LANGEVIN = dict.fromkeys(
    ("noise", "friction", "gradient_clip", "delta_clip", "temperature", "step_size"), "number?"
)
SAMPLERS = (
    _sampler(
        Langevin,
        {"steps": "count", "adapt": "choice", **LANGEVIN},
        {"steps": 3, "adapt": "none", "step_size": 0.1, "temperature": 1.0}
        | dict.fromkeys(("noise", "friction", "gradient_clip", "delta_clip"), 0.5),
    ),
    _sampler(MALA, {"steps": "count", "step_size": "number"}, {"steps": 3, "step_size": 0.1}),
    _sampler(
        HMC,
        {"steps": "count", "step_size": "number", "leapfrog": "count", "temperature": "number"},
        {"steps": 3, "step_size": 0.1, "leapfrog": 2, "temperature": 1.0},
    ),
    _sampler(
        MPPI,
        {"steps": "count", "candidates": "count", "noise": "number", "temperature": "number"},
        {"steps": 2, "candidates": 8, "noise": 0.3, "temperature": 0.1},
    ),
    _sampler(
        CEM,
        {"steps": "count", "candidates": "count", "elites": "count", "noise": "number"},
        {"steps": 2, "candidates": 8, "elites": 2, "noise": 0.3},
    ),
    Call(
        "Annealed",
        lambda **given: Annealed(**given),
        {"levels": "array", "steps": "count", "rate": "number", "temperature": "number"},
        lambda: {"levels": np.array([1.0, 0.5]), "steps": 1, "rate": 0.3, "temperature": 1.0},
    ),
    Call(
        "ProbabilityFlow",
        lambda **given: ProbabilityFlow(**given),
        {"levels": "array", "eta": "number", "std": "number"},
        lambda: {"levels": np.array([1.0, 0.5]), "eta": 0.5, "std": 1.0},
    ),
    Call(
        "noise_levels",
        noise_levels,
        {"low": "number", "high": "number", "count": "count"},
        lambda: {"low": 0.1, "high": 2.0, "count": 4},
        lambda value, given: len(value) == given["count"],
    ),
)
