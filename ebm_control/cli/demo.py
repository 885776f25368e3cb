"""`ebm-control demo`: the whole pipeline on one robot, from rollouts to control, with measured results."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ebm_control.checks import require_seed
from ebm_control.cli import figures
from ebm_control.cli.limits import require_counts
from ebm_control.cli.run_folder import RunFolder, whole_file
from ebm_control.control.planner import planner_for
from ebm_control.data.mujoco_rollout import collect_mujoco
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.energies.costs import GoalCost
from ebm_control.models.prediction_error import prediction_error
from ebm_control.models.trajectory import ModelSettings, TrajectoryModel
from ebm_control.models.trajectory_fit import TrainSettings, fit_model
from ebm_control.planning.agent import MPCAgent
from ebm_control.planning.episodes import Episodes, run_episodes
from ebm_control.provenance import provenance
from ebm_control.samplers import trajectory_sampler
from ebm_envs.reacher import ENV, GOAL, SUCCESS, spread_starts

EPISODE = 50  # steps


@dataclass
class Demo:
    """Reacher, end to end: collect, train, predict, plan with several samplers, compare with the oracle."""

    out: Path = Path("runs/demo")
    """Run folder."""
    steps: int = 100_000
    """Random transitions for training."""
    episodes: int = 50
    """Episodes at the fixed goal, and as many at random goals."""
    mppi_episodes: int = 3
    """Episodes at the fixed goal with MPPI."""
    seed: int = 0
    """Seed of all random numbers."""
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            ModelSettings(hidden=(128, 128)), updates=600, base_updates=6000
        )
    )
    """Training settings."""

    def run(self) -> dict[str, Any]:
        """Run all steps, print one table, and write the summary and the figures."""
        require_counts(self, "steps", low=2 * EPISODE)
        require_counts(self, "episodes", "mppi_episodes")
        require_seed("seed", self.seed)
        with RunFolder(self.out, self) as folder:
            folder.clear()
            return self._all(folder)

    def _all(self, folder: RunFolder) -> dict[str, Any]:
        started, console = time.perf_counter(), Console()
        console.print(f"[bold]1/4[/] collecting {self.steps:,} random transitions")
        buffer, collected = self._collect()
        console.print(f"[bold]2/4[/] training the energy ({self.train.updates} updates)")
        model, trained = self._train(buffer)
        console.print("[bold]3/4[/] predicting 20 steps ahead")
        predicted = self._predict(model, folder)
        console.print("[bold]4/4[/] planning")
        planned = self._plan(model, folder)
        seconds = time.perf_counter() - started
        command = f"ebm-control demo --seed {self.seed}"
        summary = {
            "collect": collected,
            "train": trained,
            "prediction": predicted,
            **planned,
            "provenance": provenance(command, [self.seed], seconds),
        }
        folder.summarise(summary)
        console.print(_table(summary))
        console.print(f"{seconds:.0f} s in all; figures and summary.json in {self.out}")
        return summary

    def _collect(self) -> tuple[RolloutBuffer, dict[str, Any]]:
        started = time.perf_counter()
        buffer = collect_mujoco(ENV, self.steps, episode_length=EPISODE, seed=self.seed, starts=spread_starts)
        seconds = time.perf_counter() - started
        return buffer, {
            "transitions": len(buffer),
            "seconds": seconds,
            "steps_per_second": len(buffer) / seconds,
        }

    def _train(self, buffer: RolloutBuffer) -> tuple[TrajectoryModel, dict[str, Any]]:
        started = time.perf_counter()
        model = fit_model(buffer, self.train, folder=self.out)
        outcome = model.training
        return model, {
            "seconds": time.perf_counter() - started,
            "updates": outcome.updates,
            "base_updates": self.train.base_updates,
            "rollbacks": outcome.rollbacks,
            **outcome.metrics,
        }

    def _predict(self, model: TrajectoryModel, folder: RunFolder) -> dict[str, Any]:
        fresh = collect_mujoco(ENV, 5000, episode_length=EPISODE, seed=self.seed + 1000, starts=spread_starts)
        started = time.perf_counter()
        cold = prediction_error(
            model,
            fresh,
            20,
            windows=200,
            sampler=trajectory_sampler(model.energy, temperature=0),
            seed=self.seed,
        )
        seconds = time.perf_counter() - started
        sampled = prediction_error(model, fresh, 20, windows=200, samples=8, seed=self.seed)
        with whole_file(folder.figures / "energy.png") as path:
            figures.energy_along(path, model, fresh)
        with whole_file(folder.figures / "prediction.png") as path:
            figures.predicted_against_true(path, model.layout, sampled)
        return {
            "rmse_1": float(cold.rmse[0]),
            "rmse_20": float(cold.rmse[19]),
            "rmse_1_sampled": float(sampled.rmse[0]),
            "rmse_20_sampled": float(sampled.rmse[19]),
            "rmse_20_no_change": float(cold.rmse_still[19]),
            "seconds": seconds,
        }

    def _plan(self, model: TrajectoryModel, folder: RunFolder) -> dict[str, Any]:
        fixed = self._drive(self._agent(model, "gauss-newton"), self.episodes, "fixed goal")
        random = self._drive(self._agent(model, "gauss-newton"), self.episodes, "random goals", goal="random")
        searched = self._drive(self._agent(model, "mppi"), self.mppi_episodes, "MPPI")
        single = self._show(self._agent(model, "gauss-newton"), model, folder)
        oracle = [_oracle(o, GOAL) for o in fixed.observations[0]]
        rng = np.random.default_rng(self.seed)
        plan = _figures(fixed) | {
            "random_return": _random_return(self.episodes, rng),
            "oracle_return": float(np.mean(oracle)),
            "seconds_p50": float(np.quantile(single.seconds, 0.5)),
            "seconds_p95": float(np.quantile(single.seconds, 0.95)),
            "batch_seconds_p50": float(np.quantile(fixed.seconds, 0.5)),
            "batch_seconds_p95": float(np.quantile(fixed.seconds, 0.95)),
        }
        return {
            "plan": plan,
            "plan_random_goals": _figures(random),
            "plan_by_sampler": {"mppi_actions": _figures(searched)},
        }

    def _agent(self, model: TrajectoryModel, sampler: str) -> MPCAgent:
        space = gym.make(ENV).action_space
        assert isinstance(space, gym.spaces.Box)
        cost = 20 * GoalCost(model.layout, (0, 1), smooth=0.02)
        planner = planner_for(model, cost, 15, sampler=sampler, action_space=space)
        return MPCAgent(planner, model.normalizer, space, seed=self.seed)

    def _drive(self, agent: MPCAgent, episodes: int, title: str, goal: Any = GOAL) -> Episodes:
        environments = [gym.make(ENV, goal=goal) for _ in range(episodes)]
        return run_episodes(agent, environments, seed=self.seed, progress=title)

    def _show(self, agent: MPCAgent, model: TrajectoryModel, folder: RunFolder) -> Episodes:
        """Run one episode by itself: its pictures, and the planning time for one start state."""
        recorder = _Recorder(gym.make(ENV, render_mode="rgb_array", goal=GOAL))
        episodes = run_episodes(agent, [recorder], seed=self.seed)
        with whole_file(folder.figures / "episode.gif") as path:
            figures.animation(path, recorder.frames)
        with whole_file(folder.figures / "plan.png") as path:
            figures.plan_and_path(path, model.normalizer, episodes, (0, 1), agent.action_box)
        pictures = [folder.figures / f"{name}.png" for name in ("plan", "energy")]
        with whole_file(folder.figures / "overview.png") as path:
            figures.overview(path, recorder.frames, pictures)
        return episodes


class _Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Records the frame of every step."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.frames: list[NDArray[np.uint8]] = []

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step and render."""
        outcome = self.env.step(action)
        self.frames.append(np.asarray(self.env.render()))
        return outcome


def _figures(episodes: Episodes) -> dict[str, Any]:
    distance = -episodes.last_rewards
    return {
        "return_mean": episodes.mean,
        "return_ci95": episodes.ci95,
        "success_rate": float((distance < SUCCESS).mean()),
        "final_distance_mean": float(distance.mean()),
        "episodes": len(episodes.returns),
        "seconds": float(episodes.seconds.sum()),
    }


def _oracle(observation: NDArray[Any], goal: tuple[float, ...]) -> float:
    from ebm_envs.oracles import reacher_oracle  # loads MuJoCo, which other commands do not need

    return float(reacher_oracle(observation, np.array(goal)).return_)


def _random_return(episodes: int, rng: np.random.Generator) -> float:
    class Uniform:
        def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> tuple[Any, None]:
            return rng.uniform(-1, 1, (len(observation["observation"]), 2)), None

    return run_episodes(Uniform(), [gym.make(ENV, goal=GOAL) for _ in range(episodes)]).mean


def _table(summary: dict[str, Any]) -> Table:
    plan, goals, by = summary["plan"], summary["plan_random_goals"], summary["plan_by_sampler"]
    table = Table("what", "figure", title="Reacher: an energy over trajectories, end to end")

    def planned(row: dict[str, Any]) -> str:
        interval = f"{row['return_mean']:.2f}"
        if row["episodes"] > 1:
            interval += f" ± {row['return_ci95']:.2f}"
        return f"{interval}, success {row['success_rate']:.2f} ({row['episodes']} episodes)"

    collect, train, predicted = summary["collect"], summary["train"], summary["prediction"]
    table.add_row("collection", f"{collect['steps_per_second']:,.0f} steps/s")
    table.add_row("training", f"{train['seconds']:.0f} s, {train['updates']} updates")
    table.add_row("prediction RMSE, 1 step", f"{predicted['rmse_1']:.2g} of a state's deviation")
    table.add_row("prediction RMSE, 20 steps", f"{predicted['rmse_20']:.2g}")
    table.add_row("random actions, fixed goal", f"{plan['random_return']:.1f}")
    table.add_row("oracle, fixed goal", f"{plan['oracle_return']:.2f}")
    table.add_row("second order, fixed goal", planned(plan))
    table.add_row("second order, random goals", planned(goals))
    table.add_row("MPPI over actions, fixed goal", planned(by["mppi_actions"]))
    table.add_row(
        "plan time, one start",
        f"p50 {plan['seconds_p50'] * 1e3:.1f} ms, p95 {plan['seconds_p95'] * 1e3:.1f} ms",
    )
    return table
