"""Population-based searches beside those of other libraries: plan energy and time at equal evaluations.

`python -m benchmarks.population [--quick] [--seeds N] [--out FILE]`. Plans of 15 steps for HalfCheetah over a
feed-forward model of random rollouts: control cost minus forward velocity, in the environment's units, so lower is
better. Every search evaluates 8 × 128 candidates from rest for the same starts and seeds, in turn, on one thread. Ours
also evaluates the energy of what it returns: one candidate more. Other libraries take part if they are installed, see
`benchmarks.searches`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.searches import Problem, Search, peers
from ebm_control import fit
from ebm_control.baselines import Baseline, BaselineSettings
from ebm_control.checks import require_number
from ebm_control.control.planner import action_bounds
from ebm_control.control.presets import PRESETS
from ebm_control.data import Normalizer, collect
from ebm_control.energies import Energy, TrajectoryLayout
from ebm_control.planning.shooting import RolledOut
from ebm_control.provenance import provenance, write_record
from ebm_control.samplers import CEM, MPPI
from experiments.processes import as_program
from experiments.records import claimed

ENV, VELOCITY, CONTROL = (
    "HalfCheetah-v5",
    8,
    0.1,
)  # the coordinate of the forward velocity; the weight of actions
HORIZON, ITERATIONS, CANDIDATES, STARTS = 15, 8, 128, 4
DATA_SEED, START_SEED = 1, 5000  # settings were chosen with other data and other starts
RESULT = Path(__file__).parent / "results" / "population.json"


class RunCost(Energy):
    """Control cost minus forward velocity, summed over the steps of normalised trajectories."""

    units: Tensor  # std and mean of the velocity
    gain: Tensor
    offset: Tensor

    def __init__(self, layout: TrajectoryLayout, normalizer: Normalizer) -> None:
        super().__init__()
        self.layout = layout
        rest, one = torch.zeros(1, layout.dim), torch.ones(1, layout.dim)
        (states, actions), (states_1, actions_1) = normalizer.denormalize(rest), normalizer.denormalize(one)
        std, mean = (states_1 - states)[0, VELOCITY], states[0, VELOCITY]
        self.register_buffer("units", torch.stack([std, mean]).float())
        self.register_buffer("gain", (actions_1 - actions)[0].float())
        self.register_buffer("offset", actions[0].float())

    def of_steps(self, states: Tensor, actions: Tensor) -> Tensor:
        """Costs `(...)` of actions that lead to states."""
        velocity = states[..., VELOCITY] * self.units[0] + self.units[1]
        return CONTROL * (actions * self.gain + self.offset).square().sum(dim=-1) - velocity

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        return self.of_steps(self.layout.states(x)[:, 1:], self.layout.actions(x)[:, :-1]).sum(dim=1)


def main(seeds: int = 8, quick: bool = False, out: Path | None = None) -> None:
    """Run all searches in turn for every start and seed.

    Args:
        seeds: seeds of the searches for each of the four starts.
        quick: a small model, one seed, nothing written unless `out` is set.
        out: file of the results; by default `benchmarks/results/population.json`.

    """
    require_number("seeds", seeds, 1, whole=True)
    path = out if quick else out or RESULT
    if path is None:
        measure(1, quick=True, path=None)
        return
    with claimed(path):
        measure(1 if quick else seeds, quick=quick, path=path)


@torch.no_grad()
def measure(seeds: int, *, quick: bool, path: Path | None) -> None:
    torch.set_num_threads(1)
    began = time.perf_counter()
    model = fitted(quick)
    problem = problem_of(model)
    theirs = peers(problem)
    if not theirs:
        Console().print("no other library is installed (see benchmarks/searches.py): ours alone")
    searches = ours(problem, model, compiled=not quick) | theirs
    rows = compared(problem, searches, starts(model.normalizer), range(seeds))
    figures = {name: summary(row) for name, row in rows.items()}
    results = {
        "iterations": ITERATIONS,
        "candidates": CANDIDATES,
        "horizon": HORIZON,
        "starts": STARTS,
        "searches": figures,
        "ratios": ratios(rows, tuple(theirs)),
    }
    show(figures, results["ratios"], seeds)
    if path is not None:
        command = " ".join(["python -m benchmarks.population", *sys.argv[1:]])
        write_record(path, results, provenance(command, range(seeds), time.perf_counter() - began))


@torch.enable_grad()
def fitted(quick: bool) -> Baseline:
    """The feed-forward model of random rollouts."""
    data = collect(ENV, 3000 if quick else 20_000, seed=DATA_SEED, progress=False)
    settings = BaselineSettings(seed=DATA_SEED, updates=200 if quick else None)
    return fit(data, settings, progress=False)


def problem_of(model: Baseline) -> Problem:
    cost, dynamics = RunCost(model.layout, model.normalizer), model.dynamics
    low, high = (torch.tensor(bound[model.layout.obs_dim :]) for bound in bounds(model))

    def step(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.cat([state, action], dim=-1)
        after = dynamics.move(rows, dynamics.network(dynamics.inputs(rows)))
        return after, cost.of_steps(after, action)

    energy = RolledOut(cost, dynamics).eval()
    return Problem(energy, step, low, high, HORIZON, ITERATIONS, CANDIDATES)


def bounds(model: Baseline) -> tuple[tuple[float, ...], tuple[float, ...]]:
    space = gym.make(ENV).action_space
    assert isinstance(space, gym.spaces.Box)
    return action_bounds(model.normalizer, model.layout, space)


def starts(normalizer: Normalizer) -> Tensor:
    """Normalised observations `(STARTS, obs_dim)` after 50 random steps."""
    env, seen = gym.make(ENV), []
    for i in range(STARTS):
        env.reset(seed=START_SEED + i)
        env.action_space.seed(START_SEED + i)
        seen.append([env.step(env.action_space.sample())[0] for _ in range(50)][-1])
    return normalizer.normalize_observations(torch.from_numpy(np.stack(seen))).float()


def ours(problem: Problem, model: Baseline, *, compiled: bool) -> dict[str, Search]:
    """Wide searches, each part of MPPI's left out in turn, and the presets of `planner_for`."""
    wide: dict[str, Any] = {"candidates": CANDIDATES, "smooth": False, "colour": 1.0, "free": True}
    mppi = MPPI(ITERATIONS, noise=2.0, temperature=0.5, elites=12, adapt=0.5, **wide)
    cem = CEM(ITERATIONS, noise=2.0, elites=8, **wide)
    presets = PRESETS["offline"].samplers
    assert isinstance(presets["mppi"], MPPI)
    assert isinstance(presets["cem"], CEM)
    samplers: dict[str, MPPI | CEM] = {
        "MPPI": mppi,
        "CEM": cem,
        "MPPI, 6 iterations": replace(mppi, steps=6),
        "MPPI, not free": replace(mppi, free=False),
        "MPPI, white noise": replace(mppi, colour=0.0),
        "MPPI, all candidates count": replace(mppi, elites=None),
        "MPPI, constant std": replace(mppi, adapt=0.0),
        "MPPI, std 1": replace(mppi, noise=1.0),
        "MPPI, preset": presets["mppi"],
        "CEM, preset": presets["cem"],
        "MPPI, clamped white noise": MPPI(
            ITERATIONS, candidates=CANDIDATES, noise=1.0, temperature=0.05, smooth=False
        ),
    }
    if compiled:
        samplers["MPPI, compiled"] = replace(mppi, engine="compile")
    clamp = bounds(model)
    return {name: our_search(problem, replace(sampler, clamp=clamp)) for name, sampler in samplers.items()}


def our_search(problem: Problem, sampler: MPPI | CEM) -> Search:
    width = len(problem.low)
    assert sampler.steps <= problem.iterations
    assert sampler.candidates == problem.candidates

    def search(start: Tensor, seed: int) -> Tensor:
        x = problem.paths(start, start.new_zeros(1, problem.horizon, width))
        fixed = torch.arange(x.shape[-1]) < len(start)
        chain = sampler(problem.energy, x, fixed=fixed, generator=torch.Generator().manual_seed(seed))
        return chain.x[0, :-1, len(start) :]

    return search


Rows = dict[str, list[dict[str, float]]]


def compared(problem: Problem, searches: dict[str, Search], states: Tensor, seeds: range) -> Rows:
    """Energy and processor time of every plan, for each search in the same order of starts and seeds."""
    for search in searches.values():  # warm-up: compiles, and fills the caches
        search(states[0], 0)
    rows: Rows = {name: [] for name in searches}
    for seed in seeds:
        for start in states:
            for name, search in searches.items():
                begun = time.process_time()  # not affected by what else the machine does
                actions = search(start, 1000 + seed)
                spent = time.process_time() - begun
                energy = float(problem.energy(problem.paths(start, problem.clamped(actions)[None])))
                rows[name].append({"seed": seed, "energy": energy, "ms": 1e3 * spent})
    return rows


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean energy, its std over seeds (each a mean over starts), and median time."""
    by_seed = [
        statistics.mean(row["energy"] for row in rows if row["seed"] == seed)
        for seed in sorted({row["seed"] for row in rows})
    ]
    figures = {
        "energy": statistics.mean(by_seed),
        "std": statistics.stdev(by_seed) if len(by_seed) > 1 else 0.0,
        "median_ms": statistics.median(row["ms"] for row in rows),
    }
    return {name: round(figure, 3) for name, figure in figures.items()}


def ratios(rows: Rows, theirs: tuple[str, ...]) -> dict[str, Any]:
    """Our MPPI and CEM against the best plans of another library.

    `energy_to_peer` is the difference of the mean energies, ours minus theirs: below 0 our plans are better.
    `time_to_peer` is the median of the ratios of times for the same start and seed: below 1 ours is faster.
    """
    if not theirs:
        return {}

    def mean(name: str) -> float:
        return statistics.mean(row["energy"] for row in rows[name])

    def faster(name: str, peer: str) -> float:
        pairs = zip(rows[name], rows[peer], strict=True)
        return statistics.median(mine["ms"] / other["ms"] for mine, other in pairs)

    best = min(theirs, key=mean)
    named: dict[str, Callable[[str], float]] = {
        "energy_to_peer": lambda name: mean(name) - mean(best),
        "time_to_peer": lambda name: faster(name, best),
    }
    mine = [name for name in ("MPPI", "CEM", "MPPI, 6 iterations", "MPPI, compiled") if name in rows]
    return {"peer": best} | {
        figure: {name: round(of(name), 3) for name in mine} for figure, of in named.items()
    }


def show(figures: dict[str, dict[str, float]], compared_with: dict[str, Any], seeds: int) -> None:
    table = Table(title=f"{ITERATIONS} × {CANDIDATES} candidates, {STARTS} starts, {seeds} seeds, one thread")
    table.add_column("search")
    for column in ("plan energy", "std over seeds", "median ms"):
        table.add_column(column, justify="right")
    for name, row in figures.items():
        table.add_row(name, f"{row['energy']:.1f}", f"{row['std']:.1f}", f"{row['median_ms']:.1f}")
    Console().print(table)
    Console().print(compared_with)


if __name__ == "__main__":
    as_program(lambda: tyro.cli(main))
