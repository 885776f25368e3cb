"""Diversity of plans: in how many problems are there valid plans of both homotopy classes?

A plan counts only if it is valid in the true environment: its actions, executed open loop, end within 0.1 (L1) of the
goal without a blocked move. Its class is that of the true path.

`python -m experiments.planning.diversity [--problems N] [--seeds S] [--out DIR]` writes `DIR/diversity.json` after
every run; `--resume` continues a stopped one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import require_number
from ebm_control.control.planner import action_bounds
from ebm_control.data import MujocoSimulator
from ebm_control.energies import (
    BoundCost,
    BoxObstacle,
    Energy,
    RegressionBase,
    SmoothnessCost,
    TransitionEnergy,
)
from ebm_control.models import TrajectoryModel
from ebm_control.planning import Planner, side_of, winding
from ebm_control.samplers import Langevin, Linear
from ebm_envs.point import segments_blocked
from ebm_envs.reacher import observe, physical_state
from experiments import tables
from experiments.planning.methods import energy
from experiments.planning.problems import data_of, obstacle
from experiments.planning.rows import Row
from experiments.processes import as_program
from experiments.runs import Experiment, Runs, carry_out
from experiments.tables import Columns

TOLERANCE = 0.1
CHAINS = 32
# Weight of the energy, Langevin steps, step sizes: first loose, for the way to the goal, then stiff, for the dynamics.
STAGES = ((10.0, 60, Linear(0.1, 0.03)), (100.0, 60, Linear(0.03, 0.002)))


def annealed(
    model: TrajectoryModel,
    costs: Sequence[Energy],
    horizon: int,
    space: gym.spaces.Box,
    start: Tensor,
    goal: Tensor,
    *,
    spread: Tensor,
    windings: bool = False,
    seed: int = 0,
) -> Tensor:
    """Chains `(N, K, T, D)` from each start `(N, obs_dim)` to its goal, both fixed; all in normalised units."""
    layout, base = model.layout, model.energy.base
    assert isinstance(model.energy, TransitionEnergy)
    assert isinstance(base, RegressionBase)
    scale = (*(4 * model.energy.displacement_scale).tolist(), *[1.0] * layout.act_dim)
    clamp = action_bounds(model.normalizer, layout, space)
    generator, chains = torch.Generator().manual_seed(seed), None
    for weight, steps, sizes in STAGES:
        sampler = Langevin(steps, sizes, noise=0.0, adapt="rms", scale=scale, clamp=clamp)
        planner = Planner(
            model.energy,
            sampler,
            horizon,
            costs,
            layout=layout,
            weight=weight * float(base.std.square().amin()),
            chains=CHAINS,
            goal_index=range(goal.shape[1]),
            fix_goal=True,
            windings=windings,
            spread=spread,
        )
        chains = planner.plan(start, goal, initial=chains, generator=generator).chains
    assert chains is not None
    return chains


def particle_paths(
    actions: NDArray[Any], problem: dict[str, Any], env: Any
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """True paths `(K, T, 2)` of open-loop actions `(K, T-1, 2)`, and whether each is valid `(K,)`."""
    env.reset(options=problem)
    path, blocked = [np.tile(problem["start"], (len(actions), 1))], np.zeros(len(actions), dtype=bool)
    for t in range(actions.shape[1]):
        aim = np.clip(path[-1] + actions[:, t].clip(-env.max_action, env.max_action), -1, 1)
        blocked |= segments_blocked(path[-1], aim, env.boxes)
        path.append(env.dynamics(path[-1], actions[:, t]))
    reached = np.abs(path[-1] - problem["goal"]).sum(-1) < TOLERANCE
    return np.stack(path, axis=1), reached & ~blocked


def particle(model: TrajectoryModel, problems: int, seed: int) -> NDArray[np.bool_]:
    """Mask `(problems,)` of problems with valid plans on both sides of the box."""
    env: Any = gym.make("ebm/Particle-v0").unwrapped
    found = []
    for block in np.array_split(np.arange(problems), max(1, problems // 5)):
        posed = [obstacle(1000 * seed + int(i)) for i in block]
        chains = round_boxes(model, posed, env.action_space, seed)
        found += [
            set(sides(model, plans, one, env)) >= {1, -1} for plans, one in zip(chains, posed, strict=True)
        ]
    return np.array(found)


def box_of(model: TrajectoryModel, posed: Sequence[dict[str, Any]]) -> Energy:
    """The boxes of N problems as a cost."""
    boxes = torch.from_numpy(np.array([problem["obstacles"] for problem in posed]))
    scaled = model.normalizer.normalize_observations(boxes).float()
    return 400 * BoxObstacle(scaled, (0, 1), margin=float(0.03 / model.normalizer.obs_std.max()))


def round_boxes(
    model: TrajectoryModel, posed: Sequence[dict[str, Any]], space: gym.spaces.Box, seed: int
) -> Tensor:
    """Plans `(N, K, T, D)` of N problems on the plane, in normalised units."""
    scaled, std = model.normalizer.normalize_observations, model.normalizer.obs_std
    edge = torch.tensor([0.97, 0.97], dtype=torch.float64)
    start, goal = (
        scaled(torch.from_numpy(np.array([problem[name] for problem in posed]))).float()
        for name in ("start", "goal")
    )
    costs = [box_of(model, posed), 100 * BoundCost(scaled(-edge).float(), scaled(edge).float(), (0, 1))]
    spread = torch.cat([0.4 / std, torch.ones(2)]).float()
    return annealed(model, costs, 45, space, start, goal, spread=spread, seed=seed)


def sides(model: TrajectoryModel, plans: Tensor, problem: dict[str, Any], env: Any) -> NDArray[np.int64]:
    """The side `(K,)` on which the true path of each plan `(K, T, D)` passes the box; 0 for invalid plans."""
    actions = model.normalizer.denormalize_actions(model.layout.actions(plans)[:, :-1]).double().numpy()
    paths, valid = particle_paths(actions, problem, env)
    middle = np.mean(problem["obstacles"][0], axis=0)
    return np.where(valid, side_of(torch.from_numpy(paths), torch.from_numpy(middle)).numpy(), 0)


def reacher(model: TrajectoryModel, problems: int, seed: int, horizon: int = 50) -> NDArray[np.bool_]:
    """Mask `(problems,)` of problems with valid plans for both directions of the shoulder."""
    env: Any = gym.make("ebm/Reacher-v0")
    normalizer, layout = model.normalizer, model.layout
    rng = np.random.default_rng(7000 + seed)
    start = np.concatenate([rng.uniform(-1, 1, (problems, 2)), np.zeros((problems, 2))], axis=1)
    goal = rng.uniform(-1, 1, (problems, 2))
    spread = torch.cat([1.5 * model.energy.displacement_scale, torch.ones(2)])
    costs = [0.01 * SmoothnessCost(layout, order=1, of="actions")]
    found = []
    with MujocoSimulator(env, threads=1) as simulator:
        for block in np.array_split(np.arange(problems), max(1, problems // 5)):
            begin = normalizer.normalize_observations(torch.from_numpy(start[block])).float()
            end = torch.from_numpy(goal[block]).float()  # angles / π need no normalisation
            chains = annealed(
                model, costs, horizon, env.action_space, begin, end, spread=spread, windings=True, seed=seed
            )
            actions = normalizer.denormalize_actions(layout.actions(chains)[:, :, :-1]).flatten(0, 1)
            qpos, qvel = physical_state(start[block].repeat(CHAINS, axis=0))
            paths = torch.from_numpy(
                observe(*simulator.rollout(simulator.states(qpos, qvel), actions.numpy()))
            )
            away = layout.difference(
                paths[:, -1],
                torch.from_numpy(np.pad(goal, ((0, 0), (0, 2))))[block].repeat_interleave(CHAINS, 0),
            )
            valid = away[:, :2].abs().sum(dim=1) < TOLERANCE
            turn = torch.where(valid, winding(layout, paths, 0), 0).unflatten(0, (len(block), CHAINS))
            found.append(((turn > 0).any(dim=1) & (turn < 0).any(dim=1)).numpy())
    return np.concatenate(found)


@dataclass
class Diversity(Runs):
    """Both environments; quick: one seed, half the training."""

    seeds: int = 5
    """Trainings and sets of problems."""
    problems: int = 20
    """Problems per seed and environment."""


@dataclass(frozen=True)
class Job:
    """A training and its problems, in both environments."""

    problems: int
    seed: int
    quick: bool

    @property
    def name(self) -> str:
        return f"{self.problems} problems"


def diversity(job: Job) -> list[Row]:
    """One row per environment: the share of problems with valid plans of both classes.

    `seconds` is the time of planning and checking; `quick` trains for half as long.
    """
    problems, seed = job.problems, job.seed
    rows = []
    for name, solve, updates in (("Particle", particle, 3000), ("Reacher", reacher, 6000)):
        base_updates = updates // 2 if job.quick else updates
        model = energy(data_of(f"ebm/{name}-v0", seed), seed, base_updates=base_updates).model
        began = time.perf_counter()
        found = solve(model, problems, seed)
        rows.append(
            {
                "env": name,
                "method": "EBM",
                "planner": "langevin, states and actions",
                "measure": "both homotopy classes",
                "problems": problems,
                "share": float(found.mean()),
                "seed": seed,
                "chains": CHAINS,
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
    return rows


def summarised(rows: list[Row]) -> list[Row]:
    """One row per environment: shares over all seeds together, and for each seed."""
    return tables.summarised(
        rows, ("env", "method", "planner", "measure"), ("share",), ("share",), of="problems"
    )


COLUMNS = Columns(
    "Diversity of plans",
    {
        "problem": "env",
        "both classes": lambda row: f"{row['share']:.2f}",
        "worst seed": lambda row: f"{min(row['share_by_seed']):.2f}",
        "problems": "problems",
        "seeds": "seeds",
    },
)


def main() -> None:
    settings = tyro.cli(Diversity)
    require_number("problems", settings.problems, 1, whole=True)
    jobs = [Job(settings.problems, seed, settings.quick) for seed in settings.seed_range]
    flags = f" --problems {settings.problems}"
    experiment = Experiment(
        "planning.diversity",
        jobs,
        diversity,
        summarised,
        COLUMNS.table,
        flags,
        record="diversity.json",
        alike=("--problems",),
    )
    carry_out(settings, experiment)


if __name__ == "__main__":
    as_program(main)
