"""Plan, act, learn: a model from nothing, in one process, on its own and highly correlated experience."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import InputError, require
from ebm_control.data import Normalizer
from ebm_control.data.environments import (
    EnvLike,
    action_box,
    make_env,
    observation_box,
    plain_observation,
)
from ebm_control.data.periods import observation_periods
from ebm_control.online.experience import Experience, Parts
from ebm_control.online.frontier import Goals
from ebm_control.online.learner import Learner, Model
from ebm_control.online.regimes import Regime, heed_change
from ebm_control.online.settings import OnlineSettings
from ebm_control.online.units import bounded_normalizer
from ebm_control.planning import Guided, MPCAgent, Planner
from ebm_control.planning.inverse_dynamics import InverseDynamics
from ebm_control.planning.plan import Plan, Plans
from ebm_control.training.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from ebm_control.training.logger import Logger

Array = NDArray[np.float64]
MakePlanner = Callable[[Model, int], Plans]
Report = Callable[[int, "OnlineLearning"], bool | None]


@dataclass(frozen=True)
class Ended:
    """An episode that came to its end while learning.

    Attributes:
        step: single environment steps taken by then.
        return_: sum of rewards.
        last_reward: of its last step.

    """

    step: int
    return_: float
    last_reward: float


@dataclass
class Progress:
    """What a run has seen and done so far, beside its experience."""

    step: int = 0
    rounds: int = 0
    next_round: int = 0
    effort: float = 1.0
    episodes: list[Ended] = field(default_factory=list)


class OnlineLearning:
    """Plan → execute until reality leaves the plan → learn → replan, warm-started.

    What was executed is data, what was planned is negatives (Du, Lin & Mordatch 2019). Planning and learning see one
    environment step as one step, however many environments run side by side.

    Args:
        env: id, function or environment; a function is called once for every environment side by side.
        learner: the model that learns.
        plan: makes the planner of the model as it is now, a new one each time; it is asked again after every round,
            with the steps so far, so that weights may be annealed.
        settings: see `OnlineSettings`.
        inverse_dynamics: makes what finds actions for planned states, where plans have none; asked as `plan` is.
        goals: sets goals in place of the environment's (`FrontierGoals`, to explore); None for the environment's.
        folder: gets checkpoints and TensorBoard events; None writes nothing.
        resume: go on from the newest checkpoint of `folder`, if there is one. Episodes under way are begun anew, noise
            is drawn afresh, and `goals` come as they are given: what they know is not part of a checkpoint.
        progress: show a progress bar.

    Attributes:
        model: as it is now.
        experience: what was executed.
        progress: counters and episodes that ended.
        regimes: dynamics that were in force before, and may come back.

    Raises:
        InputError: an environment without flat Boxes, or a folder that holds checkpoints of another learner, or any
            without `resume`.
        CheckpointError: the newest checkpoint is not sound.

    """

    def __init__(
        self,
        env: EnvLike,
        learner: Learner,
        plan: MakePlanner,
        settings: OnlineSettings | None = None,
        *,
        inverse_dynamics: Callable[[Model], InverseDynamics] | None = None,
        goals: Goals | None = None,
        folder: Path | str | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> None:
        self.settings, self.learner = settings or OnlineSettings(), learner
        self.plan, self.inverse_dynamics, self.goals = plan, inverse_dynamics, goals
        self.folder = None if folder is None else Path(folder)
        count = self.settings.environments
        require(
            count == 1 or not isinstance(env, gym.Env),
            "env",
            given="an environment",
            expected="an id or a function, to be made several times",
        )
        self.environments = SyncVectorEnv(
            [lambda: make_env(env) for _ in range(count)], autoreset_mode=AutoresetMode.DISABLED
        )
        first = self.environments.envs[0]
        self.observation_space = observation_box(first.observation_space)
        self.action_space = action_box(first.action_space)
        self.experience = Experience(
            self.observation_space.shape[0],
            self.action_space.shape[0],
            observation_periods(first),
            count,
            self.settings.memory,
        )
        self.progress = Progress(next_round=self.settings.warm_up)
        self.rng = np.random.default_rng(self.settings.seed)
        self.normalizer: Normalizer | None = None
        self._agent: MPCAgent | None = None
        self._planned: list[Tensor] = []
        self._free = np.zeros(count, dtype=bool)  # acted at random in the last step
        self.regimes: list[Regime] = []
        self.logger = Logger(
            None if self.folder is None else self.folder / "events", progress=progress, every=1
        )
        found = latest_checkpoint(self._checkpoints) if self._checkpoints is not None else None
        require(
            resume or found is None, "folder", given=found, expected="none with checkpoints, or resume=True"
        )
        if found is not None:
            self._resume(found)

    @property
    def model(self) -> Model:
        """The learner's model as it is now."""
        return self.learner.model

    @property
    def _checkpoints(self) -> Path | None:
        return None if self.folder is None else self.folder / "checkpoints"

    def agent(self, **changes: Any) -> MPCAgent:
        """An agent with the model as it is now, that replans at every step; `changes` are arguments of `MPCAgent`."""
        require(self.normalizer is not None, "agent", given="no data yet", expected="a run that has begun")
        assert self.normalizer is not None
        inverse = None if self.inverse_dynamics is None else self.inverse_dynamics(self.model)
        planner = self.plan(self.model, self.progress.step)
        options = {"seed": self.settings.seed + self.progress.rounds, "inverse_dynamics": inverse} | changes
        return MPCAgent(planner, self.normalizer, self.action_space, **options)

    def run(self, steps: int | None = None, report: Report | None = None) -> None:
        """Act and learn until `steps` steps are done in all, the settings' by default.

        Args:
            steps: single environment steps, counted from the beginning of the run.
            report: called after every round of training with the steps so far and this object; True ends the run.

        """
        steps = self.settings.steps if steps is None else min(steps, self.settings.steps)
        options = {"reset_mask": np.ones(self.settings.environments, dtype=bool)}
        observation, _ = self.environments.reset(
            seed=self.settings.seed * 1000 + self.progress.step, options=options
        )
        fresh = np.ones(self.settings.environments, dtype=bool)
        self.experience.begin(fresh, plain_observation(observation))
        state: Plan | None = None
        if self._agent is None and self.normalizer is not None:
            self._renew_agent()  # of a run that is resumed
        with self.logger:
            self.logger.start(steps, self.progress.step, "learning online")
            while self.progress.step < steps:
                actions, state = self._act(observation, state, fresh)
                observation, rewards, terminated, truncated, _ = self.environments.step(actions)
                self.progress.step += self.settings.environments
                self.experience.add(plain_observation(observation), actions, rewards)
                fresh = terminated | truncated
                if fresh.any():
                    observation = self._end(fresh, terminated)
                if self.progress.step >= min(self.progress.next_round, steps):
                    self.learn()
                    if report is not None and report(self.progress.step, self):
                        return

    def _act(
        self, observation: Any, state: Plan | None, fresh: NDArray[np.bool_]
    ) -> tuple[Array, Plan | None]:
        """Actions `(N, act_dim)`, random as long as there is no model, and wherever no goal is set."""
        low, high = self.action_space.low, self.action_space.high
        free = np.full(self.settings.environments, self._agent is None)
        if self.goals is not None:
            observation, aimless = self._aimed(plain_observation(observation), fresh, observation)
            free |= aimless
        actions = self.rng.uniform(low, high, (self.settings.environments, len(low)))
        if self._agent is None or free.all():
            self._free = free
            return actions, None
        planned, plan = self._agent.predict(observation, state, fresh | self._free)
        noise = self.settings.noise * (high - low) / 2 * self.rng.standard_normal(planned.shape)
        actions = np.where(free[:, None], actions, np.clip(planned + noise, low, high))
        self._free = free
        self._planned.append(self._believed(plan, actions)[torch.from_numpy(~free)])
        return actions, plan

    def _aimed(
        self, states: Array, fresh: NDArray[np.bool_], observation: Any
    ) -> tuple[Any, NDArray[np.bool_]]:
        """Observations with the goals that are set, and where there is none: the planner is then told to stay."""
        assert self.goals is not None
        goals = self.goals(states, fresh)
        if goals is None:
            return observation, np.zeros(len(states), dtype=bool)
        aimless: NDArray[np.bool_] = np.asarray(np.isnan(goals).any(axis=1))
        if self._agent is not None and aimless.any():
            index = list(self._agent.planner.goal_index)
            goals = np.where(aimless[:, None], states[:, index], goals)
        return {"observation": states, "desired_goal": goals}, aimless

    def _believed(self, plan: Plan, actions: Array) -> Tensor:
        """What the planner believed of the very actions that were taken, `(N, 2, D)`."""
        assert self.normalizer is not None
        start = torch.cat([plan.states[:, 0], self.normalizer.normalize_actions(torch.as_tensor(actions))], 1)
        end = torch.cat([plan.states[:, 1], torch.zeros_like(start[:, self.experience.obs_dim :])], 1)
        return torch.stack([start, end], dim=1).float()

    def _end(self, done: NDArray[np.bool_], terminated: NDArray[np.bool_]) -> Any:
        """Close the episodes that are done, begin new ones, and hand back all observations."""
        for return_, last in self.experience.end(done, terminated):
            self.progress.episodes.append(Ended(self.progress.step, return_, last))
            self.logger.figures(self.progress.step, {"return": return_, "last_reward": last})
        observation, _ = self.environments.reset(options={"reset_mask": done})
        self.experience.begin(done, plain_observation(observation))
        return observation

    def learn(self) -> None:
        """One round: data so far, plans since the last round, and a new agent."""
        progress, settings, began = self.progress, self.settings, time.perf_counter()
        self.experience.flush()
        figures = self._judge()
        if self.normalizer is None:
            self.experience.take_in()
            self.normalizer = bounded_normalizer(self.experience.data, self.observation_space)
            self.learner.begin(self.experience.data, self.normalizer)
        elif settings.change is not None and heed_change(
            self.regimes, self.learner, self.experience, self.normalizer, settings.change
        ):
            self._planned = []
            self.logger.note(
                f"step {progress.step}: dynamics have changed, {len(self.regimes) + 1} regimes known"
            )
        self.experience.take_in()
        keep = -(-settings.planned // settings.environments)
        self._planned = self._planned[-keep:]
        planned = torch.cat(self._planned) if self._planned else torch.empty(0)
        figures |= self.learner.update(self.experience.data, self.experience.held, planned)
        self._renew_agent()
        progress.rounds += 1
        progress.next_round = progress.step + max(settings.every, int(settings.growth * progress.step))
        self.logger.advance(progress.step)
        self.logger.figures(progress.step, figures | {"round_seconds": time.perf_counter() - began})
        if self.folder is not None:
            self.save()

    def _renew_agent(self) -> None:
        """The agent that acts until the next round."""
        settings = self.settings
        self._agent = self.agent(
            rows=settings.rows, tolerance=settings.tolerance * self.learner.displacement_scale
        )
        if self.progress.effort > 1:
            exert(self._agent.planner, self.progress.effort)

    def _judge(self) -> dict[str, float]:
        """How far what was executed is beyond what its model was judged by, and the effort that follows.

        A planner that exploits its model is led to where the model is wrong, and there what happens has a high energy.
        """
        if self.normalizer is None:
            return {}
        pending, held = (
            windows(self.normalizer) for windows in (self.experience.pending, self.experience.held_out)
        )
        if len(pending) == 0 or len(held) == 0:
            return {}
        happened, usual = self.learner.surprise(pending), self.learner.surprise(held)
        beyond = float((happened > usual.quantile(0.95)).float().mean())
        exploited = max(0.0, beyond - 0.05) / 0.95
        self.progress.effort = 1 + (self.settings.effort - 1) * exploited
        gap = float(happened.median() - usual.median())
        return {"energy_gap": gap, "exploited": exploited, "effort": self.progress.effort}

    def save(self) -> Path:
        """Write a checkpoint now; before it, so that it is whole once it is there, `experience/` of the same step.

        Raises:
            InputError: there is no folder, or no round of training has been yet.
            CheckpointError: it could not be written.

        """
        require(self.folder is not None, "folder", given=None, expected="a folder to write to")
        require(self.normalizer is not None, "save", given="no data yet", expected="a run that has begun")
        assert self.folder is not None
        assert self._checkpoints is not None
        assert self.normalizer is not None
        kept = self.folder / "experience"
        here = kept / f"step_{self.progress.step:08d}"
        self.experience.save(here)
        for i, regime in enumerate(self.regimes):
            regime.experience.save(here / f"regime_{i}")
        progress = {
            "step": self.progress.step,
            "rounds": self.progress.rounds,
            "next_round": self.progress.next_round,
            "effort": self.progress.effort,
            "episodes": [(e.step, e.return_, e.last_reward) for e in self.progress.episodes],
        }
        settings = {"normalizer": self.normalizer.to_dict(), "progress": progress}
        model = getattr(self.model, "energy", getattr(self.model, "dynamics", None))
        assert isinstance(model, torch.nn.Module)
        state = {
            "learner": self.learner.state_dict(),
            "regimes": [regime.learner for regime in self.regimes],
            "planned": torch.cat(self._planned) if self._planned else torch.empty(0),
        }
        path = save_checkpoint(
            self._checkpoints, self.progress.step, Checkpoint(model.state_dict(), settings, state)
        )
        for old in kept.glob("step_*"):
            if not (self._checkpoints / old.name).exists():
                shutil.rmtree(old)
        return path

    def _resume(self, path: Path) -> None:
        checkpoint = load_checkpoint(path)
        assert self.folder is not None
        here, state = self.folder / "experience" / path.name, checkpoint.state
        self.experience.load(here)
        self.normalizer = Normalizer.from_dict(checkpoint.settings["normalizer"])
        self.learner.begin(self.experience.data, self.normalizer)
        try:
            self.learner.load_state_dict(state["learner"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(f"learner: expected the one that {path} is of, got another: {error}") from error
        self.regimes = [
            Regime(learner, Parts.load(here / f"regime_{i}")) for i, learner in enumerate(state["regimes"])
        ]
        if len(state["planned"]):
            self._planned = list(state["planned"].split(self.settings.environments))
        known: Mapping[str, Any] = checkpoint.settings["progress"]
        episodes = [Ended(int(s), float(r), float(last)) for s, r, last in known["episodes"]]
        self.progress = Progress(
            int(known["step"]), int(known["rounds"]), int(known["next_round"]), known["effort"], episodes
        )
        self.rng = np.random.default_rng((self.settings.seed, self.progress.step))


def exert(planner: Plans, effort: float) -> None:
    """Let a planner take `effort` times its steps, in place.

    Raises:
        InputError: it is neither a `Planner` nor a `Guided` one.

    """
    inner = planner.planner if isinstance(planner, Guided) else planner
    kind = type(inner).__name__
    require(
        isinstance(inner, Planner), "plan", given=kind, expected="a Planner or Guided, for effort above 1"
    )
    assert isinstance(inner, Planner)
    for name in ("sampler", "first"):
        sampler: Any = getattr(inner, name)
        setattr(inner, name, replace(sampler, steps=round(effort * sampler.steps)))
