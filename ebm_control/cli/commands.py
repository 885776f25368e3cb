"""`ebm-control collect | train | predict`: settings are dataclasses, flags are their fields."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ebm_control.checks import InputError, require, require_seed
from ebm_control.cli import figures
from ebm_control.cli.data import DataSettings
from ebm_control.cli.environment import EnvironmentSettings
from ebm_control.cli.limits import require_counts, require_numbers
from ebm_control.cli.run_folder import RunFolder, plain, whole_file
from ebm_control.data.collect import collect
from ebm_control.data.mujoco_rollout import collect_mujoco
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.extras import import_extra
from ebm_control.interrupts import uninterrupted
from ebm_control.models import PredictionError, prediction_error
from ebm_control.models.trajectory import TrajectoryModel
from ebm_control.models.trajectory_fit import TrainSettings, fit_model
from ebm_control.prediction import (
    calibration_error,
    energy_distance,
    frechet_distance,
    rank_histogram,
    segment_features,
)
from ebm_control.provenance import provenance, usable_cores
from ebm_control.samplers import trajectory_sampler
from ebm_control.training.checkpoint import one_line
from ebm_control.training.fitting import Training
from ebm_control.training.run_folder import newest_checkpoint


@dataclass
class Collect(EnvironmentSettings):
    """Collect rollouts from a Gymnasium environment with random actions or a trained SB3 policy."""

    env: str
    """Environment id, such as ebm/Reacher-v0 or HalfCheetah-v5."""
    out: Path = Path("runs/collect/data.npz")
    """Output file for the rollouts."""
    steps: int = 100_000
    """Number of transitions (environment steps over all environments)."""
    policy: Path | None = None
    """Zip of a Stable-Baselines3 policy (PPO, SAC, TD3, ...); default: random actions. Stable-Baselines3 unpickles the
    file, which may run code: pass only files you trust."""
    algorithm: str = "SAC"
    """Stable-Baselines3 class that wrote the zip."""
    fast: bool = False
    """Use mujoco.rollout: only MuJoCo environments and random actions; no rewards, and no terminations."""
    num_envs: int = 8
    """Environments stepped in parallel (ignored with --fast)."""
    periods: tuple[float, ...] | None = None
    """Period of each observation coordinate, 0 if it does not wrap around; default: what the environment declares."""
    history: int = 1
    """Observations that each recorded one holds, with the actions between them: more than 1 where velocities are
    hidden."""
    seed: int = 0
    """Seed of resets and actions."""

    def run(self) -> dict[str, Any]:
        """Collect and save; returns the summary with the speed."""
        require_counts(self, "steps", "num_envs", "history")
        require_seed("seed", self.seed)
        require(not (self.fast and self.policy), "policy", given=self.policy, expected="none with --fast")
        require(not self.fast or self.history == 1, "history", given=self.history, expected="1 with --fast")
        require(self.out.suffix == ".npz", "out", given=self.out, expected="a file that ends in .npz")
        require(not self.out.is_dir(), "out", given=f"the folder {self.out}", expected="a file")
        env = self.made_from(self.env)
        policy = "random" if self.policy is None else load_policy(self.policy, self.algorithm)
        with RunFolder(self.out.parent, self) as folder:
            started = time.perf_counter()
            try:
                if self.fast:
                    buffer = collect_mujoco(env, self.steps, seed=self.seed, periods=self.periods)
                else:
                    buffer = collect(
                        env,
                        self.steps,
                        policy,
                        num_envs=self.num_envs,
                        seed=self.seed,
                        periods=self.periods,
                        history=self.history,
                    )
            except (InputError, KeyboardInterrupt) as error:
                self._save_partial(error)
                raise
            seconds = time.perf_counter() - started
            buffer.save(self.out)
            summary = {
                "steps": len(buffer),
                "episodes": buffer.num_episodes,
                "seconds": seconds,
                "steps_per_second": len(buffer) / seconds,
                "file": str(self.out),
            }
            folder.summarise(summary)
        return summary

    def _save_partial(self, error: BaseException) -> None:
        """Save the complete transitions of a collection that ended early, next to `out`, and note it on `error`."""
        rollouts = getattr(error, "rollouts", None)
        if rollouts is None or len(rollouts) == 0:
            return
        path = self.out.with_suffix(".partial.npz")
        with uninterrupted():
            rollouts.save(path)
            error.add_note(f"{len(rollouts)} transitions, {rollouts.num_episodes} episodes, are in {path}")


@dataclass
class Train(DataSettings):
    """Train a trajectory energy on rollouts, with Langevin sampling and a sample buffer."""

    data: str
    """Rollouts: a .npz of `ebm-control collect`, a data set of D4RL, OGBench, robomimic or LeRobot, or a Minari id."""
    out: Path = Path("runs/train")
    """Run folder: settings, events, checkpoints, summary."""
    resume: bool = False
    """Continue from the newest checkpoint of the run folder."""
    train: TrainSettings = field(default_factory=TrainSettings)
    """Training settings."""

    def run(self) -> dict[str, Any]:
        """Train with checkpoints; returns the summary."""
        buffer = self.load_data(self.data)
        newest_checkpoint(self.out, self.resume, "out")
        with RunFolder(self.out, self) as folder:
            started = time.perf_counter()
            outcome = fit_model(buffer, self.train, folder=self.out, resume=self.resume).training
            seconds = time.perf_counter() - started
            summary = {
                "transitions": len(buffer),
                **training_summary(outcome, "ebm-control train", self.train.seed, seconds),
            }
            folder.summarise(summary)
            figures.training_curves(folder, self.out / "events")
        return summary


@dataclass
class Predict(DataSettings):
    """Predict futures with a trained energy and compare them with the true ones."""

    checkpoint: Path
    """Run folder of `ebm-control train`, or a checkpoint in it."""
    data: str
    """Held-out rollouts, as for `ebm-control train`."""
    out: Path = Path("runs/predict")
    """Run folder: figure, predictions as .npz, summary."""
    horizon: int = 20
    """Number of predicted states."""
    windows: int = 256
    """Number of histories, drawn from the data."""
    samples: int = 8
    """Sampled futures per history."""
    temperature: float = 1.0
    """1 samples the model, 0 searches for the most likely future."""
    langevin_steps: int | None = None
    """Steps of each chain; default: 30, or the noise levels that suit an energy of loss "dsm"."""
    seed: int = 0
    """Seed of histories and noise."""

    def run(self) -> dict[str, Any]:
        """Predict and plot; returns the summary with the errors."""
        self.check_data()
        require_counts(self, "horizon", "windows", "samples")
        if self.langevin_steps is not None:
            require_counts(self, "langevin_steps")
        require_numbers(self, "temperature")
        require_seed("seed", self.seed)
        model, buffer = TrajectoryModel.load(self.checkpoint), self.load_data(self.data)
        with RunFolder(self.out, self) as folder:
            return self._predict(model, buffer, folder)

    def _predict(self, model: TrajectoryModel, buffer: RolloutBuffer, folder: RunFolder) -> dict[str, Any]:
        started = time.perf_counter()
        error = prediction_error(
            model,
            buffer,
            self.horizon,
            windows=self.windows,
            samples=self.samples,
            sampler=trajectory_sampler(model.energy, self.langevin_steps, temperature=self.temperature),
            seed=self.seed,
        )
        seconds = time.perf_counter() - started
        with whole_file(self.out / "predictions.npz") as path:
            np.savez_compressed(
                path,
                states=error.prediction.states.numpy(),
                actions=error.prediction.actions.numpy(),
                energy=error.prediction.energy.numpy(),
                truth=error.truth.numpy(),
            )
        with whole_file(folder.figures / "prediction.png") as path:
            figures.predicted_against_true(path, model.layout, error)
        summary = {
            "rmse_1": float(error.rmse[0]),
            f"rmse_{self.horizon}": float(error.rmse[-1]),
            "rmse": error.rmse,
            "rmse_best": error.rmse_best,
            "rmse_still": error.rmse_still,
            **_laws(model, error, self.seed),
            "seconds": seconds,
            "ms_per_step": 1e3 * seconds / self.horizon,
        }
        folder.summarise(summary)
        return plain(summary)


def _laws(model: TrajectoryModel, error: PredictionError, seed: int) -> dict[str, float]:
    """Distances between the distributions of predicted and true last segments, and the calibration error."""
    states, truth, layout = error.prediction.states, error.truth, model.layout
    horizon, k = truth.shape[1], states.shape[1]
    found: dict[str, float] = {}
    if len(truth) > 1:
        length = min(3, horizon)
        units = {
            "state_unit": model.normalizer.state_std.float(),
            "displacement_unit": model.energy.displacement_scale,
        }
        made, true = (
            segment_features(x, layout, end=horizon, length=length, **units) for x in (states, truth)
        )
        found |= {
            "frechet": frechet_distance(made, true),
            "energy_distance": energy_distance(made, true, most=2000),
        }
    plain_ones = [i for i in range(layout.obs_dim) if i not in layout.periodic]  # periodic ones: no ranks
    if k > 1 and plain_ones:
        generator = torch.Generator().manual_seed(seed)
        ranks = rank_histogram(states[..., plain_ones], truth[..., plain_ones], horizon - 1, generator)
        found["calibration_error"] = calibration_error(ranks)
    return found


def training_summary(outcome: Training, command: str, seed: int, seconds: float) -> dict[str, Any]:
    """Summary of a fit; `seconds` is its total time, including everything before the first update."""
    return {
        "updates": outcome.updates,
        "seconds": seconds,
        "rollbacks": outcome.rollbacks,
        **outcome.metrics,
        "provenance": provenance(command, [seed], seconds),
    }


def use_threads(most: int) -> None:
    """Set torch's threads for the whole process: `OMP_NUM_THREADS`, else the usable cores, at most `most`.

    Only the larger networks of images gain from more than one thread. For small tensors, synchronising threads takes
    longer than the computation, and longer still if the other cores are busy.
    """
    if "OMP_NUM_THREADS" not in os.environ:  # otherwise torch has already read it
        torch.set_num_threads(min(usable_cores(), most))


def load_policy(path: Path, algorithm: str) -> Any:
    """Load a Stable-Baselines3 policy, after a warning that such a file may run code.

    Raises:
        InputError: Stable-Baselines3 is not installed, it has no such class, or the file is not one of its zips.

    """
    stable_baselines3 = import_extra("stable_baselines3", "sb3", "policy")
    base = import_extra("stable_baselines3.common.base_class", "sb3", "policy").BaseAlgorithm
    kind = getattr(stable_baselines3, algorithm, None)
    known = isinstance(kind, type) and issubclass(kind, base)
    require(known, "algorithm", given=algorithm, expected="a class of stable_baselines3, such as SAC or PPO")
    require(path.is_file(), "policy", given=f"{path}, which is no file", expected="a zip of a policy")
    print(
        f"warning: --policy unpickles {path}, which may run code: load only files you trust", file=sys.stderr
    )
    try:
        return kind.load(path, device="cpu")  # type: ignore[union-attr]
    except Exception as error:  # unpickled code can fail in any way
        raise InputError(
            f"policy: expected a zip that {algorithm}.save wrote, got {path} ({one_line(error)})"
        ) from error
