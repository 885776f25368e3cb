"""Reinforcement learning on the planning problems: SAC and PPO (Stable-Baselines3), one row file a finished run.

`python -m experiments.planning.reinforcement [--envs ...] [--algorithms ...] [--seeds N] [--out DIR]` writes
`DIR/reinforcement/ENV-ALGORITHM-seedS.json` after each run; runs whose file is there are skipped, so the same
command goes on where it was stopped. SAC keeps checkpoints (`--checkpoints`) and resumes from the last one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
import tyro
from numpy.typing import NDArray
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

import ebm_envs
from ebm_control.checks import require, require_number
from ebm_control.interrupts import signal_waits, uninterrupted
from ebm_control.locks import locked
from ebm_control.planning import run_episodes
from ebm_control.provenance import provenance, write_record
from ebm_control.seeds import seeds
from experiments.planning.checkpoints import Progress, load_checkpoint, save_checkpoint
from experiments.processes import as_program
from experiments.runs import chosen

ProblemName = Literal["particle", "reacher", "maze-bend", "maze-s", "arm7"]
LearnerName = Literal["sac", "ppo", "sac10x"]

EVALUATION_SEED = 10_000  # far from the training seeds, and the same for every method
ENVIRONMENTS = 8  # side by side in training
CHECKPOINT_EVERY = 100_000  # environment steps


@dataclass(frozen=True)
class Problem:
    """An environment with its start and goal, and when an episode counts as solved."""

    env: str
    arguments: dict[str, Any]
    success: float  # largest final distance
    gamma: float = 0.98  # 50 steps an episode; 0.99 where episodes are longer
    reward_unit: float = 1.0  # reward lost a step and unit of distance; training divides by it
    episodes: int = 20  # of the evaluation


START = (-0.85, -0.85)
PROBLEMS: dict[ProblemName, Problem] = {
    "particle": Problem("ebm/Particle-v0", {"start": (0.0, 0.0), "goal": (0.5, 0.5)}, 0.05),
    "reacher": Problem("ebm/Reacher-v0", {"goal": (0.7, 0.5)}, 0.1),
    "maze-bend": Problem("ebm/Maze-v0", {"start": START, "goal": (-0.45, 0.8)}, 0.05, gamma=0.99),
    "maze-s": Problem("ebm/Maze-v0", {"start": START, "goal": (0.7, -0.8)}, 0.05, gamma=0.99),
    "arm7": Problem("ebm/Arm7-v0", {"goal": "random"}, 0.05, gamma=0.99, reward_unit=10.0, episodes=100),
}


@dataclass(frozen=True)
class Learner:
    """An algorithm with the settings that differ from Stable-Baselines3's defaults."""

    algorithm: type[SAC] | type[PPO]
    settings: dict[str, Any]
    factor: int = 1  # times the steps of the others
    normalize_rewards: bool = False  # by the running deviation of the return (VecNormalize)


def sac(updates_per_step: float) -> dict[str, Any]:
    """SAC as Stable-Baselines3 has it (batch 256, Adam 3e-4, learned entropy), smaller and earlier to learn."""
    return {
        "train_freq": 1,  # one step of all environments
        "gradient_steps": round(updates_per_step * ENVIRONMENTS),
        "learning_starts": 1000,
        "ent_coef": "auto",
        "policy_kwargs": {"net_arch": [128, 128]},
    }


LEARNERS: dict[LearnerName, Learner] = {
    "sac": Learner(SAC, sac(updates_per_step=1.0)),
    # PPO's defaults, the 2,048 steps of a round shared among the environments, but for rate and batch: with 3e-4 and
    # 64 the last training episodes gave -5.4 on Particle and -5.8 on Reacher, so they gave -5.1 and -5.6 (seed 0).
    "ppo": Learner(
        PPO,
        {"n_steps": 2048 // ENVIRONMENTS, "learning_rate": 1e-3, "batch_size": 128},
        normalize_rewards=True,
    ),
    "sac10x": Learner(SAC, sac(updates_per_step=0.125), factor=10),
}


@dataclass
class Reinforcement:
    """SAC and PPO on the planning problems."""

    envs: tuple[ProblemName, ...] = get_args(ProblemName)
    """In this order."""
    algorithms: tuple[LearnerName, ...] = ("sac", "ppo")
    """Each is run on every environment before the next; sac10x takes ten times the steps."""
    seeds: int = 1
    """Trainings of each, seeds 0, 1, ..."""
    steps: int = 100_000
    """Environment steps of a training, all environments together."""
    out: Path = Path("experiments/results")
    """Row files go to its folder `reinforcement`."""
    checkpoints: Path = Path("runs/reinforcement")
    """Folder of unfinished SAC runs."""
    until: str | None = None
    """HH:MM, local time, next to come: when to stop, whatever is under way."""


def observation(problem: Problem, env: gym.Env[Any, Any]) -> Callable[[dict[str, Any]], NDArray[np.float32]]:
    """State and goal in one vector, angles as sine and cosine: the policy need not learn where they wrap."""
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
    """The problem as the algorithms see it: one observation vector, actions in [-1, 1]; monitored for training.

    `bare` makes its environment where that is not the problem's own.
    """
    env = bare() if bare else gym.make(problem.env, **problem.arguments)
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
    """A fresh model with its training environments; ends by the time limit are bootstrapped (no real ends)."""
    envs: VecEnv = DummyVecEnv([lambda: make(problem, training=True, bare=bare)] * ENVIRONMENTS)
    if learner.normalize_rewards:
        envs = VecNormalize(envs, norm_obs=False, gamma=problem.gamma)
    settings = deepcopy(learner.settings)  # Stable-Baselines3 writes into policy_kwargs
    if learner.algorithm is SAC:
        settings["buffer_size"] = min(steps, 1_000_000)  # everything seen
    # Stable-Baselines3 seeds environment i with seed + i: neighbouring seeds would share all starts but one.
    (own,) = seeds(seed, "reinforcement learning", 1)
    return learner.algorithm("MlpPolicy", envs, gamma=problem.gamma, seed=own, device="cpu", **settings)


class Watch(BaseCallback):
    """Keeps the progress, calls `save` every `CHECKPOINT_EVERY` steps, and ends training at `deadline` or a signal."""

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
        return time.time() < self.deadline and not signal_waits()


def train(
    problem: Problem, learner: Learner, seed: int, steps: int, *, checkpoint: Path, deadline: float
) -> tuple[SAC | PPO, Progress]:
    """Train to `steps` environment steps, from the checkpoint where there is one, or until `deadline`.

    Ctrl-C (and SIGTERM in a program) waits until the step under way is done and a checkpoint, of SAC, is written.
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
    """The model's most likely actions (Stable-Baselines3 draws them where it is not told otherwise)."""

    model: SAC | PPO

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        return self.model.predict(observation, state, episode_start, deterministic=True)


def evaluate(model: SAC | PPO, problem: Problem) -> dict[str, Any]:
    """Deterministic episodes, in the problem's own units."""
    outcome = run_episodes(
        Deterministic(model), [make(problem) for _ in range(problem.episodes)], seed=EVALUATION_SEED
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


def one_run(
    settings: Reinforcement, name: ProblemName, algorithm: LearnerName, seed: int, deadline: float
) -> Path | None:
    """Train, evaluate and write one row; None where the deadline came first, the path where it is there."""
    steps = settings.steps * LEARNERS[algorithm].factor
    path = settings.out / "reinforcement" / f"{name}-{algorithm}-{steps}-seed{seed}.json"
    with locked(path.with_name(f".{path.name}.lock"), "out"):
        if not path.exists():
            return _one_run(settings, name, algorithm, seed, deadline, path)
        check_finished(path, name, algorithm)
        return path


def check_finished(path: Path, name: str, algorithm: str) -> None:
    """Raise `InputError` unless `path` holds the row of a finished run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = (found["results"]["problem"], found["results"]["method"]) == (name, algorithm)
    except (ValueError, LookupError, TypeError, RecursionError):
        whole = False
    require(
        whole, "out", given=f"{path}, which is damaged", expected=f"a row of {name}, {algorithm}, or none"
    )


def _one_run(
    settings: Reinforcement, name: ProblemName, algorithm: LearnerName, seed: int, deadline: float, path: Path
) -> Path | None:
    problem, learner = PROBLEMS[name], LEARNERS[algorithm]
    steps = settings.steps * learner.factor
    checkpoint = settings.checkpoints / f"{path.stem}.pt"
    # Taken before the run: the commit is that of the code which runs, whatever is committed meanwhile.
    command = f"--envs {name} --algorithms {algorithm} --seeds {seed + 1} --steps {settings.steps}"
    origin = provenance(f"python -m experiments.planning.reinforcement {command}", [seed], 0.0)
    started = time.perf_counter()
    model, progress = train(problem, learner, seed, steps, checkpoint=checkpoint, deadline=deadline)
    if progress.steps < steps:
        return None
    row = {
        "env": problem.env,
        "problem": name,
        "arguments": problem.arguments,
        "method": algorithm,
        "seeds": [seed],
        **evaluate(model, problem),
        "env_steps": progress.steps,
        "train_seconds": progress.seconds,
        "train_cpu_seconds": progress.cpu_seconds,
        "training_curve": progress.curve,
        "hyperparameters": hyperparameters(problem, learner),
    }
    origin |= {"seconds": round(time.perf_counter() - started, 3)}
    write_record(path, row, origin)
    checkpoint.unlink(missing_ok=True)
    print(
        f"{datetime.now():%H:%M:%S}  {path.stem}  return {row['return_mean']:.2f}  success {row['success']:.2f}  "
        f"{progress.seconds:.0f} s, {progress.cpu_seconds:.0f} s of a core",
        flush=True,
    )
    return path


def runs(settings: Reinforcement) -> Iterator[tuple[ProblemName, LearnerName, int]]:
    for algorithm, seed, name in product(settings.algorithms, range(settings.seeds), settings.envs):
        yield name, algorithm, seed


def next_time(clock: str | None) -> float:
    """Seconds since the epoch at the next HH:MM of local time; infinity for None."""
    if clock is None:
        return float("inf")
    try:
        wanted = datetime.strptime(clock, "%H:%M")
    except ValueError:
        require(False, "until", given=repr(clock), expected="HH:MM")
        raise
    now = datetime.now()
    when = now.replace(hour=wanted.hour, minute=wanted.minute, second=0, microsecond=0)
    return (when if when > now else when + timedelta(days=1)).timestamp()


def train_all(settings: Reinforcement) -> list[Path]:
    """Every run that is not there yet, up to the deadline; the row files that are there then."""
    ebm_envs.register_envs()
    require_number("seeds", settings.seeds, 1, whole=True)
    require_number("steps", settings.steps, 1, whole=True)
    chosen("envs", settings.envs, PROBLEMS)
    chosen("algorithms", settings.algorithms, LEARNERS)
    deadline, written = next_time(settings.until), []
    for name, algorithm, seed in runs(settings):
        try:
            path = one_run(settings, name, algorithm, seed, deadline)
        except KeyboardInterrupt as stop:
            where = f"within {name}, {algorithm}, seed {seed}; the same command goes on"
            raise type(stop)(where) from stop
        if path is None:
            print(f"{datetime.now():%H:%M:%S}  stopped within {name}, {algorithm}, seed {seed}", flush=True)
            break
        written.append(path)
    return written


def main() -> None:
    torch.set_num_threads(1)  # small networks: a second thread costs more than it does
    train_all(tyro.cli(Reinforcement))


if __name__ == "__main__":
    as_program(main)
