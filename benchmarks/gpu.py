"""Speed on a GPU: Langevin steps by engine and next to torchebm, plans a second, contrastive updates a second.

python -m benchmarks.gpu [--quick] [--out FILE] [--device cuda]

Takes less than five minutes. In each round every contender runs once, with the device synchronised before and after.
Without a CUDA device the program says so and exits with status 1.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from torchebm.samplers import LangevinDynamics

from benchmarks.samplers import DIM, STEP_SIZE, TorchEBMEnergy, median_ratio
from ebm_control.checks import InputError, require
from ebm_control.cli.demo import EPISODE, Demo
from ebm_control.control import planner_for
from ebm_control.data import collect_mujoco
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.energies import MLP, NetworkEnergy
from ebm_control.models import TrainSettings, TrajectoryModel, fit_model
from ebm_control.models.trajectory_fit import batches_for, trainer_for
from ebm_control.planning import Plan, Planner
from ebm_control.provenance import provenance, write_record
from ebm_control.samplers import Langevin, Linear
from ebm_control.samplers.engines import Engine
from ebm_envs.reacher import ENV, spread_starts
from experiments.pages.gpu import TABLES
from experiments.planning.problems import REACHER
from experiments.processes import as_program
from experiments.records import claimed

RESULT = Path(__file__).parent / "results" / "gpu.json"
ENGINES: tuple[Engine, ...] = ("eager", "compile", "graph")
PEER, DEFAULT, FIRST_ORDER = "torchebm", "default", "first-order"
HORIZON = 15
TRAIN = replace(Demo().train, updates=1, base_updates=300)
Row = dict[str, Any]
Loops = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Size:
    """Amounts of a run.

    Attributes:
        chains: numbers of chains.
        steps: Langevin steps of a chain.
        width: width of the network's three hidden layers.
        rounds: timed rounds of chains.
        starts: numbers of starts at once.
        plan_rounds: timed rounds of plans.
        updates: contrastive updates in a round.
        update_rounds: timed rounds of updates.
        transitions: random transitions to train on.
        train: training settings; times do not depend on how well the model is fitted.

    """

    chains: tuple[int, ...] = (64, 256, 1024, 16_384)
    steps: int = 50
    width: int = 256
    rounds: int = 15
    starts: tuple[int, ...] = (1, 64, 4096)
    plan_rounds: int = 10
    updates: int = 20
    update_rounds: int = 10
    transitions: int = 5000
    train: TrainSettings = TRAIN


FULL = Size()
QUICK = Size(rounds=5, plan_rounds=3, update_rounds=3)


def main(quick: bool = False, out: Path | None = None, device: str = "cuda") -> int:
    """Measure all parts on a CUDA device; returns the exit status.

    Args:
        quick: fewer rounds; written only with `out`.
        out: file of the results; by default `benchmarks/results/gpu.json`.
        device: a CUDA device.

    """
    try:
        place = cuda_device(device)
    except InputError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1
    path = out or (None if quick else RESULT)
    with contextlib.nullcontext() if path is None else claimed(path), torch.cuda.device(place):
        began = time.perf_counter()
        results = measure(place, QUICK if quick else FULL)
        results["quick"] = quick
        for name, table in TABLES.items():
            Console().print(table.table(results[name]))
        if path is not None:
            command = " ".join(["python -m benchmarks.gpu", *sys.argv[1:]])
            write_record(path, results, provenance(command, [0], time.perf_counter() - began))
    return 0


def cuda_device(name: str) -> torch.device:
    """The named CUDA device; raises `InputError` if there is none."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    named = device is not None and device.type == "cuda"
    require(named, "device", given=name, expected="a CUDA device such as 'cuda' or 'cuda:0'")
    assert device is not None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    require(0 <= index < count, "device", given=f"{name} where torch finds {count}", expected="a CUDA device")
    return torch.device("cuda", index)


def measure(device: torch.device, size: Size, engines: Sequence[Engine] = ENGINES) -> dict[str, Any]:
    """Results of all parts; `engines` are those to time, of which "graph" needs CUDA."""
    results: dict[str, Any] = {"dim": DIM, "width": size.width, "hidden_layers": 3, "clock": "wall"}
    results |= {"chain_steps": size.steps, "horizon": HORIZON}
    data = collect_mujoco(ENV, size.transitions, episode_length=EPISODE, seed=0, starts=spread_starts)
    model = fit_model(data, size.train, progress=False, device=device)
    parts = (
        chains(device, size, engines),
        plans(device, size, model, "graph" if "graph" in engines else "eager"),
        updates(device, size, data, model),
    )
    ratios = {name: value for part in parts for name, value in part.get("ratios", {}).items()}
    return results | {name: rows for part in parts for name, rows in part.items()} | {"ratios": ratios}


def timed(loops: Loops, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Milliseconds of each loop in each round, after two rounds that are not counted."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for round_ in range(rounds + 2):  # the first ones compile, capture and fill the caches
        for name, run in loops.items():
            settle(device)
            start = time.perf_counter()
            run()
            settle(device)
            if round_ >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def settle(device: torch.device) -> None:
    """Wait for all that the device was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def chains(device: torch.device, size: Size, engines: Sequence[Engine]) -> dict[str, Any]:
    """Langevin steps through a network, by engine and by torchebm.

    Ratios are of times: `graph_to_eager_64` is that of "graph" divided by that of "eager" with 64 chains,
    `torchebm_to_step_64` that of torchebm divided by ours with "graph".
    """
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    for count in size.chains:
        times = timed(chain_loops(device, count, size, engines), size.rounds, device)
        rows += [
            {"chains": count, "loop": name, "ms_per_step": figure(statistics.median(spent) / size.steps)}
            for name, spent in times.items()
        ]
        pairs = {"graph_to_eager": ("graph", "eager"), "compile_to_eager": ("compile", "eager")}
        pairs |= {"torchebm_to_step": (PEER, "graph"), "torchebm_to_eager": (PEER, "eager")}
        ratios |= {
            f"{name}_{count}": median_ratio(times[above], times[below])
            for name, (above, below) in pairs.items()
            if above in times and below in times
        }
    return {"chains": rows, "ratios": ratios}


def chain_loops(device: torch.device, count: int, size: Size, engines: Sequence[Engine]) -> Loops:
    """One function per loop, all with the same weights."""
    torch.manual_seed(0)
    network = MLP(DIM, (size.width,) * 3).to(device)
    source = torch.Generator(device).manual_seed(0)
    x = torch.randn(count, DIM, generator=source, device=device)
    energy = NetworkEnergy(network)
    peer = LangevinDynamics(TorchEBMEnergy(network), step_size=STEP_SIZE, device=device)

    def ours(engine: Engine) -> Callable[[], object]:
        sampler = Langevin(steps=size.steps, step_size=STEP_SIZE, engine=engine)
        return lambda: sampler(energy, x, generator=source)

    loops: Loops = {engine: ours(engine) for engine in engines}
    return loops | {PEER: lambda: peer.sample(x=x, n_steps=size.steps, generator=source)}


def plans(device: torch.device, size: Size, model: TrajectoryModel, engine: Engine) -> dict[str, Any]:
    """Warm-started plans for several numbers of starts: the default planner's, and first-order ones by an engine."""
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    first_order = f"{FIRST_ORDER}, {engine}"
    space = REACHER.action_space

    def planner(sampler: Langevin | None, count: int | None) -> Planner:
        cost = REACHER.goal_cost(model.layout).to(device)
        return planner_for(model, cost, HORIZON, sampler=sampler, action_space=space, chains=count)

    steps = Langevin(80, Linear(0.1, 0.01), noise=0.0, adapt="rms", engine=engine)
    planners = {DEFAULT: planner(None, None), first_order: planner(steps, 4)}
    for count in size.starts:
        start = states(model, count, device)
        loops: Loops = {name: warm_plans(made, start) for name, made in planners.items()}
        times = timed(loops, size.plan_rounds, device)
        rows += [
            {
                "starts": count,
                "planner": name,
                "ms": figure(statistics.median(spent)),
                "plans_per_second": figure(1e3 * count / statistics.median(spent)),
            }
            for name, spent in times.items()
        ]
        ratios[f"first_order_to_default_plan_{count}"] = median_ratio(times[first_order], times[DEFAULT])
    return {"plans": rows, "ratios": ratios}


def states(model: TrajectoryModel, count: int, device: torch.device) -> torch.Tensor:
    """Normalised start states `(count, obs_dim)`."""
    source = torch.Generator().manual_seed(0)
    return torch.randn(count, model.layout.obs_dim, generator=source).to(device)


def warm_plans(planner: Planner, start: torch.Tensor) -> Callable[[], object]:
    """A function that plans once more, from the plan before."""
    source = torch.Generator(start.device).manual_seed(0)
    goal = start.new_zeros(len(start), len(planner.goal_index))
    kept: list[Plan | None] = [None]

    def run() -> None:
        kept[0] = planner.plan(start, goal, warm=kept[0], generator=source)

    return run


def updates(device: torch.device, size: Size, data: RolloutBuffer, model: TrajectoryModel) -> dict[str, Any]:
    """Contrastive updates of the demo's energy, of which each runs a short chain."""
    model.energy.network.requires_grad_(True)
    settings = replace(size.train, updates=Demo().train.updates)
    batches = batches_for(data, model, settings.batch_size, settings.seed, device)
    trainer = trainer_for(model, batches, settings, device=device)

    def run() -> None:
        for _ in range(size.updates):
            trainer.update(next(batches))

    spent = statistics.median(timed({"update": run}, size.update_rounds, device)["update"]) / size.updates
    return {"updates": [{"ms": figure(spent), "updates_per_second": figure(1e3 / spent)}]}


def figure(value: float) -> float:
    return round(value, 4)


if __name__ == "__main__":
    as_program(lambda: sys.exit(tyro.cli(main)))
