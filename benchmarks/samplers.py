"""Speed of the sampler loop: Langevin steps with a 3-layer MLP energy on one thread, versus torchebm and a bound.

python -m benchmarks.samplers [--quick] [--out FILE]
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchebm.core import BaseModel
from torchebm.samplers import LangevinDynamics

from ebm_control.checks import require_number
from ebm_control.energies import MLP, Energy, NetworkEnergy
from ebm_control.provenance import provenance, write_record
from ebm_control.samplers import Langevin
from experiments.processes import as_program
from experiments.records import claimed

DIM, STEP_SIZE = 16, 0.01
BATCHES = {16: (128, 400), 64: (256, 200), 256: (256, 100), 1024: (256, 20)}  # width and steps of a chain
BOUND, OURS, AUTOMATIC = "matrix products alone", "ebm-control", "ebm-control, automatic differentiation"
COMPILED, PEER = "ebm-control, compile", "torchebm"
Loops = dict[str, Callable[[], object]]


class AutomaticEnergy(NetworkEnergy):
    """The same energy with the gradient that any energy has: by automatic differentiation."""

    value_and_gradient = Energy.value_and_gradient


class TorchEBMEnergy(BaseModel):
    """The same network with the interface of torchebm."""

    def __init__(self, network: MLP) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).squeeze(-1)


def main(repeats: int = 31, quick: bool = False, out: Path | None = None) -> None:
    """Time all loops in turn, so that other load of the machine affects all equally; medians are compared.

    Times are processor times of the one thread: what other processes do in between is not counted.

    Args:
        repeats: rounds, in each of which every loop runs once.
        quick: 5 rounds without the compiled loop; written only with `out`.
        out: file of the results; by default `benchmarks/results/samplers.json`.

    """
    require_number("repeats", repeats, 2, whole=True)  # quartiles need two values
    path = out or (None if quick else Path(__file__).parent / "results" / "samplers.json")
    with contextlib.nullcontext() if path is None else claimed(path):
        measure(5 if quick else repeats, path, compiled=not quick)


def measure(repeats: int, path: Path | None, *, compiled: bool) -> None:
    torch.set_num_threads(1)
    began = time.perf_counter()
    figures: dict[str, dict[str, float]] = {}
    ratios: dict[str, float] = {}
    for batch, (width, steps) in BATCHES.items():
        times = timed(make_loops(batch, width, steps, compiled=compiled), repeats)
        figures |= {f"batch {batch}: {name}": summary(spent, times[BOUND]) for name, spent in times.items()}
        ratios[f"step_to_floor_{batch}"] = median_ratio(times[OURS], times[BOUND])
        ratios[f"torchebm_to_step_{batch}"] = median_ratio(times[PEER], times[OURS])
    show(figures, repeats)
    if path is not None:
        command = " ".join(["python -m benchmarks.samplers", *sys.argv[1:]])
        sizes = {str(batch): {"width": width, "steps": steps} for batch, (width, steps) in BATCHES.items()}
        results = {"dim": DIM, "hidden_layers": 3, "threads": 1, "clock": "processor", "batches": sizes}
        write_record(
            path,
            results | {"ratios": ratios, "loops": figures},
            provenance(command, [0], time.perf_counter() - began),
        )


def timed(loops: Loops, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each loop in each round, after one round that is not counted."""
    for run in loops.values():
        run()  # compiles, and fills the caches
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name, run in loops.items():
            start = time.process_time()
            run()
            times[name].append(1e3 * (time.process_time() - start))
    return times


def make_loops(batch: int, width: int, steps: int, *, compiled: bool) -> Loops:
    """One function per loop, all with the same weights."""
    torch.manual_seed(0)
    network = MLP(DIM, (width,) * 3)
    x, source = torch.randn(batch, DIM), torch.Generator().manual_seed(0)
    energy, automatic = NetworkEnergy(network), AutomaticEnergy(network)
    sampler = Langevin(steps=steps, step_size=STEP_SIZE)
    fused = Langevin(steps=steps, step_size=STEP_SIZE, engine="compile")
    peer = LangevinDynamics(TorchEBMEnergy(network), step_size=STEP_SIZE, device="cpu")
    loops: Loops = {
        BOUND: matrix_products(network, x, steps),
        OURS: lambda: sampler(energy, x, generator=source),
        AUTOMATIC: lambda: sampler(automatic, x, generator=source),
        COMPILED: lambda: fused(energy, x, generator=source),
        PEER: lambda: peer.sample(x=x, n_steps=steps, generator=source),
    }
    if not compiled:
        del loops[COMPILED]
    return loops


def matrix_products(network: MLP, x: Tensor, steps: int) -> Callable[[], None]:
    """The matrix products that every such loop needs: with each weight forward, with its transpose backward."""
    weights = [weight.detach() for name, weight in network.named_parameters() if "weight" in name]
    forward = [torch.empty(len(x), len(weight)) for weight in weights]
    backward = [torch.empty(len(x), weight.shape[1]) for weight in weights]

    def run() -> None:
        for _ in range(steps):
            h = x
            for weight, place in zip(weights, forward, strict=True):
                h = torch.mm(h, weight.T, out=place)
            for weight, place in zip(reversed(weights), reversed(backward), strict=True):
                h = torch.mm(h, weight, out=place)

    return run


def median_ratio(spent: list[float], other: list[float]) -> float:
    """Median of the ratios of two loops in the same round."""
    return round(statistics.median(one / two for one, two in zip(spent, other, strict=True)), 3)


def summary(spent: list[float], bound: list[float]) -> dict[str, float]:
    """Median and quartiles in ms, and the median of the ratios to the bound in the same round."""
    low, median, high = statistics.quantiles(spent, n=4)
    figures = {"median_ms": median, "lower_quartile_ms": low, "upper_quartile_ms": high}
    return {name: round(figure, 3) for name, figure in figures.items()} | {
        "times_bound": median_ratio(spent, bound)
    }


def show(figures: dict[str, dict[str, float]], rounds: int) -> None:
    table = Table(title=f"Chains of Langevin steps, {DIM} inputs, 3 hidden layers, 1 thread, {rounds} rounds")
    table.add_column("loop")
    for column in ("median ms", "quartiles ms", "× matrix products"):
        table.add_column(column, justify="right")
    for name, row in figures.items():
        quartiles = f"{row['lower_quartile_ms']:.1f} – {row['upper_quartile_ms']:.1f}"
        table.add_row(name, f"{row['median_ms']:.1f}", quartiles, f"{row['times_bound']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    as_program(lambda: tyro.cli(main))
