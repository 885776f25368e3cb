"""Speed of the sampler loop: 50 Langevin steps with a 3×256 MLP energy, batch 256, versus torchebm and a bound.

python -m benchmarks.samplers [--quick]
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
from ebm_control.energies import MLP, Energy
from ebm_control.provenance import provenance, write_record
from ebm_control.samplers import Langevin
from experiments.processes import as_program
from experiments.records import claimed

STEPS, BATCH, DIM, HIDDEN, STEP_SIZE = 50, 256, 16, (256, 256, 256), 0.01
BOUND = "matrix products alone"


class NetworkEnergy(Energy):
    """An MLP over flat samples."""

    def __init__(self, network: MLP) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.network(x).squeeze(-1)


class TorchEBMEnergy(BaseModel):
    """The same network with the interface of torchebm."""

    def __init__(self, network: MLP) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).squeeze(-1)


def main(repeats: int = 31, threads: int = 2, quick: bool = False, out: Path | None = None) -> None:
    """Time all loops in turn, so that other load of the machine affects all equally; medians are compared.

    Args:
        repeats: rounds, in each of which every loop runs once.
        threads: threads of torch.
        quick: 7 rounds, nothing written.
        out: file of the results; by default `benchmarks/results/samplers.json`.

    """
    require_number("repeats", repeats, 2, whole=True)  # quartiles need two values
    require_number("threads", threads, 1, whole=True)
    path = out or Path(__file__).parent / "results" / "samplers.json"
    with contextlib.nullcontext() if quick else claimed(path):
        measure(7 if quick else repeats, threads, None if quick else path)


def measure(repeats: int, threads: int, path: Path | None) -> None:
    torch.set_num_threads(threads)
    began = time.perf_counter()
    loops = make_loops()
    for run in loops.values():
        for _ in range(3):  # warm-up: compiles, and fills the caches
            run()
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name, run in loops.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    figures = {name: summary(spent, times[BOUND]) for name, spent in times.items()}
    show(figures, threads, len(times[BOUND]))
    if path is not None:
        command = " ".join(["python -m benchmarks.samplers", *sys.argv[1:]])
        results = {"steps": STEPS, "batch": BATCH, "dim": DIM, "hidden": HIDDEN, "threads": threads}
        write_record(
            path, results | {"loops": figures}, provenance(command, [0], time.perf_counter() - began)
        )


def make_loops() -> dict[str, Callable[[], object]]:
    """One function per loop, all with the same weights."""
    torch.manual_seed(0)
    network = MLP(DIM, HIDDEN)
    energy, x, source = NetworkEnergy(network), torch.randn(BATCH, DIM), torch.Generator().manual_seed(0)
    eager = Langevin(steps=STEPS, step_size=STEP_SIZE, engine="eager")
    compiled = Langevin(steps=STEPS, step_size=STEP_SIZE, engine="compile")
    peer = LangevinDynamics(TorchEBMEnergy(network), step_size=STEP_SIZE, device="cpu")
    return {
        BOUND: matrix_products(network, x),
        "ebm-control, eager": lambda: eager(energy, x, generator=source),
        "ebm-control, compile": lambda: compiled(energy, x, generator=source),
        "torchebm": lambda: peer.sample(x=x, n_steps=STEPS, generator=source),
    }


def matrix_products(network: MLP, x: Tensor) -> Callable[[], None]:
    """The matrix products that every such loop needs: with each weight forward, with its transpose backward."""
    weights = [weight.detach() for name, weight in network.named_parameters() if "weight" in name]
    forward = [torch.empty(len(x), len(weight)) for weight in weights]
    backward = [torch.empty(len(x), weight.shape[1]) for weight in weights]

    def run() -> None:
        for _ in range(STEPS):
            h = x
            for weight, place in zip(weights, forward, strict=True):
                h = torch.mm(h, weight.T, out=place)
            for weight, place in zip(reversed(weights), reversed(backward), strict=True):
                h = torch.mm(h, weight, out=place)

    return run


def summary(spent: list[float], bound: list[float]) -> dict[str, float]:
    """Median and quartiles in ms, and the median of the ratios to the bound in the same round."""
    low, median, high = statistics.quantiles(spent, n=4)
    ratio = statistics.median(mine / least for mine, least in zip(spent, bound, strict=True))
    figures = {"median_ms": median, "lower_quartile_ms": low, "upper_quartile_ms": high, "times_bound": ratio}
    return {name: round(figure, 3) for name, figure in figures.items()}


def show(figures: dict[str, dict[str, float]], threads: int, rounds: int) -> None:
    shape = "×".join(map(str, HIDDEN))
    table = Table(
        title=f"{STEPS} Langevin steps, batch {BATCH}, MLP {DIM}→{shape}→1, {threads} threads, {rounds} rounds"
    )
    table.add_column("loop")
    for column in ("median ms", "quartiles ms", "× matrix products"):
        table.add_column(column, justify="right")
    for name, row in figures.items():
        quartiles = f"{row['lower_quartile_ms']:.1f} – {row['upper_quartile_ms']:.1f}"
        table.add_row(name, f"{row['median_ms']:.1f}", quartiles, f"{row['times_bound']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    as_program(lambda: tyro.cli(main))
