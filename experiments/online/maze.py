"""The maze from scratch: explore at the frontier, then plan to either goal with the collected experience.

Exploration has no episodes: it continues from the current state. Once no place is new, it takes phases of random
actions in the least visited places, since an energy of pairs of states needs steps of all directions and lengths
everywhere. Energies of pairs, over which routes are planned, are fitted to the experience at each checkpoint; dynamics
models search over actions, as in the planning table.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ebm_control.online import OnlineLearning
from experiments.online.exploration import explorer, frontier, place_of
from experiments.online.methods import ENERGY, Method
from experiments.planning import methods as m
from experiments.planning.problems import MAZES
from experiments.planning.rows import episodes

Row = dict[str, Any]
CHECKPOINTS = (20_000, 50_000)
SPELL = 200  # random steps per phase
QUANTILE = 0.92  # of the data's energies, the limit for lines; few states are near walls


def maze(method: Method, seed: int, quick: bool) -> list[Row]:
    """One row per checkpoint and goal."""
    place = place_of("maze")
    checkpoints = (1500,) if quick else CHECKPOINTS
    learning = explorer(place, method, seed, checkpoints[-1], frontier(place, seed, SPELL), replan_every=3)
    rows: list[Row] = []
    for checkpoint in checkpoints:
        began = time.perf_counter()
        learning.run(checkpoint)
        exploring = time.perf_counter() - began
        for row in found(method, learning, seed):
            rows.append(row | {"checkpoint": checkpoint, "explore_seconds": exploring})
            print(rows[-1], flush=True)
    return rows


def found(method: Method, learning: OnlineLearning, seed: int) -> list[Row]:
    """Rows of both goals, from the current experience."""
    began = time.perf_counter()
    data = learning.experience.data
    pair = m.fine_and_coarse(data, seed) if method.model == ENERGY.model else None
    rows = []
    for problem in MAZES:
        planned = (
            m.search_method(problem, m.Trained(learning.model, 0.0), m.BY_MPPI, horizon=25, seed=seed)
            if pair is None
            else m.guided_method(problem, *pair, data, quantile=QUANTILE, seed=seed)
        )
        outcome = episodes(problem, planned.agent, 1, seed)
        rows.append(
            {
                "part": "maze",
                "env": problem.name,
                "method": method.name,
                "seed": seed,
                "episodes": 1,
                "env_steps": learning.progress.step,
                "return": float(np.mean(outcome["returns"])),
                "oracle": outcome["oracle"],
                "success": float(np.mean(outcome["solved"])),
                "transitions_fitted": len(data),
                "train_seconds": time.perf_counter() - began,
            }
        )
    return rows
