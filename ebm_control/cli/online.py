"""`ebm-control online`: learn a model from scratch while planning with it, for goals or for a learned reward."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ebm_control.checks import require, require_seed
from ebm_control.cli.environment import EnvironmentSettings
from ebm_control.cli.limits import require_counts, require_numbers
from ebm_control.cli.plan import GoalSettings, outcome_of
from ebm_control.cli.run_folder import RunFolder, plain, read_settings, whole_file
from ebm_control.cli.world import World
from ebm_control.extras import new_figure
from ebm_control.online import FrontierGoals, LearnedReward, OnlineLearning, OnlinePlanner, OnlineSettings
from ebm_control.online.progress import Progress
from ebm_control.planning import Episodes, evaluate
from ebm_control.provenance import provenance
from ebm_control.training.run_folder import newest_checkpoint


@dataclass
class Online(GoalSettings, EnvironmentSettings):
    """Learn an environment while acting in it, by planning with the current model."""

    env: str
    """Any environment whose spaces are numbers and choices. With goals (observation, achieved_goal, desired_goal) they
    are the task; without, its reward is."""
    out: Path = Path("runs/online")
    """Run folder: settings, experience, events, checkpoints, figure, summary."""
    model: Literal["energy", "feed-forward", "ensemble"] = "energy"
    """The model: an energy, a feed-forward network, or an ensemble of five."""
    online: OnlineSettings = field(default_factory=OnlineSettings)
    """Settings of acting and learning."""
    horizon: int = 12
    """Planning horizon in steps."""
    sampler: Literal["langevin", "cem", "mppi"] | None = None
    """Planner: by gradients (langevin), or by search over actions (cem, mppi); default: cem for discrete actions or a
    history, langevin for others."""
    evaluate: int = 10
    """Evaluation episodes at the end, without noise, replanning at every step."""
    explore: bool = False
    """Until the evaluation, head for places that were not visited yet instead of the environment's goals."""
    place: float | None = None
    """Size of a place to explore, in raw units; default: 7 % of the range of the goals."""
    periods: tuple[float, ...] | None = None
    """Period of each observation coordinate, 0 if it does not wrap around; default: what the environment declares."""
    history: int = 1
    """Observations that a state holds, with the actions between them: more than 1 where velocities are hidden."""
    resume: bool = False
    """Continue from the newest checkpoint of the run folder."""
    seed: int = 0
    """Seed of all random numbers; it replaces --online.seed."""

    def run(self) -> dict[str, Any]:
        """Learn, evaluate and plot; returns the summary."""
        world = self._check()
        goals = world.frontier(self.place, self.seed) if self.explore else None
        with RunFolder(self.out, self) as folder:
            if not self.resume:
                folder.clear()
            return self._learn(world, goals, folder)

    def _learn(self, world: World, goals: FrontierGoals | None, folder: RunFolder) -> dict[str, Any]:
        started = time.perf_counter()
        reward = LearnedReward(seed=self.seed) if world.goal is None else None
        planner = OnlinePlanner(
            self.horizon,
            reward=reward,
            goal_index=self.goal_index,
            goal_weight=self.goal_weight,
            reward_weight=self.reward_weight,
            sampler=self.sampler,
        )
        env = self.made_from(self.env)
        learning = OnlineLearning(
            env,
            self.model,
            planner,
            replace(self.online, seed=self.seed),
            goals=goals,
            folder=self.out,
            resume=self.resume,
            # Empty arguments are not compared, so that runs from before these flags can be resumed.
            about={name: value for name, value in self.about().items() if name != "online" and value != []},
            periods=self.periods,
            history=self.history,
        )
        if goals is not None and learning.progress.step:
            _recall(goals, learning)
        learning.run()
        seed = 10_000 + 1000 * self.seed  # starts and goals other than in training
        episodes = evaluate(learning.agent(), env, self.evaluate, seed=seed, progress=True)
        seconds = time.perf_counter() - started
        command = f"ebm-control online --env {self.env} --model {self.model} --seed {self.seed}"
        summary = {
            "steps": learning.progress.step,
            "episodes": len(learning.progress.episodes),
            "rounds": learning.progress.rounds,
            **outcome_of(episodes),
            **({} if reward is None else {"reward_error": reward.error}),
            **({} if goals is None else {"places": len(goals.memory.remembered())}),
            "plan_seconds_p50": float(np.quantile(episodes.seconds, 0.5)),
            "seconds": seconds,
            "provenance": provenance(command, [self.seed], seconds),
        }
        folder.summarise(summary)
        with whole_file(folder.figures / "learning_curve.png") as path:
            learning_curve(path, learning.progress, episodes)
        return plain(summary)

    def about(self) -> dict[str, Any]:
        """The settings that a resumed run must have in common with its first part, as read back from JSON."""
        known: dict[str, Any] = plain(self)
        for name in ("out", "resume", "evaluate"):
            del known[name]
        if self.model != "energy":  # an energy's sample buffer has a slot for each of these steps
            del known["online"]["steps"]
        return known

    def _check(self) -> World:
        """The environment's spaces; raises `InputError` for invalid settings before anything is written."""
        require_counts(self, "evaluate", "horizon", "history")
        self.check_goal()
        require_numbers(self, "place", above=True)
        require_seed("seed", self.seed)
        seed = self.online.seed
        require(seed in (0, self.seed), "online.seed", given=seed, expected="--seed instead")
        world = World.of(self.made_from(self.env), self.env, self.goal_index, history=self.history)
        if self.sampler is None:  # the settings of the run say which one it was
            self.sampler = "cem" if world.searched else "langevin"
        if newest_checkpoint(self.out, self.resume, "out") is not None:
            before = read_settings(self.out) or {}
            for name, now in _flat(self.about()).items():
                known = _flat(before).get(name, now)  # new settings are not compared
                require(known == now, name, given=now, expected=f"{known}, as in the run that is resumed")
        return world


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by the names of their flags, such as "online.steps"."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def _recall(goals: FrontierGoals, learning: OnlineLearning) -> None:
    """Mark the places that a resumed run has visited as visited."""
    states, _, _ = learning.experience.data.transitions()
    count = learning.settings.environments
    for first in range(0, len(states), count):
        seen = states[first : first + count]
        if bool(goals.memory.novel(torch.from_numpy(seen[:, goals.index])).any()):
            goals(seen, np.ones(len(seen), dtype=bool))


def learning_curve(path: Path, progress: Progress, final: Episodes, over: int = 20) -> Path:
    """Plot returns during learning, their mean over the last `over` episodes, and the final evaluation's mean."""
    figure = new_figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    steps, returns = (np.array([getattr(e, name) for e in progress.episodes]) for name in ("step", "return_"))
    ends = [int(np.flatnonzero(steps == step)[-1]) + 1 for step in np.unique(steps)]  # some end at once
    means = [returns[max(0, end - over) : end].mean() for end in ends]
    axes.plot(steps, returns, ".", color="grey", alpha=0.5, label="an episode")
    axes.plot(np.unique(steps), means, color="#1b6ca8", label=f"mean of the last {over}")
    axes.errorbar(
        [progress.step],
        [final.mean],
        [final.ci95],
        fmt="o",
        color="#d1495b",
        label="evaluation (95 %)",
    )
    axes.set(xlabel="environment steps", ylabel="return", title="Learning")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    return path
