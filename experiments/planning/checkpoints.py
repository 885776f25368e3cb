"""Checkpoints of unfinished trainings of SAC."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from stable_baselines3 import SAC

BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass
class Progress:
    """Progress of a training."""

    steps: int = 0
    seconds: float = 0.0  # wall clock
    cpu_seconds: float = 0.0
    curve: list[list[float]] = field(default_factory=list)  # [steps, mean return of the last 100 episodes]


def save_checkpoint(path: Path, model: SAC, progress: Progress) -> None:
    """Save everything needed to continue training, except the environments' states, which are reset."""
    buffer = model.replay_buffer
    assert buffer is not None
    assert model.log_ent_coef is not None
    rows = buffer.size()
    state = {
        "parameters": model.get_parameters(),  # of the networks and of every optimizer
        "log_ent_coef": model.log_ent_coef.detach(),
        "buffer": {name: torch.from_numpy(getattr(buffer, name)[:rows].copy()) for name in BUFFER},
        "position": buffer.pos,
        "full": buffer.full,
        "progress": vars(progress),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    try:
        torch.save(state, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def load_checkpoint(path: Path, model: SAC) -> Progress:
    """Restore `model` from `save_checkpoint` and return its progress; nothing is unpickled."""
    state = torch.load(path, weights_only=True)
    buffer = model.replay_buffer
    assert buffer is not None
    assert model.log_ent_coef is not None
    model.set_parameters(state["parameters"], device="cpu")
    model.log_ent_coef.data.copy_(state["log_ent_coef"])
    for name, values in state["buffer"].items():
        getattr(buffer, name)[: len(values)] = values.numpy()
    buffer.pos, buffer.full = state["position"], state["full"]
    progress = Progress(**state["progress"])
    model.num_timesteps = progress.steps
    assert model.seed is not None
    model.set_random_seed(model.seed + progress.steps)  # the noise of the first part is not repeated
    return progress
