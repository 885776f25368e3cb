"""Online learning: plan, act and learn from scratch, in one process, on highly correlated experience."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import require
from ebm_control.data import Normalizer, RolloutBuffer
from ebm_control.data.actions import as_actions, half_widths, random_actions
from ebm_control.data.environments import EnvLike, make_envs
from ebm_control.data.periods import observation_periods
from ebm_control.data.stepping import Environments
from ebm_control.interrupts import uninterrupted
from ebm_control.online import saving
from ebm_control.online.effort import scale_steps
from ebm_control.online.experience import Experience
from ebm_control.online.exploration.frontier import Goals
from ebm_control.online.learner import Learner, Model
from ebm_control.online.planner import Cost, MakePlanner, OnlinePlanner, Reward, usual_planner
from ebm_control.online.progress import EpisodeEnd, Progress
from ebm_control.online.recipe import Kind, as_learner
from ebm_control.online.regimes import Regime, heed_change
from ebm_control.online.reward import LearnedReward
from ebm_control.online.settings import OnlineSettings
from ebm_control.online.units import bounded_normalizer, outgrown
from ebm_control.planning import MPCAgent
from ebm_control.planning.inverse_dynamics import InverseDynamics
from ebm_control.planning.plan import AnyPlanner, Plan
from ebm_control.seeds import seeds, stream
from ebm_control.training.guard import DivergenceError
from ebm_control.training.logger import Logger
from ebm_control.training.run_folder import folder_of_one, newest_checkpoint

Array = NDArray[np.float64]
Report = Callable[[int, "OnlineLearning"], bool | None]
CATCH_UP = 5  # largest number of training rounds after units were changed


class OnlineLearning:
    """Plan, execute until the state leaves the plan, learn, and replan with a warm start.

    Executed transitions are data, planned ones are negatives (Du, Lin & Mordatch 2019). All counts are in single
    environment steps, whatever the number of parallel environments.

    Args:
        env: id, function or environment; a function is called once per parallel environment, and must build a new
            one each time.
        learner: the model that learns: "energy", "feed-forward", "ensemble" or a `Learner`.
        planner: builds a new planner from the present model and the number of steps so far, after every round. None for
            an `OnlinePlanner` with the arguments below: it plans for the cost or the reward, otherwise for the
            environment's goals, or without goals for a learned reward.
        settings: see `OnlineSettings`.
        cost: see `OnlinePlanner`.
        reward: see `OnlinePlanner`.
        goal_index: see `OnlinePlanner`.
        horizon: see `OnlinePlanner`.
        env_kwargs: arguments of the environment, if `env` is an id.
        inverse_dynamics: builds inverse dynamics from the model, for plans without actions; called like `planner`.
        goals: sets goals instead of the environment (`FrontierGoals` for exploration); None for the environment's.
        folder: gets checkpoints and TensorBoard events; None writes nothing.
        resume: continue from the newest checkpoint of `folder`, if there is one, with the same settings (`steps` may
            be larger). Episodes restart, noise is drawn again, and `goals` is used as it is passed, because its memory
            is not part of a checkpoint. So the run differs from one without interruption.
        about: JSON-safe values that `planner` depends on. A run is not resumed with other values.
        periods: periods of the observation coordinates, 0 for non-periodic ones; None for those of the environment.
        history: observations that a state holds, see `ebm_control.adapt`.
        progress: show a progress bar.

    Attributes:
        model: the present model.
        experience: executed transitions.
        progress: counters and completed episodes.
        regimes: earlier dynamics, which may return.

    Raises:
        InputError: a space has no vectors (images, text), or an environment is shared where several are needed; the
            folder holds checkpoints of another run, or any without `resume`; the learner does not exist; a cost or a
            reward is set together with a planner; or the goals' observation coordinates cannot be determined.
        CheckpointError: the newest checkpoint is corrupt.

    """

    def __init__(
        self,
        env: EnvLike,
        learner: Learner | Kind = "energy",
        planner: MakePlanner | None = None,
        settings: OnlineSettings | None = None,
        *,
        cost: Cost | None = None,
        reward: Reward | LearnedReward | None = None,
        goal_index: Sequence[int] | None = None,
        horizon: int = 12,
        env_kwargs: Mapping[str, Any] | None = None,
        inverse_dynamics: Callable[[Model], InverseDynamics] | None = None,
        goals: Goals | None = None,
        folder: Path | str | None = None,
        resume: bool = False,
        progress: bool = True,
        about: Mapping[str, Any] | None = None,
        periods: Sequence[float] | None = None,
        history: int = 1,
    ) -> None:
        self.settings = OnlineSettings() if settings is None else settings
        self.learner = as_learner(learner, self.settings)
        self.inverse_dynamics, self.goals = inverse_dynamics, goals
        self.folder = None if folder is None else Path(folder)
        self.about = dict(about or {})
        count = self.settings.environments
        self.environments = Environments(make_envs(env, count, env_kwargs), history)
        self.observation_space = self.environments.observation_space
        self.action_space = self.environments.action_space
        self.experience = Experience(
            self.observation_space.shape[0],
            self.action_space.shape[0],
            observation_periods(self.environments.all[0], periods),
            count,
            self.settings.memory,
            self.environments.form,
        )
        self.planner = usual_planner(planner, cost, reward, goal_index, horizon)
        if isinstance(self.planner, OnlinePlanner):
            self.planner.bind(self)
        self.progress = Progress(next_round=self.settings.warm_up)
        self.rng = stream(self.settings.seed, "online actions")
        self.normalizer: Normalizer | None = None
        self._agent: MPCAgent | None = None
        self._planned: list[Tensor] = []
        self._left_out = 0  # number of steps that were not finite
        self._free = np.zeros(count, dtype=bool)  # whether the last action was random
        self.regimes: list[Regime] = []
        self.logger = Logger(
            None if self.folder is None else self.folder / "events", progress=progress, every=1
        )
        found = newest_checkpoint(self.folder, resume)
        if self.folder is not None and found is not None:
            saving.resume(self, found, self.folder)
            self.rng = stream(self.settings.seed, f"online actions from step {self.progress.step}")

    @property
    def model(self) -> Model:
        """The learner's present model."""
        return self.learner.model

    def agent(self, planner: AnyPlanner | None = None, **changes: Any) -> MPCAgent:
        """An agent in the environment's spaces that replans at every step; `changes` are arguments of `MPCAgent`."""
        require(self.normalizer is not None, "agent", given="no data yet", expected="a run that has begun")
        assert self.normalizer is not None
        inverse = None if self.inverse_dynamics is None else self.inverse_dynamics(self.model)
        planner = self.planner(self.model, self.progress.step) if planner is None else planner
        options = {"seed": self.settings.seed + self.progress.rounds, "inverse_dynamics": inverse}
        return MPCAgent(planner, self.normalizer, **options | self.environments.spaces | changes)

    def run(self, steps: int | None = None, report: Report | None = None) -> None:
        """Act and learn until `steps` steps have been taken in total, by default those of the settings.

        Args:
            steps: environment steps, counted from the beginning of the run.
            report: called after every round of training with the steps so far and this object; True ends the run.

        """
        steps = self.settings.steps if steps is None else min(steps, self.settings.steps)
        envs, count = self.environments, self.settings.environments
        fresh = np.ones(count, dtype=bool)
        envs.reset(
            fresh, seeds(self.settings.seed, f"online environments from step {self.progress.step}", count)
        )
        self.experience.begin(fresh, envs.states)
        state: Plan | None = None
        if self._agent is None and self.normalizer is not None:
            self._renew_agent()  # for a resumed run
        with self.session(steps, "learning online"):
            while self.progress.step < steps:
                actions, state = self._act(envs.observations, state, fresh)
                with uninterrupted():
                    fresh = self._execute(actions)
                if self.progress.step >= min(self.progress.next_round, steps):
                    with uninterrupted():
                        self.learn()
                    if report is not None and report(self.progress.step, self):
                        return

    @contextmanager
    def session(self, steps: int, title: str) -> Iterator[None]:
        """Alone in the folder, with events and a progress bar up to `steps`; what is learned is saved on errors."""
        with folder_of_one(self.folder), self.logger, self._nothing_lost():
            self.logger.start(steps, self.progress.step, title)
            yield

    def _execute(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Take one step in every environment and store it; returns which environments begin a new episode."""
        step = self.environments.step(actions)
        self.progress.step += self.settings.environments
        self.logger.advance(self.progress.step)
        self.experience.add(self.environments.states, actions, step.rewards, step.finite)
        if not step.finite.all():
            self._leave_out(~step.finite)
        done = step.terminated | step.truncated | ~step.finite
        if done.any():
            self._end(done, step.terminated & step.finite)
        return done

    def _leave_out(self, which: NDArray[np.bool_]) -> None:
        """Warn of steps that are not finite; raise `InputError` if there are many."""
        self._left_out += int(which.sum())
        where = self.environments.where(int(np.flatnonzero(which)[0]))
        most = max(10, self.progress.step // 10)
        require(
            self._left_out <= most,
            "env",
            given=f"{self._left_out} that are not, the last in {where}",
            expected="finite observations and rewards",
        )
        warnings.warn(
            f"online: a step left out whose observation or reward is not finite ({where})", stacklevel=4
        )

    @contextmanager
    def _nothing_lost(self) -> Iterator[None]:
        """Write a checkpoint with all executed transitions if the run is interrupted or the environment fails."""
        try:
            yield
        except DivergenceError:
            raise  # a diverged model must not be saved
        except (KeyboardInterrupt, Exception) as stop:
            if self.folder is not None and self.normalizer is not None:
                try:
                    with uninterrupted():
                        self.experience.flush()
                        self.experience.take_in()
                        stop.add_note(
                            f"checkpoint of step {self.progress.step} in {saving.save(self, self.folder)}"
                        )
                except Exception as error:  # any failure here must not hide the first one
                    stop.add_note(f"step {self.progress.step} was not saved: {error}")
            raise

    def _act(
        self, observation: Any, state: Plan | None, fresh: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Plan | None]:
        """Actions `(N, act_dim)`; random before there is a model, and in environments without a goal."""
        free = np.full(self.settings.environments, self._agent is None)
        if self.goals is not None:
            observation, aimless = self._aimed(self.environments.states, fresh)
            free |= aimless
        actions = random_actions(self.action_space, self.rng, (self.settings.environments,))
        if self._agent is None or free.all():
            self._free = free
            return actions, None
        planned, plan = self._agent.predict(observation, state, fresh | self._free)
        assert self.normalizer is not None
        half = half_widths(self.action_space, self.normalizer.act_std.numpy())
        noise = self.settings.noise * half * self.rng.standard_normal(planned.shape)
        actions = np.where(free[:, None], actions, as_actions(planned + noise, self.action_space))
        self._free = free
        self._planned.append(self._believed(plan, actions)[torch.from_numpy(~free)])
        return actions, plan

    def _aimed(self, states: Array, fresh: NDArray[np.bool_]) -> tuple[Any, NDArray[np.bool_]]:
        """Observations with the goals that are set, and `(N,)` where none is set; the planner then stays in place."""
        assert self.goals is not None
        goals = self.goals(states, fresh)
        if goals is None:
            return self.environments.observations, np.zeros(len(states), dtype=bool)
        aimless: NDArray[np.bool_] = np.asarray(np.isnan(goals).any(axis=1))
        if self._agent is not None and aimless.any():
            index = list(self._agent.planner.goal_index)
            goals = np.where(aimless[:, None], states[:, index], goals)
        return {"observation": states, "desired_goal": goals}, aimless

    def _believed(self, plan: Plan, actions: NDArray[Any]) -> Tensor:
        """The planner's prediction for the actions that were taken, as transitions `(N, 2, D)`."""
        assert self.normalizer is not None
        start = torch.cat([plan.states[:, 0], self.normalizer.normalize_actions(torch.as_tensor(actions))], 1)
        end = torch.cat([plan.states[:, 1], torch.zeros_like(start[:, self.experience.obs_dim :])], 1)
        return torch.stack([start, end], dim=1).float()

    def _end(self, done: NDArray[np.bool_], terminated: NDArray[np.bool_]) -> None:
        """Close the completed episodes and begin new ones."""
        for return_, last in self.experience.end(done, terminated):
            self.progress.episodes.append(EpisodeEnd(self.progress.step, return_, last))
            self.logger.metrics(self.progress.step, {"return": return_, "last_reward": last})
        self.environments.reset(done)
        self.experience.begin(done, self.environments.states)

    def learn(self) -> None:
        """One round of training: update the model with data and plans, then build a new agent."""
        progress, settings, began = self.progress, self.settings, time.perf_counter()
        self.experience.flush()
        metrics = self._judge()
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
        if progress.rounds > 0:
            self._keep_units()
        keep = -(-settings.planned // settings.environments)
        self._planned = self._planned[-keep:]
        metrics |= self.learner.update(self.experience.data, self.experience.held, self.planned())
        self._renew_agent()
        progress.rounds += 1
        progress.next_round = progress.step + max(settings.every, int(settings.growth * progress.step))
        self.logger.advance(progress.step)
        self.logger.metrics(progress.step, metrics | {"round_seconds": time.perf_counter() - began})
        if self.folder is not None:
            self.save()

    def _keep_units(self) -> None:
        """Change units that no longer fit the data; all models are then trained again in the new units."""
        assert self.normalizer is not None
        grown = outgrown(self.experience.data, self.normalizer)
        if not bool(grown.any()):
            return
        self.normalizer = bounded_normalizer(self.experience.data, self.observation_space)
        self._planned = []
        for i, regime in enumerate(self.regimes):
            self._learn_anew(regime.experience.data, regime.experience.held)
            self.regimes[i] = replace(regime, learner=copy.deepcopy(self.learner.state_dict()))
        self._learn_anew(self.experience.data, self.experience.held)
        index = grown.nonzero().flatten().tolist()
        self.logger.note(
            f"step {self.progress.step}: data have outgrown the units of coordinates {index}; learned anew in new ones"
        )

    def _learn_anew(self, data: RolloutBuffer, held: RolloutBuffer) -> None:
        assert self.normalizer is not None
        self.learner.begin(data, self.normalizer)
        for _ in range(min(self.progress.rounds, CATCH_UP)):
            self.learner.update(data, held, torch.empty(0))

    def _renew_agent(self) -> None:
        """Build the agent that acts until the next round."""
        settings = self.settings
        tolerance = settings.tolerance * self.learner.displacement_scale
        vectors = {"action_space": self.action_space, "observation_space": None}
        make = self.planner.acting if isinstance(self.planner, OnlinePlanner) else self.planner
        planner = make(self.model, self.progress.step)
        self._agent = self.agent(planner, replan_every=settings.replan_every, tolerance=tolerance, **vectors)
        if self.progress.effort > 1:
            scale_steps(self._agent.planner, self.progress.effort)

    def _judge(self) -> dict[str, float]:
        """Compare the energy of new transitions with that of held-out ones, and set the effort from it.

        A planner that exploits its model leads to states where the model is wrong, where transitions have high energy.
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
        """Write a checkpoint now. `experience/` of the same step is written first, so a checkpoint is never incomplete.

        Raises:
            InputError: there is no folder, or there was no round of training yet.
            CheckpointError: writing failed.

        """
        require(self.folder is not None, "folder", given=None, expected="a folder to write to")
        require(self.normalizer is not None, "save", given="no data yet", expected="a run that has begun")
        assert self.folder is not None
        return saving.save(self, self.folder)

    def planned(self) -> Tensor:
        """Transitions planned since the last round, and those stored from earlier rounds, `(M, 2, D)`."""
        return torch.cat(self._planned) if self._planned else torch.empty(0)

    def take_up_planned(self, planned: Tensor) -> None:
        """Restore planned transitions from the result of `planned`."""
        self._planned = list(planned.split(self.settings.environments)) if len(planned) else []
