"""Highly correlated data: each transition of one episode is repeated 100 times, in order, and never again.

The sequential test of Du, Lin & Mordatch (2019) on Particle, with batches of a single transition. No method has a
replay buffer here. This is not a recommended way to train; it tests how robust each model is to correlated data.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from ebm_control.baselines import Baseline, FeedForward
from ebm_control.data import RolloutBuffer, collect
from ebm_control.data.batch import Batch
from ebm_control.data.windows import displacement_scale, window_batches
from ebm_control.energies.base_measure import RegressionBase
from ebm_control.models import ModelSettings, TrainSettings, TrajectoryModel, batches_for, trainer_for
from ebm_control.planning import MPCAgent, run_episodes
from ebm_control.training.fitting import Training
from ebm_control.training.regression import regress, seeded
from experiments.online.methods import ENERGY, FEED_FORWARD, Method, planners
from experiments.planning.problems import PARTICLE, data_of

Row = dict[str, Any]
TRANSITIONS, REPEATS = 100, 100
METHODS = (FEED_FORWARD, ENERGY, replace(ENERGY, name="EBM, no regression", base=False))


class InOrder(Iterator[Batch]):
    """Batches of one window, each window repeated in order; or shuffled, with as many batches in total."""

    def __init__(self, x: torch.Tensor, shuffled: bool, seed: int) -> None:
        order = torch.arange(len(x)).repeat_interleave(REPEATS)
        if shuffled:
            order = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))]
        self.x, self.order, self.next = x, iter(order.tolist()), 0
        self.num_windows = len(x)

    def __next__(self) -> Batch:
        i = next(self.order)
        return Batch(self.x[i : i + 1], None, torch.tensor([i]))


def sequential(method: Method, seed: int, quick: bool) -> list[Row]:
    """Rows for the same transitions in order and shuffled: one-step error on other data, and a planner's return."""
    transitions = 30 if quick else TRANSITIONS
    env: Any = PARTICLE.make()
    stream = collect(lambda: PARTICLE.make(), transitions, seed=seed, num_envs=1, progress=False)
    elsewhere = data_of(PARTICLE.env, 50 + seed)
    rows = []
    for shuffled in (False, True):
        began = time.perf_counter()
        model = _trained(method, stream, elsewhere, shuffled, seed)
        agent = MPCAgent(
            planners(PARTICLE, env.action_space)(model, 0),
            model.normalizer,
            env.action_space,
            seed=seed,
        )
        outcome = run_episodes(agent, [PARTICLE.make()], seed=10_000)
        rows.append(
            {
                "part": "sequential",
                "env": PARTICLE.name,
                "method": method.name,
                "stage": "shuffled" if shuffled else "in order",
                "seed": seed,
                "checkpoint": transitions,
                "env_steps": transitions,
                "return": outcome.mean,
                "seconds": time.perf_counter() - began,
            }
        )
        print(rows[-1], flush=True)
    return rows


def _trained(
    method: Method, stream: RolloutBuffer, elsewhere: RolloutBuffer, shuffled: bool, seed: int
) -> TrajectoryModel | Baseline:
    normalizer = elsewhere.normalizer()  # units are not part of the test
    layout = normalizer.layout
    scale = displacement_scale(window_batches(elsewhere, normalizer, 4096, seed=seed), layout)
    states, actions, after = (torch.from_numpy(part) for part in stream.transitions())
    rows = [
        normalizer.normalize(s, actions) for s in (states, after)
    ]  # the action of the second time step is unused
    x = torch.stack(rows, dim=1).float()
    updates = len(x) * REPEATS
    if method.model == FEED_FORWARD.model:
        with seeded(seed):
            network = FeedForward(layout, scale, (128, 128))
        regress(
            network.parameters(),
            lambda batch: network.residual(batch.x).square().mean(),
            InOrder(x, shuffled, seed),
            updates,
            learning_rate=3e-4,
        )
        network.requires_grad_(False)
        return Baseline(network, normalizer, Training(updates), torch.ones(layout.obs_dim))
    kind = ModelSettings(hidden=(128, 128), base="regression" if method.base else "gaussian")
    settings = TrainSettings(kind, updates=updates, langevin_steps=5, ema=0.0, seed=seed)
    with seeded(seed):
        model = TrajectoryModel.create(settings.model, normalizer, scale)
    energy: Any = model.energy
    if isinstance(energy.base, RegressionBase):
        regress(
            energy.base.parameters(),
            lambda batch: _squared(energy, batch.x),
            InOrder(x, shuffled, seed),
            updates,
            learning_rate=3e-4,
        )
        energy.base.requires_grad_(False)
        with torch.no_grad():
            energy.base.set_std(energy.next_std().new_full((layout.obs_dim,), 0.1))
        return model
    trainer = trainer_for(model, batches_for(stream, model, 64, seed), settings)
    trainer.fit(InOrder(x, shuffled, seed), updates)
    energy.requires_grad_(False)
    return model


def _squared(energy: Any, x: torch.Tensor) -> torch.Tensor:
    inputs, displacement = energy.windows(x)
    squared: torch.Tensor = (displacement - energy.base.mean(inputs)).square().mean()
    return squared
