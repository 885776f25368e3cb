"""Goals behind walls from data alone: a random walk, then unseen goals, with and without routes.

Every method plans by the same second-order steps. The feed-forward network is the energy's base without the tilt. The
guide is a roadmap with an energy of positions as collision checker, or one with cells that the data visited.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm_control import GuideSettings, RolloutBuffer, collect, fit, fit_guide, make_agent
from ebm_control.data import Normalizer
from ebm_control.energies import TrajectoryLayout
from ebm_control.models import ModelSettings, TrainSettings, TrajectoryModel
from ebm_control.planning import AnyPlanner, Guided, LineOfSight, Planner, Roadmap
from ebm_control.seeds import stream
from experiments.mujoco.methods import Job, Method, Row, dt_ms, evaluated

POSITION = (0, 1)
WORKERS = 8
HELD = 10  # mean number of steps for which the walk holds an action
HORIZON = 15
CELL = 0.1  # in metres
NODES = 800
UPDATES = 50  # of the tilt

Routes = Callable[[RolloutBuffer, TrajectoryModel, Planner, int], AnyPlanner]


class RandomWalk:
    """Random actions, each held for a random number of steps: white noise would hardly move a mass.

    Args:
        count: number of environments.
        seed: seed of all actions.

    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.rng = count, stream(seed, "random walk")
        self.actions: NDArray[np.float64] | None = None

    def __call__(self, observation: Any) -> NDArray[np.float64]:
        fresh = self.rng.uniform(-1, 1, (self.count, 2))
        change = self.rng.random((self.count, 1)) < 1 / HELD
        self.actions = fresh if self.actions is None else np.where(change, fresh, self.actions)
        return self.actions


class VisitedCells:
    """A collision checker that learns nothing: 0 where both states lie in cells that the data visited, otherwise 1.

    Args:
        data: rollouts.
        index: coordinates of a position.
        normalizer: units of the states.

    Attributes:
        centres: `(M, G)` centres of the visited cells, in the units of the trajectory.

    """

    window = 2

    def __init__(self, data: RolloutBuffer, index: Sequence[int], normalizer: Normalizer) -> None:
        pick = list(index)
        self.layout = TrajectoryLayout(len(pick))
        self.mean, self.std = normalizer.obs_mean[pick], normalizer.obs_std[pick]
        self.displacement_scale = (2 * CELL / self.std).float()
        cells = np.unique(np.floor(data.observations[:, pick] / CELL).astype(int), axis=0)
        self.low = torch.from_numpy(cells.min(axis=0))
        self.visited = torch.zeros(
            tuple((cells.max(axis=0) - cells.min(axis=0) + 1).tolist()), dtype=torch.bool
        )
        self.visited[tuple(torch.from_numpy(cells.T) - self.low[:, None])] = True
        self.centres = ((torch.from_numpy((cells + 0.5) * CELL) - self.mean) / self.std).float()

    def __call__(self, x: Tensor) -> Tensor:
        """Energies `(B,)` of pairs `(B, 2, G)`."""
        cell = torch.floor((x * self.std + self.mean) / CELL).long() - self.low
        size = torch.tensor(self.visited.shape)
        within = ((cell >= 0) & (cell < size)).all(dim=-1)
        known = self.visited[tuple(cell.clamp_min(0).minimum(size - 1).unbind(dim=-1))] & within
        return 1.0 - known.all(dim=1).float()


def by_energy(data: RolloutBuffer, model: TrajectoryModel, planner: Planner, seed: int) -> AnyPlanner:
    return fit_guide(data, POSITION, seed=seed, progress=False).around(planner, model.normalizer)


def by_cells(data: RolloutBuffer, model: TrajectoryModel, planner: Planner, seed: int) -> AnyPlanner:
    cells = VisitedCells(data, POSITION, model.normalizer)
    sight = LineOfSight(cells, threshold=0.5)
    pick = stream(seed, "nodes").permutation(len(cells.centres))[:NODES]
    roadmap, patience = Roadmap(sight, cells.centres[pick]), GuideSettings().patience
    return Guided(planner, roadmap, sight, index=POSITION, patience=patience)


def straight(data: RolloutBuffer, model: TrajectoryModel, planner: Planner, seed: int) -> AnyPlanner:
    return planner


@dataclass(frozen=True)
class FromData:
    """A method of the offline part.

    Attributes:
        routes: wraps the planner.
        tilted: whether the energy has a tilt; without one it is a feed-forward network.
        base_updates: regression updates.

    """

    routes: Routes
    tilted: bool = True
    base_updates: int = 2000

    def __call__(self, job: Job) -> list[Row]:
        """Collect, fit and evaluate."""
        began = time.perf_counter()
        data = collect(
            job.problem.make,
            job.steps,
            policy=RandomWalk(WORKERS, job.seed),
            num_envs=WORKERS,
            seed=job.seed,
            progress=False,
        )
        collected = time.perf_counter()
        form = ModelSettings(hidden=(64, 64), base_hidden=(128, 128))
        settings = TrainSettings(form, updates=UPDATES, base_updates=self.base_updates, seed=job.seed)
        model = fit(data, settings, progress=False)
        if not self.tilted:
            with torch.no_grad():
                for weights in model.energy.network.parameters():
                    weights.zero_()
        env = job.problem.make()
        agent = make_agent(model, env, horizon=HORIZON, seed=job.seed)
        env.close()
        assert isinstance(agent.planner, Planner)
        agent.planner = self.routes(data, model, agent.planner, job.seed)
        learned = time.perf_counter()
        row = evaluated(agent, job.problem, job.seed, job.episodes)
        return [
            row
            | {
                "collecting_seconds": collected - began,
                "learning_seconds": learned - collected,
                "dt_ms": dt_ms(job.problem),
            }
        ]


_MAZES = ("PointMaze_UMaze-v3", "PointMaze_Medium-v3")
_method = partial(Method, problems=_MAZES, factor=2, part="offline")  # 100,000 steps
METHODS = (
    _method("energy", FromData(by_energy)),
    _method("energy, no guide", FromData(straight)),
    _method("feed-forward", FromData(by_energy, tilted=False)),
    _method("feed-forward, no guide", FromData(straight, tilted=False)),
    _method("feed-forward, visited cells", FromData(by_cells, tilted=False)),
)
