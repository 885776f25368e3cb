"""Valid calls for fuzzing: data, prediction and planning."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box

from benchmarks.survival.damage import minari_folder
from benchmarks.survival.fuzz import Call
from benchmarks.survival.material import buffer_of, contents, trajectory_model
from ebm_control.control import planner_for
from ebm_control.data import Normalizer, RolloutBuffer, collect, collect_mujoco, from_minari, split, to_minari
from ebm_control.energies import GoalCost
from ebm_control.models import prediction_error
from ebm_control.planning import MPCAgent, run_episodes
from ebm_control.prediction import predict

SPACE = Box(-1.0, 1.0, (2,), np.float32)


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _episode() -> dict[str, Any]:
    rng = _rng()
    observations, actions = rng.normal(size=(7, 3)), rng.normal(size=(6, 2))
    return {
        "observations": observations,
        "actions": actions,
        "rewards": rng.normal(size=6),
        "terminated": False,
    }


def _added(**given: Any) -> Any:
    buffer = RolloutBuffer(3, 2)
    buffer.add_episode(**given)
    return contents(buffer)


def _windows(**given: Any) -> Any:
    return buffer_of(100).sample_windows(**given, rng=_rng())


def _split(fraction: Any, steps: Any) -> Any:
    return [contents(part) for part in split(buffer_of(100), fraction, _rng(), steps)]


def _read_back(dataset_id: Any) -> Any:
    """Contents of a written data set; raises `AssertionError` if anything was written elsewhere."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "sets"
        root.mkdir()
        with minari_folder(root):
            try:
                to_minari(buffer_of(40), dataset_id)
                found = contents(from_minari(dataset_id))
            except Exception:
                assert not list(root.rglob("*")), "something is left of a data set that was refused"
                raise
            finally:
                assert [path.name for path in Path(place).iterdir()] == ["sets"], (
                    "a data set outside its folder"
                )
        return found


def _read(dataset: Any) -> Any:
    with tempfile.TemporaryDirectory() as place, minari_folder(Path(place)):
        to_minari(buffer_of(40), "fuzz/ok-v0")
        return contents(from_minari(dataset))


DATA = (
    Call(
        "collect",
        lambda **given: collect(**given, progress=False),
        {"env": "choice", "steps": "count", "policy": "choice", "num_envs": "count?", "seed": "seed"},
        lambda: {"env": "ebm/Particle-v0", "steps": 12, "policy": "random", "num_envs": 2, "seed": 0},
        lambda value, given: len(value) == given["steps"],
    ),
    Call(
        "collect_mujoco",
        collect_mujoco,
        {
            "env": "choice",
            "steps": "count",
            "episode_length": "count?",
            "seed": "seed",
            "threads": "count?",
        },
        lambda: {"env": "ebm/Reacher-v0", "steps": 12, "episode_length": 6, "seed": 0, "threads": 1},
        lambda value, given: len(value) == given["steps"],
    ),
    Call(
        "RolloutBuffer",
        lambda **given: contents(RolloutBuffer(**given)),
        {"obs_dim": "count", "act_dim": "count", "capacity": "count?", "periods": "array"},
        lambda: {"obs_dim": 3, "act_dim": 2, "capacity": 50, "periods": np.array([0.0, 0.0, 6.25])},
        lambda value, given: value["observations"].shape == (0, given["obs_dim"]),
        exact=True,
    ),
    Call(
        "RolloutBuffer.add_episode",
        _added,
        {"observations": "array", "actions": "array", "rewards": "array?"},
        _episode,
        lambda value, given: value["observations"].shape == (value["steps"][0] + 1, 3),
        exact=True,
    ),
    Call(
        "RolloutBuffer.sample_windows",
        _windows,
        {"n": "count", "length": "count", "gap": "count"},
        lambda: {"n": 4, "length": 3, "gap": 1},
        lambda value, given: value[0].shape == (given["n"], given["length"], 3),
    ),
    Call(
        "split",
        _split,
        {"fraction": "number", "steps": "count"},
        lambda: {"fraction": 0.5, "steps": 2},
        lambda value, given: sum(sum(part["steps"]) for part in value) == 100,
        names=("buffer", "held_out"),
    ),
    Call(
        "Normalizer.fit",
        lambda **given: Normalizer.fit(**given).to_dict(),
        {"observations": "array", "actions": "array", "periods": "array"},
        lambda: {
            "observations": _rng().normal(size=(9, 3)),
            "actions": _rng().normal(size=(9, 2)),
            "periods": np.array([0.0, 0.0, 6.25]),
        },
        exact=True,
    ),
    Call("to_minari", _read_back, {"dataset_id": "choice"}, lambda: {"dataset_id": "fuzz/ok-v0"}),
    Call(
        "from_minari",
        _read,
        {"dataset": "choice"},
        lambda: {"dataset": "fuzz/ok-v0"},
    ),
)


def _predicted(**given: Any) -> Any:
    bounds = given.pop("low"), given.pop("high")
    return predict(trajectory_model().energy, **given, bounds=bounds, generator=_generator())


def _error(**given: Any) -> Any:
    return prediction_error(trajectory_model(), buffer_of(100), **given)


def _planned(**given: Any) -> Any:
    model = trajectory_model()
    cost = 20 * GoalCost(model.layout, (0, 1))
    start, goal = given.pop("start"), given.pop("goal")
    planner = planner_for(model, cost, **given, action_space=SPACE)
    return planner.plan(start, goal, generator=_generator()).states


def _agent(**given: Any) -> Any:
    model = trajectory_model()
    planner = planner_for(model, 20 * GoalCost(model.layout, (0, 1)), 3, sampler="mppi", action_space=SPACE)
    observation, begun = given.pop("observation"), given.pop("episode_start")
    agent = MPCAgent(planner, model.normalizer, SPACE, **given)
    first, plan = agent.predict(observation, episode_start=begun)
    second, _ = agent.predict(observation, plan, episode_start=begun)
    return [first, second]


def _episodes(**given: Any) -> Any:
    class Still:
        def predict(self, observation: Any, state: Any = None, *rest: Any, **further: Any) -> Any:
            return np.zeros((len(observation["observation"]), 2), np.float32), state

    environments = [gym.make("ebm/Particle-v0", max_episode_steps=3) for _ in range(2)]
    return run_episodes(Still(), environments, **given).returns


MODELS = (
    Call(
        "predict",
        _predicted,
        {
            "history": "tensor",
            "actions": "tensor?",
            "horizon": "count",
            "samples": "count",
            "low": "bounds",
            "high": "bounds",
        },
        lambda: {
            "history": torch.zeros(2, 1, 5),
            "actions": torch.zeros(2, 3, 2),
            "horizon": 3,
            "samples": 2,
            "low": torch.full((3,), -9.0),
            "high": torch.full((3,), 9.0),
        },
        lambda value, given: value.states.shape == (2, given["samples"], given["horizon"], 3),
        names=("bounds",),
    ),
    Call(
        "prediction_error",
        _error,
        {"horizon": "count", "windows": "count", "samples": "count", "seed": "seed"},
        lambda: {"horizon": 3, "windows": 4, "samples": 2, "seed": 0},
        lambda value, given: value.rmse.shape == (given["horizon"],),
    ),
    Call(
        "planner_for",
        _planned,
        {
            "horizon": "count",
            "sampler": "choice",
            "chains": "count?",
            "weight": "number",
            "start": "tensor",
            "goal": "tensor",
        },
        lambda: {
            "horizon": 3,
            "sampler": "mppi",
            "chains": 2,
            "weight": 10.0,
            "start": torch.zeros(2, 3),
            "goal": torch.full((2, 2), 0.5),
        },
        lambda value, given: value.shape == (len(given["start"]), given["horizon"] + 1, 3),
    ),
    Call(
        "MPCAgent.predict",
        _agent,
        {
            "observation": "array",
            "episode_start": "array?",
            "goal": "array",
            "replan_every": "count",
            "tolerance": "number",
            "temperature": "number",
            "seed": "seed",
        },
        lambda: {
            "observation": np.zeros((2, 3)),
            "episode_start": np.array([True, False]),
            "goal": np.array([0.5, 0.5]),
            "replan_every": 2,
            "tolerance": 0.5,
            "temperature": 1.0,
            "seed": 0,
        },
        lambda value, given: value[0].shape == (*np.shape(given["observation"])[:-1], 2),
    ),
    Call(
        "run_episodes", _episodes, {"seed": "seed"}, lambda: {"seed": 0}, lambda value, given: len(value) == 2
    ),
)
