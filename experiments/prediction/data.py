"""The datasets of the prediction experiment: environments, their policies, and the files of the data."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from ebm_control.checks import InputError, require
from ebm_control.data import RolloutBuffer, collect, collect_mujoco
from ebm_envs.reacher import spread_starts

FOLDER = Path("runs/prediction/data")
HELD_SEED = 10_000  # added to the seed for held-out data: far from the seeds of training data
STREAMS = "v2"  # version of the random number streams, in file names: data of other versions are not reused
QUICK = 10  # factor by which quick data are fewer
WINDOW_STEPS = 150  # of an episode, if its own limit is too short for a history and 100 predicted steps
ENVIRONMENTS = 8  # in parallel, in training and in collection
POLICY_SEED = 0
EVALUATION_SEED = 20_000
EVALUATION_EPISODES = 16


@dataclass(frozen=True)
class Dataset:
    """Episodes of one environment under one policy.

    Attributes:
        name: name in the table.
        env: Gymnasium id, with the module that registers it if that is not Gymnasium or this project.
        policy: uniformly random actions, or those sampled from `policy_of`.
        steps: training transitions.
        held: transitions of the held-out episodes.
        limit: steps of an episode; None for the environment's own limit.
        slow: whether collection takes minutes; if so, all training seeds use the data of seed 0.

    """

    name: str
    env: str
    policy: Literal["random", "trained"] = "random"
    steps: int = 100_000
    held: int = 20_000
    limit: int | None = None
    slow: bool = False

    def make(self) -> gym.Env[Any, Any]:
        """Build one environment.

        Raises:
            InputError: its package is not installed.

        """
        try:
            return gym.make(self.env, max_episode_steps=self.limit)
        except ModuleNotFoundError as error:
            raise InputError(
                f"name: expected a dataset whose environment is installed, got {self.name!r} ({error}); "
                "the hands need the extra `robotics`"
            ) from error


# Hopper's episodes end when it falls, after about 20 random steps: a horizon of 100 does not fit.
DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset("reacher", "ebm/Reacher-v0", limit=WINDOW_STEPS),
        Dataset("halfcheetah-random", "HalfCheetah-v5"),
        Dataset("halfcheetah-trained", "HalfCheetah-v5", "trained", slow=True),
        Dataset("hopper-random", "Hopper-v5"),
        Dataset("hopper-trained", "Hopper-v5", "trained", slow=True),
        Dataset("hand-reach", "gymnasium_robotics:HandReach-v3", limit=WINDOW_STEPS, slow=True),
        Dataset("hand-block", "gymnasium_robotics:HandManipulateBlock-v1", limit=WINDOW_STEPS, slow=True),
        Dataset("fork", "ebm/Fork-v0", steps=200_000, held=20_000),
    )
}


@dataclass(frozen=True)
class Training:
    """Training of a policy: minutes on one core, for a policy of moderate quality."""

    algorithm: type[SAC] | type[PPO]
    steps: int  # environment steps, over all parallel environments
    settings: dict[str, Any] = field(default_factory=dict)  # other than Stable-Baselines3's defaults

    @property
    def name(self) -> str:
        return self.algorithm.__name__.lower()


TRAININGS: dict[str, Training] = {
    # Mean return after five minutes on one core, seed 0: 3,384; default rate: 975; PPO (500,000 steps): 1,139.
    "HalfCheetah-v5": Training(
        SAC,
        40_000,
        {
            "gradient_steps": ENVIRONMENTS,  # one update per environment step
            "learning_starts": 1000,
            "buffer_size": 40_000,  # all transitions
            "learning_rate": 1e-3,
            "policy_kwargs": {"net_arch": [128, 128]},
        },
    ),
    # 2,048 steps per round, over all environments.
    "Hopper-v5": Training(PPO, 500_000, {"n_steps": 2048 // ENVIRONMENTS}),
}


def load(
    name: str, seed: int, folder: Path = FOLDER, quick: bool = False
) -> tuple[RolloutBuffer, RolloutBuffer]:
    """Training data and held-out episodes, from their files in `folder`, or collected and stored there.

    Args:
        name: name of the dataset.
        seed: seed of the training data; the held-out episodes are collected separately, with distant seeds.
        folder: folder of the files, created if needed.
        quick: a tenth of both, for trials; only for datasets with random actions. No policy is trained for a trial,
            because a short training would give other data under the same name.

    Raises:
        InputError: an unknown name, quick data of a trained policy, or an environment that is not installed.

    """
    require(name in DATASETS, "name", given=repr(name), expected=f"one of {', '.join(DATASETS)}")
    dataset = DATASETS[name]
    possible = dataset.policy == "random" or not quick
    require(
        possible, "quick", given=f"{quick} for {name!r}", expected="False where a policy has to be trained"
    )
    share = QUICK if quick else 1
    training = _kept(dataset, dataset.steps // share, seed, folder)
    return training, _kept(dataset, dataset.held // share, seed + HELD_SEED, folder)


def _kept(dataset: Dataset, steps: int, seed: int, folder: Path) -> RolloutBuffer:
    """The data of the file, collected first if it does not exist; parallel processes collect the same data."""
    path = folder / f"{dataset.name}-seed{seed}-{steps}-{STREAMS}.npz"
    if not path.exists():
        collected = _collected(dataset, steps, seed, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        collected.save(path)
    return RolloutBuffer.load(path)


def _collected(dataset: Dataset, steps: int, seed: int, folder: Path) -> RolloutBuffer:
    if dataset.policy == "trained":
        model = policy_of(dataset.env, folder)
        with _torch(seed):
            return collect(
                dataset.make, steps, Stochastic(model), num_envs=ENVIRONMENTS, seed=seed, progress=False
            )
    if dataset.env == "ebm/Reacher-v0":
        return collect_mujoco(dataset.make, steps, seed=seed, threads=1, starts=spread_starts)
    if dataset.env == "HalfCheetah-v5":
        return collect_mujoco(dataset.make, steps, seed=seed, threads=1)
    # Hopper must end when it falls; actions of the hands are shares of each control's range, not the controls.
    return collect(dataset.make, steps, num_envs=ENVIRONMENTS, seed=seed, progress=False)


@dataclass(frozen=True)
class Stochastic:
    """Actions sampled from the policy's distribution, so that the data are diverse."""

    model: SAC | PPO

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        return self.model.predict(observation, state, episode_start, deterministic=False)


def policy_of(env: str, folder: Path = FOLDER) -> SAC | PPO:
    """The policy trained for `env`, from its file in `folder`, or trained and stored there with its record.

    Raises:
        InputError: there is no training for `env`.

    """
    path = _policy_path(env, folder)
    training = TRAININGS[env]
    with _torch(POLICY_SEED):  # loading also seeds torch
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            model, record = _train(env, training)
            # The record is written first, so that every stored policy has one.
            text = json.dumps(record, indent=2) + "\n"
            _replace(path.with_suffix(".json"), lambda new: new.write_text(text))
            _replace(path, model.save)
        return training.algorithm.load(path, device="cpu")


def _policy_path(env: str, folder: Path) -> Path:
    require(env in TRAININGS, "env", given=repr(env), expected=f"one of {', '.join(TRAININGS)}")
    return folder / f"{env}-{TRAININGS[env].name}-{TRAININGS[env].steps}.zip"


def _train(env: str, training: Training) -> tuple[SAC | PPO, dict[str, Any]]:
    started, cpu = time.perf_counter(), time.process_time()
    envs = make_vec_env(env, ENVIRONMENTS, seed=POLICY_SEED)
    settings = deepcopy(training.settings)  # Stable-Baselines3 modifies policy_kwargs
    model = training.algorithm("MlpPolicy", envs, seed=POLICY_SEED, device="cpu", **settings)
    model.learn(training.steps)
    envs.close()
    record = {
        "env": env,
        "algorithm": training.name,
        "seed": POLICY_SEED,
        "steps": model.num_timesteps,
        "settings": training.settings,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
    }
    tests = make_vec_env(env, ENVIRONMENTS, seed=EVALUATION_SEED)
    record |= {"stochastic": _score(model, tests, False), "deterministic": _score(model, tests, True)}
    tests.close()
    return model, record


def _score(model: SAC | PPO, envs: VecEnv, deterministic: bool) -> dict[str, Any]:
    returns, lengths = evaluate_policy(
        model,
        envs,
        n_eval_episodes=EVALUATION_EPISODES,
        deterministic=deterministic,
        return_episode_rewards=True,
    )
    assert isinstance(returns, list)
    return {"return_mean": sum(returns) / len(returns), "returns": returns, "lengths": lengths}


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` create a temporary file next to `path`, and rename it when it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _torch(seed: int) -> Iterator[None]:
    """Seed torch and use one thread, the fastest for small networks; the caller's state is restored afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
