"""`ebm-control online`: from nothing to a model that plans, for goals or for the reward, which is learned too."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from matplotlib.figure import Figure

from ebm_control.checks import InputError, require
from ebm_control.cli.commands import Plan
from ebm_control.cli.run_folder import RunFolder, plain
from ebm_control.data.environments import action_box, make_env, observation_box
from ebm_control.data.periods import observation_periods
from ebm_control.energies.base import Energy
from ebm_control.energies.costs import GoalCost
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.online import (
    FrontierGoals,
    LearnedReward,
    OnlineLearning,
    OnlineSettings,
    learner_for,
    planner_of,
)
from ebm_control.online.learner import Model
from ebm_control.online.loop import Progress
from ebm_control.planning import Episodes, Planner, run_episodes
from ebm_control.provenance import provenance
from ebm_control.training import latest_checkpoint

PLACE = 0.07  # of the range of goals: size of a place to explore


@dataclass
class Online:
    """Learn an environment while acting in it, by planning with what was learned so far."""

    env: str
    """Any with Boxes: for its goals (observation, achieved_goal, desired_goal), or for its reward where it has none."""
    out: Path = Path("runs/online")
    """Run folder: settings, experience, events, checkpoints, figure, summary."""
    model: Literal["energy", "feed-forward", "ensemble"] = "energy"
    """What is learned: an energy, a network, or five of them."""
    online: OnlineSettings = field(default_factory=OnlineSettings)
    """How to act and learn."""
    horizon: int = 12
    """Steps ahead."""
    goal_index: tuple[int, ...] = Plan.goal_index
    """Observation coordinates that the environment's goal names."""
    goal_weight: float = Plan.goal_weight
    """Of the goal's L1 distance, in normalised units."""
    reward_weight: float = 20.0
    """Of a learned reward, in deviations of the first ones, where the environment has no goals."""
    sampler: Literal["langevin", "cem", "mppi"] = "langevin"
    """How plans are made: by gradients, or by search over actions (cem, mppi)."""
    evaluate: int = 10
    """Episodes at the end, without noise, a plan a step."""
    explore: bool = False
    """Head for places that were not visited yet instead of the environment's goals, until the evaluation."""
    place: float | None = None
    """Size of a place to explore, in raw units; without, 7 % of the range that goals have."""
    resume: bool = False
    """Go on from the run folder's newest checkpoint."""
    seed: int = 0
    """Of everything, --online.seed included."""

    def run(self) -> dict[str, Any]:
        """Learn, evaluate, draw, and say how well."""
        world = self._check()
        goals = world.frontier(self.place, self.seed) if self.explore else None
        folder = RunFolder(self.out, self)
        if not self.resume:
            folder.clear()
        started = time.perf_counter()
        reward = LearnedReward(seed=self.seed)

        def cost(model: Model) -> Energy:
            if world.goal is None:
                return self.reward_weight * reward.cost(learning)
            return self.goal_weight * GoalCost(model.layout, self.goal_index, smooth=0.02)

        def planner(model: Model, step: int) -> Planner:
            return planner_of(
                model,
                cost(model),
                self.horizon,
                action_space=world.action,
                sampler=self.sampler,
                shooting=world.goal is None,
                seed=step,
            )

        learning = OnlineLearning(
            self.env,
            learner_for(self.model, self.online.steps + self.online.environments, self.seed),
            planner,
            replace(self.online, seed=self.seed),
            goals=goals,
            folder=self.out,
            resume=self.resume,
        )
        if goals is not None and learning.progress.step:
            _recall(goals, learning)
        learning.run()
        environments = [make_env(self.env) for _ in range(self.evaluate)]
        seed = 10_000 + 1000 * self.seed  # other starts and goals than those that were learned from
        episodes = run_episodes(learning.agent(), environments, seed=seed, progress="evaluating")
        learning_curve(folder.figures / "learning_curve.png", learning.progress, episodes)
        seconds = time.perf_counter() - started
        command = f"ebm-control online --env {self.env} --model {self.model} --seed {self.seed}"
        summary = {
            "steps": learning.progress.step,
            "episodes": len(learning.progress.episodes),
            "rounds": learning.progress.rounds,
            "return_mean": episodes.mean,
            "return_ci95": episodes.ci95,
            "last_reward_mean": float(episodes.last_rewards.mean()),
            **({} if world.goal is not None else {"reward_error": reward.error}),
            **({} if goals is None else {"places": len(goals.memory.remembered())}),
            "plan_seconds_p50": float(np.quantile(episodes.seconds, 0.5)),
            "seconds": seconds,
            "returns": episodes.returns,
            "provenance": provenance(command, [self.seed], seconds),
        }
        folder.summarise(summary)
        return plain(summary)

    def _check(self) -> _World:
        """The environment's spaces; complains of whatever makes no sense before anything is written."""
        online = self.online
        for name in ("evaluate", "horizon"):
            require(getattr(self, name) >= 1, name, given=getattr(self, name), expected="at least 1")
        require(online.seed in (0, self.seed), "online.seed", given=online.seed, expected="--seed instead")
        world = _World.of(self.env, self.goal_index)
        found = latest_checkpoint(self.out / "checkpoints")
        require(
            self.resume or found is None, "out", given=found, expected="no checkpoints there, or --resume"
        )
        settings = self.out / "settings.json"
        if found is not None and settings.exists():
            before = json.loads(settings.read_text())
            for name in ("env", "model"):
                self._same(name, before.get(name), getattr(self, name))
            if self.model == "energy":  # its sample buffer has a place for each step there will be
                for name in ("steps", "environments"):
                    self._same(f"online.{name}", before["online"][name], getattr(online, name))
        return world

    def _same(self, name: str, before: object, now: object) -> None:
        require(before == now, name, given=now, expected=f"{before}, as in the run that is resumed")


@dataclass(frozen=True)
class _World:
    """Spaces of an environment.

    Attributes:
        states: flat observations.
        action: flat actions.
        goal: goals, which name the observation coordinates `index`; None where there are none.
        index: see `goal`.

    """

    states: Box
    action: Box
    goal: Box | None
    index: tuple[int, ...]

    @classmethod
    def of(cls, name: str, index: tuple[int, ...]) -> _World:
        """Spaces of the environment of this id.

        Raises:
            InputError: no such environment, spaces other than flat Boxes, or goals that name other coordinates than
                `index`.

        """
        env = make_env(name)
        states, action = observation_box(env.observation_space), action_box(env.action_space)
        parts = env.observation_space.spaces if isinstance(env.observation_space, Dict) else {}
        goal = parts.get("desired_goal")
        if not isinstance(goal, Box) or "achieved_goal" not in parts:
            env.close()
            return cls(states, action, None, index)
        width = states.shape[0]
        require(
            len(index) == goal.shape[0] and all(0 <= i < width for i in index),
            "goal_index",
            given=index,
            expected=f"the {goal.shape[0]} coordinates in 0..{width - 1} that the goals of {name} name",
        )
        env.reset(seed=0)
        action.seed(0)
        seen = env.step(action.sample())[0]  # where episodes begin coordinates may be equal by chance
        state, achieved = (torch.as_tensor(seen[key]).double() for key in ("observation", "achieved_goal"))
        named = state.clone()
        named[list(index)] = achieved
        off = TrajectoryLayout(width, periods=observation_periods(env)).difference(named, state).abs().max()
        require(
            bool(off < 1e-3),
            "goal_index",
            given=f"{index}, which hold {state[list(index)].tolist()}",
            expected=f"coordinates that hold the achieved goal, here {achieved.tolist()}",
        )
        env.close()
        return cls(states, action, goal, index)

    def frontier(self, place: float | None, seed: int) -> FrontierGoals:
        """Goals next to where something has been, places of raw width `place`."""
        if self.goal is None:
            raise InputError(
                "explore: expected an environment with goals, to head for places, got one without"
            )
        if place is None:
            require(
                self.goal.is_bounded(),
                "place",
                given=None,
                expected="the size of a place to explore, as goals have no bounds here",
            )
        size = torch.as_tensor(PLACE * (self.goal.high - self.goal.low) if place is None else place)
        bounds = (self.goal.low, self.goal.high)
        return FrontierGoals(self.states.shape[0], self.index, size, *bounds, seed=seed)


def _recall(goals: FrontierGoals, learning: OnlineLearning) -> None:
    """Show explorers where a run that is resumed has been."""
    states, _, _ = learning.experience.data.transitions()
    count = learning.settings.environments
    for first in range(0, len(states), count):
        seen = states[first : first + count]
        if bool(goals.memory.novel(torch.from_numpy(seen[:, goals.index])).any()):
            goals(seen, np.ones(len(seen), dtype=bool))


def learning_curve(path: Path, progress: Progress, final: Episodes, over: int = 20) -> Path:
    """Returns while learning, their mean over the last `over` episodes, and that of the evaluation at the end."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    steps, returns = (np.array([getattr(e, name) for e in progress.episodes]) for name in ("step", "return_"))
    ends = [int(np.flatnonzero(steps == step)[-1]) + 1 for step in np.unique(steps)]  # many may end at once
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
