"""Small problems with known answers, for every test of training."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ebm_control.data import RolloutBuffer
from ebm_control.data.batch import Batch
from ebm_control.energies import MLP, Energy
from ebm_control.models import ModelSettings, TrainSettings
from ebm_control.samplers import Langevin
from ebm_control.training import Checkpoint, SampleBuffer, Trainer, gaussian

BASE_STD = 1.5


class TiltedGaussian(Energy):
    """Gaussian base and a small network for tilt, over `(B, D)`."""

    def __init__(self, dim: int = 2, width: int = 32, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = MLP(dim, (width, width))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        base, tilt = self.split(x, context)
        return base + tilt

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x / BASE_STD).square().sum(dim=1) / 2, self.network(x).squeeze(-1)


class ConvolutionEnergy(Energy):
    """All tilt, over images `(B, 1, 8, 8)`."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Conv2d(1, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.SiLU(), nn.Flatten()
            )
            self.last = nn.Linear(64, 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.last(self.network(x)).squeeze(-1)


class Resampled(Iterator[Batch]):
    """Endless batches drawn with replacement from a tensor, resumable."""

    def __init__(self, data: Tensor, size: int = 64, seed: int = 0) -> None:
        self.data, self.size = data, size
        self.generator = torch.Generator().manual_seed(seed)

    def __next__(self) -> Batch:
        return Batch(self.data[torch.randint(len(self.data), (self.size,), generator=self.generator)])

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["generator"])


class Planted:
    """Planned negatives about one place, with noise of their own; resumable."""

    def __init__(self, place: Tensor, seed: int = 0) -> None:
        self.place = place
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, step: int, batch: Batch) -> Batch:
        return Batch(self.place + 0.2 * torch.randn(batch.x.shape, generator=self.generator))

    state_dict = Resampled.state_dict
    load_state_dict = Resampled.load_state_dict


def two_modes(n: int = 4000, seed: int = 0) -> Tensor:
    """Samples `(n, 2)` of the mixture whose density is `mixture_density`."""
    generator = torch.Generator().manual_seed(seed)
    right = (torch.rand(n, 1, generator=generator) < 0.3).float()
    return centres()[0] + right * (centres()[1] - centres()[0]) + 0.4 * torch.randn(n, 2, generator=generator)


def centres() -> Tensor:
    return torch.tensor([[-0.8, -0.5], [0.8, 0.5]])


def mixture_density(x: Tensor) -> Tensor:
    """Unnormalised density `(B,)` that `two_modes` draws from."""
    squared = (x[:, None] - centres()).square().sum(dim=2) / 0.4**2
    return (torch.tensor([0.7, 0.3]) * torch.exp(-squared / 2)).sum(dim=1)


def grid(low: float = -3, high: float = 3, points: int = 60) -> Tensor:
    """`(points², 2)`."""
    axis = torch.linspace(low, high, points)
    return torch.cartesian_prod(axis, axis)


def total_variation(p: Tensor, q: Tensor) -> float:
    """Between two unnormalised densities on the same grid."""
    return float((p / p.sum() - q / q.sum()).abs().sum() / 2)


def toy_trainer(energy: Energy | None = None, **given: Any) -> Trainer:
    """Trainer on 2-D data, quick and sound unless told otherwise; `learning_rate` is of Adam."""
    energy = energy or TiltedGaussian()
    optimizer = torch.optim.Adam(energy.parameters(), lr=given.pop("learning_rate", 1e-3))
    settings: dict[str, Any] = {"optimizer": optimizer} | given
    sampler = given.pop("sampler", Langevin(5, 0.05))
    settings.pop("sampler", None)
    return Trainer(energy, sampler, SampleBuffer(256, (2,), gaussian(0, BASE_STD)), **settings)


def linear_buffer(
    episodes: int = 8, steps: int = 60, noise: tuple[float, float] = (0.02, 0.05), seed: int = 0
) -> RolloutBuffer:
    """Episodes of `s' = s + B a - 0.1 s + noise` with 2 states and 1 action, the noise of given deviations."""
    rng = np.random.default_rng(seed)
    buffer = RolloutBuffer(2, 1)
    for _ in range(episodes):
        actions = rng.uniform(-1, 1, (steps, 1))
        states = [rng.normal(0, 1, 2)]
        for action in actions:
            s = states[-1]
            states.append(0.9 * s + action * np.array([0.2, -0.1]) + rng.normal(0, noise))
        buffer.add_episode(np.array(states), actions)
    return buffer


def tiny(**changes: Any) -> TrainSettings:
    """Settings of a run of seconds; those of `ModelSettings` are told apart by name."""
    of_model = {
        name: changes.pop(name) for name in list(changes) if name in ModelSettings.__dataclass_fields__
    }
    model = ModelSettings(**{"hidden": (16, 16), "base_hidden": (16,)} | of_model)
    quick = {"updates": 20, "base_updates": 30, "batch_size": 32, "langevin_steps": 4, "ema": 0.9}
    return TrainSettings(model=model, **quick | changes)


def small_checkpoint(value: float = 1.0) -> Checkpoint:
    """About 70 kB: enough for a full disk to be met in the middle of a file."""
    weights = {"w": torch.full((64, 64), value), "b": torch.arange(3, dtype=torch.float64)}
    state = {"step": 7, "buffer": {"samples": torch.full((96, 128), value)}, "rates": [0.1, 0.2], "note": "x"}
    return Checkpoint(weights, {"width": 64, "periods": [2.0, 0.0]}, state)


def resign(folder: Path) -> None:
    """Write the manifest anew for whatever now lies in a checkpoint: tampering that covers its tracks."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


class Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.proof),)
