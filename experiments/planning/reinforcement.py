"""Reinforcement learning on the planning problems: SAC and PPO (Stable-Baselines3).

`python -m experiments.planning.reinforcement [--envs ...] [--algorithms ...] [--seeds N] [--out DIR]` writes
`DIR/reinforcement.json` after every run; `--resume` continues a stopped one. SAC writes checkpoints (`--checkpoints`)
and continues from the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import tyro
from numpy.typing import NDArray
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from ebm_control.checks import InputError, require_number
from ebm_control.interrupts import signal_waits, uninterrupted
from ebm_control.planning import run_episodes
from ebm_control.seeds import seeds
from experiments.planning.checkpoints import Progress, load_checkpoint, save_checkpoint
from experiments.planning.problems import PROBLEMS, Problem
from experiments.planning.report import COLUMNS, learned, trained
from experiments.planning.rows import Row
from experiments.processes import as_program, stopping
from experiments.runs import Experiment, Runs, carry_out, chosen

EVALUATION_SEED = 10_000  # far from the training seeds, and the same for every method
ENVIRONMENTS = 8  # in parallel in training
CHECKPOINT_EVERY = 100_000  # environment steps
PATIENCE = 60.0  # seconds for writing a checkpoint
QUICK_STEPS = 2000


@dataclass(frozen=True)
class Learner:
    """An algorithm, with its settings other than Stable-Baselines3's defaults."""

    algorithm: type[SAC] | type[PPO]
    settings: dict[str, Any]
    factor: int = 1  # factor of the steps
    normalize_rewards: bool = False  # by the running std of the return (VecNormalize)


def sac(updates_per_step: float) -> dict[str, Any]:
    """Settings of SAC: Stable-Baselines3's (batch 256, Adam 3e-4, learned entropy), smaller, with an earlier start."""
    return {
        "train_freq": 1,  # one step of all environments
        "gradient_steps": round(updates_per_step * ENVIRONMENTS),
        "learning_starts": 1000,
        "ent_coef": "auto",
        "policy_kwargs": {"net_arch": [128, 128]},
    }


LEARNERS = {
    "sac": Learner(SAC, sac(updates_per_step=1.0)),
    # PPO's defaults, with 2,048 steps per round over all environments, except learning rate and batch size: these give
    # last training returns of -5.1 (Particle) and -5.6 (Reacher), the defaults 3e-4 and 64 -5.4 and -5.8 (seed 0).
    "ppo": Learner(
        PPO,
        {"n_steps": 2048 // ENVIRONMENTS, "learning_rate": 1e-3, "batch_size": 128},
        normalize_rewards=True,
    ),
    "sac10x": Learner(SAC, sac(updates_per_step=0.125), factor=10),
}


@dataclass
class Reinforcement(Runs):
    """SAC and PPO on the planning problems; quick: 2,000 steps."""

    envs: tuple[str, ...] = tuple(PROBLEMS)
    """Environments in this order."""
    algorithms: tuple[str, ...] = ("sac", "ppo")
    """Each is run on all environments before the next; sac10x takes ten times the steps."""
    seeds: int = 1
    """Trainings per algorithm and environment."""
    steps: int = 100_000
    """Environment steps of a training, over all parallel environments."""
    checkpoints: Path = Path("runs/reinforcement")
    """Folder of unfinished SAC runs."""
    until: str | None = None
    """HH:MM, the next such local time: stop then, even during a training."""


@dataclass(frozen=True)
class Job:
    """One training."""

    env: str
    algorithm: str
    seed: int
    steps: int
    checkpoints: Path
    deadline: float

    @property
    def name(self) -> str:
        return f"{self.env}-{self.algorithm}-{self.steps}"

    @property
    def checkpoint(self) -> Path:
        return self.checkpoints / f"{self.name}-seed{self.seed}.pt"


def observation(problem: Problem, env: gym.Env[Any, Any]) -> Callable[[dict[str, Any]], NDArray[np.float32]]:
    """State and goal in one vector; angles are sine and cosine, so that the policy need not learn where they wrap."""
    periods = np.concatenate(
        [env.get_wrapper_attr("observation_periods"), env.get_wrapper_attr("goal_periods")]
    )
    plain, turns = periods == 0, 2 * np.pi / periods[periods > 0]

    def flat(given: dict[str, Any]) -> NDArray[np.float32]:
        x = np.concatenate([given["observation"], given["desired_goal"]])
        angles = x[~plain] * turns
        return np.concatenate([x[plain], np.sin(angles), np.cos(angles)]).astype(np.float32)

    return flat


def make(
    problem: Problem, training: bool = False, bare: Callable[[], gym.Env[Any, Any]] | None = None
) -> gym.Env[Any, Any]:
    """The environment for the algorithms: one observation vector, actions in [-1, 1]; with a monitor for training.

    `bare` builds the underlying environment if it is not that of the problem.
    """
    env = (bare or problem.make)()
    flat = observation(problem, env)
    size = flat(env.reset()[0]).size
    space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
    env = gym.wrappers.TransformObservation(env, flat, space)
    env = gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
    if not training:
        return env
    return gym.wrappers.TransformReward(Monitor(env), lambda reward: float(reward) / problem.reward_unit)


def build(
    problem: Problem,
    learner: Learner,
    seed: int,
    steps: int,
    bare: Callable[[], gym.Env[Any, Any]] | None = None,
) -> SAC | PPO:
    """A new model with its training environments; ends by the time limit are bootstrapped, as they are truncations."""
    envs: VecEnv = DummyVecEnv([lambda: make(problem, training=True, bare=bare)] * ENVIRONMENTS)
    if learner.normalize_rewards:
        envs = VecNormalize(envs, norm_obs=False, gamma=problem.gamma)
    settings = deepcopy(learner.settings)  # Stable-Baselines3 modifies policy_kwargs
    if learner.algorithm is SAC:
        settings["buffer_size"] = min(steps, 1_000_000)  # all transitions
    # Stable-Baselines3 seeds environment i with seed + i, so consecutive seeds would share all starts but one.
    (own,) = seeds(seed, "reinforcement learning", 1)
    return learner.algorithm("MlpPolicy", envs, gamma=problem.gamma, seed=own, device="cpu", **settings)


class Watch(BaseCallback):
    """Records progress, calls `save` every `CHECKPOINT_EVERY` steps, and stops at `deadline` or with the program."""

    def __init__(self, progress: Progress, total: int, deadline: float, save: Callable[[], None]) -> None:
        super().__init__()
        self.progress, self.deadline, self.save = progress, deadline, save
        self.note_every = max(total // 20, 1)
        self.before = (progress.seconds, progress.cpu_seconds)
        self.started = (time.perf_counter(), time.process_time())

    def _on_step(self) -> bool:
        now, before = self.num_timesteps, self.progress.steps
        self.progress.steps = now
        self.progress.seconds = self.before[0] + time.perf_counter() - self.started[0]
        self.progress.cpu_seconds = self.before[1] + time.process_time() - self.started[1]
        returns = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        if returns and now // self.note_every > before // self.note_every:
            self.progress.curve.append([now, float(np.mean(returns))])
        if now // CHECKPOINT_EVERY > before // CHECKPOINT_EVERY:
            self.save()
        return time.time() < self.deadline and not signal_waits() and not stopping()


def train(
    problem: Problem, learner: Learner, seed: int, steps: int, *, checkpoint: Path, deadline: float
) -> tuple[SAC | PPO, Progress]:
    """Train to `steps` environment steps, from the checkpoint if there is one, or until `deadline`.

    Ctrl-C (and SIGTERM in a program) takes effect after the current step, and for SAC after a checkpoint is written.
    """
    model, progress = build(problem, learner, seed, steps), Progress()
    if isinstance(model, SAC) and checkpoint.exists():
        progress = load_checkpoint(checkpoint, model)

    def save() -> None:
        if isinstance(model, SAC):
            save_checkpoint(checkpoint, model, progress)

    watch = Watch(progress, steps, deadline, save)
    with uninterrupted():
        model.learn(steps - progress.steps, callback=watch, reset_num_timesteps=False)
        if progress.steps < steps:
            save()
    return model, progress


@dataclass(frozen=True)
class Deterministic:
    """The model's most likely actions (by default Stable-Baselines3 samples them)."""

    model: SAC | PPO

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        return self.model.predict(observation, state, episode_start, deterministic=True)


def evaluate(model: SAC | PPO, problem: Problem) -> dict[str, Any]:
    """Results of deterministic episodes, in the problem's own units."""
    outcome = run_episodes(
        Deterministic(model), [make(problem) for _ in range(problem.evaluation)], seed=EVALUATION_SEED
    )
    distances = -outcome.last_rewards / problem.reward_unit
    return {
        "return_mean": outcome.mean,
        "return_ci95": outcome.ci95,
        "returns": outcome.returns.tolist(),
        "success": float((distances <= problem.success).mean()),
        "success_distance": problem.success,
        "final_distances": distances.tolist(),
        "evaluation_seed": EVALUATION_SEED,
        "seconds_per_action_of_the_batch": float(np.median(outcome.seconds)),
    }


def hyperparameters(problem: Problem, learner: Learner) -> dict[str, Any]:
    updates = learner.settings.get("gradient_steps")
    return learner.settings | {
        "gamma": problem.gamma,
        "environments": ENVIRONMENTS,
        "policy": "MlpPolicy",
        "observation": "state and goal, angles as sine and cosine",
        "reward_divided_by": problem.reward_unit,
        "normalize_rewards": learner.normalize_rewards,
        "updates_per_step": None if updates is None else updates / ENVIRONMENTS,
        "others": f"defaults of Stable-Baselines3 {stable_baselines3.__version__}",
    }


def run(job: Job) -> list[Row]:
    """The row of a training; empty if it was stopped."""
    problem, learner = PROBLEMS[job.env], LEARNERS[job.algorithm]
    model, progress = train(
        problem, learner, job.seed, job.steps, checkpoint=job.checkpoint, deadline=job.deadline
    )
    if progress.steps < job.steps:
        return []
    row = {
        "env": problem.env,
        "problem": job.env,
        "arguments": problem.arguments,
        "method": job.algorithm,
        "seed": job.seed,
        **evaluate(model, problem),
        "env_steps": progress.steps,
        "train_seconds": progress.seconds,
        "train_cpu_seconds": progress.cpu_seconds,
        "training_curve": progress.curve,
        "hyperparameters": hyperparameters(problem, learner),
    }
    shown = ("return_mean", "success", "train_seconds", "train_cpu_seconds")
    print(job.name, job.seed, {name: row[name] for name in shown}, flush=True)
    return [row]


def next_time(clock: str | None) -> float:
    """Seconds since the epoch at the next HH:MM of local time; infinity for None."""
    if clock is None:
        return float("inf")
    try:
        wanted = datetime.strptime(clock, "%H:%M")
    except ValueError as error:
        raise InputError(f"until: expected HH:MM, got {clock!r}") from error
    now = datetime.now()
    when = now.replace(hour=wanted.hour, minute=wanted.minute, second=0, microsecond=0)
    return (when if when > now else when + timedelta(days=1)).timestamp()


def train_all(settings: Reinforcement) -> None:
    """Run all jobs that are not recorded yet, until the deadline; checkpoints of recorded runs are removed."""
    envs = chosen("envs", settings.envs, PROBLEMS)
    algorithms = chosen("algorithms", settings.algorithms, LEARNERS)
    require_number("steps", settings.steps, 1, whole=True)
    steps = min(settings.steps, QUICK_STEPS) if settings.quick else settings.steps
    where, deadline = settings.checkpoints, next_time(settings.until)
    jobs = [
        Job(env, algorithm, seed, steps * LEARNERS[algorithm].factor, where, deadline)
        for algorithm, seed, env in product(algorithms, settings.seed_range, envs)
    ]
    flags = f" --envs {' '.join(envs)} --algorithms {' '.join(algorithms)} --steps {steps}"
    experiment = Experiment(
        "planning.reinforcement",
        jobs,
        run,
        learned,
        COLUMNS.table,
        flags,
        record="reinforcement.json",
        patience=PATIENCE,
    )
    carry_out(settings, experiment)
    done = {(row["job"], row["seed"]) for row in trained(settings.out)}
    for job in jobs:
        if (job.name, job.seed) in done:
            job.checkpoint.unlink(missing_ok=True)


def main() -> None:
    train_all(tyro.cli(Reinforcement))


if __name__ == "__main__":
    as_program(main)
