"""Continual-learning baselines versus Avalanche's: same stream and network, equal updates up to whole epochs.

python -m benchmarks.continual [--methods ...] [--seeds 1] [--data split-mnist]

Only this benchmark needs Avalanche (`pip install avalanche-lib`). Its classifiers are over all classes of the stream;
those of `ewc`, `si` and `lwf` here are over observed classes, so results are comparable but not identical.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import Dataset

from ebm_control.checks import require_number
from ebm_control.continual import LearnerSettings, Perceptron, learn, make_learner
from ebm_control.data.streams import TaskStream
from ebm_control.provenance import provenance, write_record
from ebm_control.training.regression import seeded
from experiments.continual.jobs import KNOWN_STREAMS, stream_of
from experiments.processes import as_program
from experiments.records import claimed
from experiments.runs import chosen

KEPT = 1000
OURS = {
    "none": ("softmax", 0),
    "replay": ("softmax-seen", KEPT),
    "ewc": ("ewc", 0),
    "si": ("si", 0),
    "lwf": ("lwf", 0),
}


def main(
    methods: tuple[str, ...] = tuple(OURS),
    seeds: int = 1,
    data: str = "split-mnist",
    updates: int = 2000,
    batch_size: int = 128,
    data_dir: Path | None = None,
    out: Path = Path("benchmarks/results/continual.json"),
) -> None:
    """Measure final accuracy and minutes of each method in both libraries, one after the other on one thread.

    Args:
        methods: some of none, replay, ewc, si, lwf.
        seeds: runs per method.
        data: stream of new classes, see `experiments.continual`.
        updates: updates per task; Avalanche does the nearest number of whole epochs.
        batch_size: images per update.
        data_dir: folder of idx files; default: the environment variable EBM_CONTROL_DATA.
        out: file of the results.

    """
    methods = chosen("methods", methods, OURS)
    for name, number in (("seeds", seeds), ("updates", updates), ("batch_size", batch_size)):
        require_number(name, number, 1, whole=True)
    chosen("data", [data], KNOWN_STREAMS)
    with claimed(out):
        measure(methods, seeds, data, updates, batch_size, data_dir, out)


def measure(
    methods: tuple[str, ...],
    seeds: int,
    data: str,
    updates: int,
    batch_size: int,
    data_dir: Path | None,
    out: Path,
) -> None:
    torch.set_num_threads(1)
    console, rows = Console(), list[dict[str, Any]]()
    command = f"python -m benchmarks.continual --methods {' '.join(methods)} --seeds {seeds} --data {data} "
    origin = provenance(f"{command}--updates {updates} --batch {batch_size}", range(seeds), 0.0)
    started = time.perf_counter()
    for seed in range(seeds):
        stream = stream_of(data, seed, data_dir)
        for method in methods:
            ours, memory_size = OURS[method]
            learner = make_learner(
                ours, LearnerSettings(stream.shape, stream.classes, memory_size=memory_size, seed=seed)
            )
            found = learn(learner, stream, updates=updates, batch_size=batch_size, seed=seed)
            theirs, took = avalanche(method, stream, updates, batch_size, seed)
            rows.append(
                {
                    "method": method,
                    "seed": seed,
                    "ours": found.average,
                    "avalanche": theirs,
                    "minutes": found.seconds / 60,
                    "avalanche_minutes": took / 60,
                }
            )
            console.print(rows[-1])
            write_record(out, {"rows": rows}, origin | {"seconds": time.perf_counter() - started})
    table = Table("method", "seed", "ours", "Avalanche", "minutes", "Avalanche's")
    for row in rows:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    console.print(table)


def avalanche(
    method: str, stream: TaskStream, updates: int, batch_size: int, seed: int
) -> tuple[float, float]:
    """Final mean accuracy over tasks, and seconds, of Avalanche's strategy."""
    from avalanche.benchmarks import nc_benchmark
    from avalanche.training.supervised import EWC, LwF, Naive, Replay, SynapticIntelligence

    images, tasks = _Images(stream), len(stream.tasks)
    order = [label for task in stream.tasks for label in task.labels.unique().tolist()]
    scenario = nc_benchmark(images, images, tasks, task_labels=False, fixed_class_order=order)
    with seeded(seed):
        network: nn.Module = Perceptron(stream.shape, stream.classes)
        made: dict[str, Callable[..., Any]] = {
            "none": Naive,
            "replay": lambda **given: Replay(mem_size=KEPT, **given),
            "ewc": lambda **given: EWC(ewc_lambda=5000.0, **given),
            "si": lambda **given: SynapticIntelligence(si_lambda=0.1, eps=0.1, **given),
            "lwf": lambda **given: LwF(alpha=list(range(tasks)), temperature=2.0, **given),
        }
        strategy = made[method](
            model=network,
            optimizer=torch.optim.Adam(network.parameters(), lr=1e-3, fused=True),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=batch_size,
            evaluator=None,
        )
        began = time.perf_counter()
        for task, experience in zip(stream.tasks, scenario.train_stream, strict=True):
            strategy.train_epochs = max(1, round(updates * batch_size / len(task.labels)))
            strategy.train(experience, num_workers=0)
        took = time.perf_counter() - began
    with torch.no_grad():
        right = [
            (network(task.part("test")).argmax(dim=1) == task.test_labels).double().mean()
            for task in stream.tasks
        ]
    return float(torch.stack(right).mean()), took


class _Images(Dataset[tuple[Tensor, int]]):
    """Training images in the format of torchvision's data sets."""

    def __init__(self, stream: TaskStream) -> None:
        self.images = torch.cat([task.part("train") for task in stream.tasks])
        self.targets = torch.cat([task.labels for task in stream.tasks]).tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.targets[index]


if __name__ == "__main__":
    as_program(lambda: tyro.cli(main))
