"""The searches of other libraries that `benchmarks.population` runs beside ours: each is their own code, if installed.

`pip install --no-deps stable-worldmodel==0.1.1 pytorch-mppi==0.9.1` and `pip install loguru arm-pytorch-utilities`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from ebm_control.energies import Energy

Search = Callable[[Tensor, int], Tensor]  # a start (obs_dim,) and a seed to actions (horizon, act_dim)


@dataclass(frozen=True)
class Problem:
    """What is searched: actions of the lowest energy within their bounds, from a start.

    Attributes:
        energy: energy of trajectories `(B, horizon + 1, D)`, whose states it predicts itself.
        step: next states and costs `(B,)` from states and actions, for searches that predict step by step.
        low: `(act_dim,)` lower bounds of the actions.
        high: `(act_dim,)` upper bounds.
        horizon: number of actions.
        iterations: iterations of a search.
        candidates: candidates per iteration.

    """

    energy: Energy
    step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    low: Tensor
    high: Tensor
    horizon: int
    iterations: int
    candidates: int

    def clamped(self, actions: Tensor) -> Tensor:
        """Actions within their bounds."""
        return torch.minimum(torch.maximum(actions, self.low), self.high)

    def paths(self, start: Tensor, actions: Tensor) -> Tensor:
        """Trajectories `(B, horizon + 1, D)` of one start under actions `(B, horizon, act_dim)`, states not yet set."""
        held = torch.cat([actions, actions[:, -1:]], dim=1)
        return torch.cat([start.expand(*held.shape[:2], -1), held], dim=-1)


def peers(problem: Problem) -> dict[str, Search]:
    """Searches by name; without those whose package is not installed.

    Each has its default settings, with noise of std 1 in normalised units, and the best of a sweep on other starts.
    """
    found: dict[str, Search] = {}
    if importlib.util.find_spec("stable_worldmodel") and importlib.util.find_spec("loguru"):
        name = f"stable-worldmodel {version('stable-worldmodel')}, MPPI"
        found[name] = worldmodel(problem)
        found[f"{name}, tuned"] = worldmodel(problem, **TUNED_WORLDMODEL)
    with contextlib.suppress(ImportError):
        importlib.import_module("pytorch_mppi")
        name = f"pytorch-mppi {version('pytorch-mppi')}"
        found[name] = pytorch(problem)
        found[f"{name}, tuned"] = pytorch(problem, **TUNED_PYTORCH)
    return found


TUNED_WORLDMODEL: dict[str, Any] = {"var_scale": 3.0, "temperature": 2.0, "topk": 12}
TUNED_PYTORCH: dict[str, Any] = {"std": 1.0, "temperature": 0.1}


def worldmodel(problem: Problem, **settings: Any) -> Search:
    """MPPI of stable-worldmodel. It has no bounds, so its candidates are clamped where they are evaluated."""
    solver = solver_module().MPPISolver

    class Model:
        def get_cost(self, info: dict[str, Tensor], candidates: Tensor) -> Tensor:
            actions = problem.clamped(candidates.flatten(0, 1))
            return problem.energy(problem.paths(info["state"][0, 0], actions)).reshape(candidates.shape[:2])

    def search(start: Tensor, seed: int) -> Tensor:
        made = solver(
            Model(), num_samples=problem.candidates, n_steps=problem.iterations, seed=seed, **settings
        )
        config = SimpleNamespace(horizon=problem.horizon, action_block=1)
        space = Box(-np.inf, np.inf, (1, len(problem.low)))
        made.configure(action_space=space, n_envs=1, config=config)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its time
            return made.solve({"state": start[None]})["actions"][0]

    return search


def solver_module() -> ModuleType:
    """The module of the solver; the package itself imports its environments and data sets, which are not needed."""
    for name in ("stable_worldmodel", "stable_worldmodel.solver"):
        if name not in sys.modules:
            spec = importlib.util.find_spec(name)
            assert spec is not None
            package = ModuleType(name)
            package.__path__ = list(spec.submodule_search_locations or ())
            package.__spec__ = spec
            sys.modules[name] = package
    return importlib.import_module("stable_worldmodel.solver.mppi")


def pytorch(problem: Problem, std: float = 1.0, temperature: float = 1.0) -> Search:
    """MPPI of pytorch-mppi, with its plan begun at rest as all others; its `command` is one iteration."""
    planner = importlib.import_module("pytorch_mppi").MPPI
    width = len(problem.low)

    def search(start: Tensor, seed: int) -> Tensor:
        last: list[Tensor] = []  # the cost of a step, which is asked for right after its dynamics

        def dynamics(state: Tensor, action: Tensor) -> Tensor:
            after, cost = problem.step(state, action)
            last[:] = [cost]
            return after

        with torch.random.fork_rng():  # it draws from the global generator
            torch.manual_seed(seed)
            made = planner(
                dynamics,
                lambda state, action: last[0],
                len(start),
                std**2 * torch.eye(width),
                num_samples=problem.candidates,
                horizon=problem.horizon,
                lambda_=temperature,
                u_min=problem.low,
                u_max=problem.high,
                U_init=torch.zeros(problem.horizon, width),
            )
            for _ in range(problem.iterations):
                made.command(start, shift_nominal_trajectory=False)
        return made.get_action_sequence()

    return search
