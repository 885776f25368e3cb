"""`ebm-control plan`: control an environment by planning with a trained energy, for goals or a learned reward."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ebm_control.checks import InputError, require, require_seed
from ebm_control.cli import figures
from ebm_control.cli.data import DataSettings
from ebm_control.cli.environment import EnvironmentSettings
from ebm_control.cli.limits import require_counts, require_numbers
from ebm_control.cli.run_folder import RunFolder, plain, whole_file
from ebm_control.cli.world import World
from ebm_control.control.planner import planner_for
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.energies.base import Energy
from ebm_control.energies.costs import GoalCost, RewardCost
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.models.reward import EndNetwork, LearnedReturn, RewardNetwork
from ebm_control.models.reward_fit import fit_ends, fit_reward
from ebm_control.models.trajectory import TrajectoryModel
from ebm_control.planning import Episodes, MPCAgent, evaluate
from ebm_control.training.regression import seeded


@dataclass(kw_only=True)
class GoalSettings:
    """Flags of the planning objective, inherited by commands that plan."""

    goal_index: tuple[int, ...] = (0, 1)
    """Observation coordinates that the environment's goal refers to."""
    goal_weight: float = 20.0
    """Weight of the L1 distance to the goal, in normalised units."""
    reward_weight: float = 20.0
    """Weight of a learned reward, in units of the initial rewards' std; for environments without goals."""

    def check_goal(self) -> None:
        """Raise `InputError` if a weight is out of range."""
        require_numbers(self, "goal_weight", "reward_weight", above=True)

    def goal_cost(self, layout: TrajectoryLayout) -> Energy:
        """Cost of the distance between a plan and the environment's goal."""
        return self.goal_weight * GoalCost(layout, self.goal_index, smooth=0.02)


@dataclass
class Plan(GoalSettings, EnvironmentSettings, DataSettings):
    """Control an environment by minimising a trained energy (MPC), for its goals or for a learned reward."""

    checkpoint: Path
    """Run folder of `ebm-control train`, or a checkpoint in it."""
    env: str
    """An environment with goals (observation, achieved_goal, desired_goal), such as ebm/Reacher-v0; or any environment
    with --reward learned."""
    out: Path = Path("runs/plan")
    """Run folder: figures and summary."""
    episodes: int = 10
    """Number of episodes, run in parallel."""
    sampler: Literal["gauss-newton", "langevin", "mppi", "cem"] | None = None
    """Sampler that minimises the energy; default: second-order steps for an energy with actions and a regression base.
    A learned reward is planned for over actions: not with second-order steps, and by default with Langevin. Discrete
    actions are searched for (cem) by default."""
    horizon: int = 15
    """Planning horizon in steps."""
    reward: Literal["goal", "learned"] = "goal"
    """Objective of plans: the distance to the environment's goal, or a reward (with the ends of episodes) fitted to
    --data."""
    data: str | None = None
    """Rollouts with rewards for fitting the reward, such as the training data of the energy; see train --help."""
    reward_updates: int = 2000
    """Updates of the learned reward."""
    random_goals: bool = False
    """Draw a goal for each episode (environments that take `goal="random"`)."""
    seed: int = 0
    """Seed of episodes, chains and the learned reward."""

    def run(self) -> dict[str, Any]:
        """Run the episodes and plot; returns the summary."""
        self.check_data()
        require_counts(self, "episodes", "horizon", "reward_updates")
        self.check_goal()
        require_seed("seed", self.seed)
        make = self.made_from(self.env)
        model = TrajectoryModel.load(self.checkpoint)
        history = 1 if model.normalizer.form is None else model.normalizer.form.history
        world = World.of(make, self.env, self.goal_index, history)
        learned = self.reward == "learned"
        require(
            learned or world.goal is not None,
            "env",
            given=f"{self.env}, which has none",
            expected="an environment with goals (observation, achieved_goal, desired_goal), or --reward learned",
        )
        world.require_model(model.normalizer)
        require(
            not (learned and self.sampler == "gauss-newton"),
            "sampler",
            given="gauss-newton",
            expected="langevin, mppi or cem with --reward learned, whose plans are over actions",
        )
        buffer = self._rewarded(model) if learned else None
        env = self._environment()
        with RunFolder(self.out, self) as folder:
            told: dict[str, Any] = {}
            cost = self.goal_cost(model.layout)
            if buffer is not None:
                cost, told = self._reward_cost(model, buffer)
            planner = planner_for(
                model,
                cost,
                self.horizon,
                sampler=self.sampler,
                action_space=world.action,
                shooting=True if learned else None,
            )
            agent = MPCAgent(planner, model.normalizer, **world.native, seed=self.seed)
            episodes = evaluate(agent, env, self.episodes, seed=self.seed, progress=True)
            times = {f"seconds_p{q}": float(np.quantile(episodes.seconds, q / 100)) for q in (50, 95)}
            summary = outcome_of(episodes) | times | told
            folder.summarise(summary)
            with whole_file(folder.figures / "plan.png") as path:
                figures.plan_and_path(path, model.normalizer, episodes, self.goal_index, world.action)
        return plain(summary)

    def _environment(self) -> Any:
        """A function that makes an environment; raises `InputError` if it does not accept random goals."""
        if not self.random_goals:
            return self.made_from(self.env)
        env = self.made_from(self.env, goal="random")
        try:
            env().close()
        except InputError as error:
            raise InputError(
                f"random_goals: expected an environment that takes goal='random', got {self.env}"
            ) from error
        return env

    def _rewarded(self, model: TrajectoryModel) -> RolloutBuffer:
        """The data for fitting a reward."""
        if self.data is None:
            raise InputError(
                "data: expected rollouts to learn the reward from, got none with --reward learned"
            )
        buffer = self.load_data(self.data)
        layout = model.normalizer.layout
        require(
            (buffer.obs_dim, buffer.act_dim) == (layout.obs_dim, layout.act_dim),
            "data",
            given=f"{buffer.obs_dim} and {buffer.act_dim}",
            expected=f"{layout.obs_dim} observation and {layout.act_dim} action coordinates, as the model has",
        )
        recorded = [episode.rewards is not None for episode in buffer.episodes()]
        require(
            len(recorded) > 0 and all(recorded),
            "data",
            given=f"{len(recorded) - sum(recorded)} of {len(recorded)} episodes without",
            expected="rewards in all episodes (collect without --fast)",
        )
        return buffer

    def _reward_cost(self, model: TrajectoryModel, buffer: RolloutBuffer) -> tuple[Energy, dict[str, Any]]:
        """Cost of a plan from a reward learned as in `ebm-control online`, and the errors of that reward."""
        normalizer, layout = model.normalizer, model.normalizer.layout
        with seeded(self.seed):
            reward, end = RewardNetwork(layout), EndNetwork(layout)
        error = fit_reward(reward, buffer, normalizer, self.reward_updates, seed=self.seed)
        ends = fit_ends(end, buffer, normalizer, self.reward_updates, seed=self.seed)
        cost = RewardCost(layout, LearnedReturn(reward, end) if ends else reward)
        return self.reward_weight * cost, {"reward_error": error}


def outcome_of(episodes: Episodes) -> dict[str, Any]:
    """Metrics of episodes for the summary."""
    return {
        "return_mean": episodes.mean,
        "return_ci95": episodes.ci95,
        "last_reward_mean": float(episodes.last_rewards.mean()),
        "success_rate": episodes.success_rate,
        "returns": episodes.returns,
    }
