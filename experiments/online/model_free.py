"""SAC on the same problems, evaluated during training without noise on the same episodes as the other methods."""

from __future__ import annotations

import time

from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

from experiments.online.control import EPISODES, PROBLEMS, Row, evaluated
from experiments.planning import reinforcement as rl
from experiments.planning.problems import PROBLEMS as POSED
from experiments.planning.problems import Problem

STEPS = 20_000
EVERY = 1000


def model_free(problem: str, seed: int, quick: bool) -> list[Row]:
    """One row per 1,000 environment steps (over all environments), with the settings of the planning table."""
    steps = 2000 if quick else STEPS
    posed = POSED[problem]
    model = rl.build(posed, rl.LEARNERS["sac"], seed, steps)
    assert isinstance(model, SAC)
    watch = Evaluations(problem, posed, seed)
    model.learn(steps, callback=watch)
    return watch.rows


class Evaluations(BaseCallback):
    """Evaluates at every multiple of 1,000 steps; `rows` are the results."""

    def __init__(self, problem: str, posed: Problem, seed: int) -> None:
        super().__init__()
        self.problem, self.posed, self.seed = problem, posed, seed
        self.rows: list[Row] = []
        self.began, self.evaluating = time.perf_counter(), 0.0

    def _on_step(self) -> bool:
        if self.num_timesteps % EVERY:
            return True
        paused = time.perf_counter()
        assert isinstance(self.model, SAC)
        agent = rl.Deterministic(self.model)
        found = evaluated(
            PROBLEMS[self.problem],
            agent,
            EPISODES[self.problem],
            self.seed,
            lambda env: rl.make(self.posed, bare=lambda: env),
        )
        ended = [episode["r"] for episode in self.model.ep_info_buffer or ()][-20:]
        self.evaluating += time.perf_counter() - paused
        self.rows.append(
            found
            | {
                "part": "control",
                "method": "SAC",
                "seed": self.seed,
                "checkpoint": self.num_timesteps,
                "env_steps": self.num_timesteps,
                "train_seconds": time.perf_counter() - self.began - self.evaluating,
                "acting_return": sum(ended) / len(ended) if ended else None,
            }
        )
        print({key: value for key, value in self.rows[-1].items() if key != "part"}, flush=True)
        return True
