"""MuJoCo experiments: what a run leaves behind, what is evaluated, and which runs there are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, SAC

from ebm_control.data import RolloutBuffer
from ebm_control.online.presets import PRESETS
from ebm_control.planning import LineOfSight, Plan
from ebm_control.seeds import seeds
from ebm_control.statistics import half_interval
from experiments.mujoco import offline
from experiments.mujoco.__main__ import Mujoco
from experiments.mujoco.goals import CELL, HELD, FromData, RandomWalk, VisitedCells, by_cells
from experiments.mujoco.jobs import METHODS, QUICK, jobs_of, run
from experiments.mujoco.methods import EVALUATION_SEED, Job, evaluated
from experiments.mujoco.model_free import (
    DQN_SETTINGS,
    HER_SETTINGS,
    SAC_SETTINGS,
    Normalized,
    build,
    training,
)
from experiments.mujoco.oracle import Oracle
from experiments.mujoco.problems import PROBLEMS
from experiments.mujoco.report import from_data, from_nothing, same_loop, summarised, table, times
from experiments.planning.reinforcement import Deterministic

UMAZE = PROBLEMS["PointMaze_UMaze-v3"]


def short(method: str, env: str, steps: int, seed: int = 0) -> Job:
    return Job(METHODS[method], replace(PROBLEMS[env], steps=steps), seed, quick=False)


class Push:
    """The same action always; keeps the first observations of the last evaluation."""

    def __init__(self, *action: float) -> None:
        self.action = action

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> Any:
        if state is None and len(observation) > 1:
            self.first = np.array(observation)
        return np.tile(np.float32(self.action), (len(observation), 1)), 0


class Steer:
    """Accelerates towards the goal, with damping."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> Any:
        off = observation["desired_goal"] - observation["achieved_goal"]
        return np.clip(self.gain * off - 2 * observation["observation"][:, 2:], -1, 1), state


def test_a_run_leaves_a_row_of_evaluations_and_settings_and_repeats_itself() -> None:
    (row,), (again,) = (run(short("SAC", "Pendulum-v1", 110)) for _ in range(2))
    assert {name: row[name] for name in ("part", "env", "method", "steps", "seed")} == {
        "part": "online",
        "env": "Pendulum-v1",
        "method": "SAC",
        "steps": 110,
        "seed": 0,
    }
    assert row["returns"] == again["returns"]
    assert len(set(row["returns"])) == 10
    assert row["return"] == pytest.approx(np.mean(row["returns"]))
    assert row["success"] is None
    assert row["minutes"] * 60e3 > row["plan_ms_p50"] > 0
    assert row["hyperparameters"]["learning_rate"] == SAC_SETTINGS["Pendulum-v1"]["learning_rate"]


def test_hindsight_runs_record_success() -> None:
    (row,) = run(short("SAC + HER", "FetchReach-v4", 105))
    assert row["success"] in np.arange(11) / 10
    assert -50 <= row["return"] <= 0
    assert row["hyperparameters"]["replay_buffer_kwargs"]["n_sampled_goal"] == 4
    assert row["hyperparameters"]["normalized_observations"]


def test_ten_times_the_steps_are_ten_times_the_steps() -> None:
    (row,) = run(short("DQN 10x", "CartPole-v1", 30))
    assert row["steps"] == 300
    assert row["hyperparameters"]["train_freq"] == 256


def test_summaries_have_intervals_over_seeds() -> None:
    about = {"part": "online", "env": "FetchReach-v4", "method": "SAC + HER", "steps": 2000, "bar": 0.98}
    rows = [
        about | {"seed": seed, "return": value, "success": 0.5, "plan_ms_p50": 0.25, "minutes": 1.0 + seed}
        for seed, value in enumerate((-30.0, -20.0, -25.0))
    ]
    rows += [row | {"env": "Pendulum-v1", "success": None, "bar": -170.0} for row in rows[:1]]
    fetch, pendulum = summarised(rows)
    assert fetch["return_mean"] == pytest.approx(-25.0)
    assert fetch["return_ci95"] == half_interval([-30.0, -20.0, -25.0])
    assert fetch["return_by_seed"] == [-30.0, -20.0, -25.0]
    assert (fetch["seeds"], fetch["success"], fetch["minutes"], fetch["plan_ms_p50"]) == (3, 0.5, 2.0, 0.25)
    assert pendulum["success"] is None
    assert pendulum["return_ci95"] is None
    made = table([fetch, pendulum])
    cells = {str(column.header): list(column.cells) for column in made.columns}
    assert cells["environment"] == ["Pendulum-v1", "FetchReach-v4"]  # in the order of the problems
    assert cells["bar"] == ["-170", "success 0.98"]
    assert cells["success"] == ["–", "0.50 ± 0.00"]


def test_a_bar_relative_to_the_oracle_is_that_of_its_row() -> None:
    about = {"part": "online", "env": "ebm/Crane-v0", "steps": 5000, "bar": None, "plan_ms_p50": None}
    oracles = [
        about | {"method": "oracle", "seed": i, "return": value, "success": 1.0, "minutes": 1.0}
        for i, value in enumerate((-12.0, -16.0))
    ]
    other = oracles[0] | {"method": "SAC", "return": -30.0, "plan_ms_p50": 0.25}
    found = summarised([*oracles, other])
    assert [row["bar"] for row in found] == [pytest.approx(-15.4)] * 2
    (alone,) = summarised([other])
    assert alone["bar"] is None
    for rows, text in ((found, "-15.4 (oracle − 10%)"), ([alone], "– (oracle − 10%)")):
        made = table(rows)
        cells = {str(column.header): list(column.cells) for column in made.columns}
        assert set(cells["bar"]) == {text}
        assert cells["ms per action"][0] == ("–" if rows is found else "0.25")


def test_the_oracle_plans_each_episode_from_its_start_and_learns_nothing() -> None:
    problem = PROBLEMS["ebm/Crane-v0"]
    assert Job(METHODS["oracle"], problem, 0, quick=False).steps == 0
    asked = []

    def plan(first: Any) -> Any:
        asked.append(first)
        return np.clip(np.full((100, 1), first[5] - first[0]), -1, 1)

    found = evaluated(Oracle(plan), problem, 0, 2)
    for first, start, expected in zip(
        asked, seeds(EVALUATION_SEED, "episodes", 2), found["returns"], strict=False
    ):
        env = problem.make()
        observation, _ = env.reset(seed=start)
        np.testing.assert_array_equal(observation, first)
        action = np.clip(first[[5]] - first[[0]], -1, 1).astype(np.float32)
        assert sum(env.step(action)[1] for _ in range(100)) == pytest.approx(expected)


def test_episodes_are_the_same_for_every_method_and_others_for_every_seed() -> None:
    problem, one, other = PROBLEMS["Pendulum-v1"], Push(0.0), Push(1.0)
    first, second = (evaluated(agent, problem, 0, 3)["return"] for agent in (one, other))
    np.testing.assert_array_equal(one.first, other.first)
    assert first != second
    before = one.first
    evaluated(one, problem, 1, 3)
    assert not np.isclose(one.first, before).any()


def test_choices_act_in_the_evaluation_as_in_the_environment_itself() -> None:
    job = short("DQN", "CartPole-v1", 100)
    model = build(job, DQN, DQN_SETTINGS["CartPole-v1"], "MlpPolicy")
    assert isinstance(model, DQN)
    found = evaluated(Deterministic(model), job.problem, 0, 3)
    env = job.problem.make()
    for start, expected in zip(seeds(EVALUATION_SEED, "episodes", 3), found["returns"], strict=True):
        (observation, _), total, ended = env.reset(seed=start), 0.0, False
        while not ended:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(int(action))
            total, ended = total + float(reward), terminated or truncated
        assert total == expected


def test_an_episode_of_a_maze_ends_in_success_at_the_goal() -> None:
    corridor = [[1] * 6, [1, "c", "c", "c", "c", 1], [1] * 6]
    problem = replace(UMAZE, arguments={**UMAZE.arguments, "maze_map": corridor})
    found = evaluated(Steer(5.0), problem, 0, 3)
    assert found["success"] == 1.0
    assert found["returns"] == [1.0] * 3
    brief = replace(problem, arguments={**problem.arguments, "max_episode_steps": 5})
    rest = evaluated(Steer(0.0), brief, 0, 2)
    assert (rest["success"], rest["return"]) == (0.0, 0.0)


def test_hindsight_in_mazes_learns_from_steps_that_cost_and_goals_that_are_free() -> None:
    job = short("SAC + HER", UMAZE.name, 20)
    env = training(job.problem)
    env.reset(seed=0)
    observation, reward, terminated, _, info = env.step(np.zeros(2, np.float32))
    assert (reward, terminated) == (-1.0, False)
    reached, goal = observation["achieved_goal"], observation["desired_goal"]
    relabelled = env.get_wrapper_attr("compute_reward")(
        np.stack([reached, goal]), np.stack([goal] * 2), [info]
    )
    assert relabelled.tolist() == [-1.0, 0.0]


def test_ends_by_the_time_limit_are_not_learned_as_ends() -> None:
    job = short("SAC", "Pendulum-v1", 250)
    model = build(job, SAC, {"learning_starts": 1000}, "MlpPolicy")
    assert isinstance(model, SAC)
    model.learn(250)
    buffer: Any = model.replay_buffer
    assert np.flatnonzero(buffer.timeouts[:, 0]).tolist() == [199]
    assert (buffer.dones * (1 - buffer.timeouts)).sum() == 0


def test_a_normalised_policy_is_shown_what_it_learned_from() -> None:
    class Shown:
        """Keeps what it is shown."""

        def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> Any:
            self.seen = observation
            return None, state

    job, agent = short("SAC + HER", "FetchReach-v4", 60), Shown()
    model = build(job, SAC, HER_SETTINGS["FetchReach-v4"] | {"learning_starts": 1000}, "MultiInputPolicy")
    model.learn(60)
    scale = model.get_vec_normalize_env()
    assert scale is not None
    before = {name: part.mean.copy() for name, part in scale.obs_rms.items()}
    goal = scale.obs_rms["desired_goal"]
    shown = {name: part.mean[None].astype(np.float32) for name, part in scale.obs_rms.items()}
    shown["desired_goal"] = shown["desired_goal"] + np.sqrt(goal.var)
    Normalized(agent, scale).predict(shown)
    assert agent.seen["desired_goal"] == pytest.approx(1.0, abs=0.02)
    assert agent.seen["achieved_goal"] == pytest.approx(0.0, abs=0.02)
    np.testing.assert_equal(before, {name: part.mean for name, part in scale.obs_rms.items()})


def test_every_problem_has_a_model_free_baseline_at_its_steps_and_no_two_runs_a_name() -> None:
    jobs = list(jobs_of(PROBLEMS, range(2), quick=False))
    assert len({(job.name, job.seed) for job in jobs}) == len(jobs)
    nothing = [job for job in jobs if job.compared.part == "online"]
    equal = [job for job in nothing if job.compared.factor == 1 and job.seed == 0]
    assert {job.env for job in equal} == set(PROBLEMS)
    assert all(job.steps == PROBLEMS[job.env].steps for job in equal)
    assert set(SAC_SETTINGS) | set(DQN_SETTINGS) | set(HER_SETTINGS) == set(PROBLEMS)


def test_a_stopped_run_has_complete_seeds_at_equal_steps() -> None:
    jobs = list(jobs_of(PROBLEMS, range(2), quick=False))
    equal = [job.compared.factor <= 1 for job in jobs]
    assert equal == sorted(equal, reverse=True)
    order = [job.seed for job in jobs if job.compared.factor <= 1]
    assert order == sorted(order)


def test_long_runs_are_only_those_asked_for_by_both_names() -> None:
    jobs = list(jobs_of(PROBLEMS, range(1), quick=False))

    def asked(**given: Any) -> set[str]:
        settings = Mujoco(**given)
        return {job.env for job in jobs if settings.wants(job) and job.method == "SAC 10x"}

    short = {"Pendulum-v1", "InvertedPendulum-v5", "InvertedDoublePendulum-v5", "Reacher-v5", "ebm/Crane-v0"}
    assert asked() == asked(methods=("SAC 10x",)) == asked(envs=("HalfCheetah-v5",)) == short
    assert asked(methods=("SAC 10x",), envs=("HalfCheetah-v5",)) >= {"HalfCheetah-v5"}


def test_a_quick_run_has_500_steps_and_no_method_twice() -> None:
    jobs = list(jobs_of(QUICK, range(1), quick=True))
    assert {(job.env, job.method) for job in jobs if not job.optional} == {
        ("Pendulum-v1", "SAC"),
        ("CartPole-v1", "DQN"),
        ("FetchReach-v4", "SAC + HER"),
        *((env, method) for env in QUICK for method in ("energy", "feed-forward")),
    }
    assert {(job.steps, job.episodes) for job in jobs} == {(500, 2)}


def test_a_random_walk_holds_actions_for_a_while_and_repeats_itself() -> None:
    walk, again = RandomWalk(3, 0), RandomWalk(3, 0)
    actions = np.stack([np.array(walk(None)) for _ in range(400)])
    np.testing.assert_array_equal(actions, np.stack([again(None) for _ in range(400)]))
    assert np.abs(actions).max() <= 1
    held = (np.diff(actions, axis=0) == 0).all(axis=2).mean()
    assert held == pytest.approx(1 - 1 / HELD, abs=0.03)


def test_cells_that_the_data_visited_are_clear_and_no_others() -> None:
    data = RolloutBuffer(3, 1)
    data.add_episode(np.array([[9.0, CELL * 0.5 + CELL * i, 0.0] for i in range(20)]), np.zeros((19, 1)))
    units = data.normalizer()
    cells = VisitedCells(data, (1, 2), units)
    assert len(cells.centres) == 20
    points = np.array(
        [[9.0, x, y] for x, y in ((0.5, 0.05), (1.5, 0.01), (0.5, 0.15), (-0.5, 0.0), (2.5, 0.0))]
    )
    x = units.normalize_observations(torch.from_numpy(points))[:, 1:].float()
    assert cells(torch.stack([x, x], dim=1)).tolist() == [0, 0, 1, 1, 1]
    sight = LineOfSight(cells, threshold=0.5)
    assert sight(x[:2], x[[1, 2]]).tolist() == [True, False]


def test_a_run_from_data_collects_fits_and_evaluates_under_its_own_part() -> None:
    corridor = [[1] * 6, [1, "c", "c", "c", "c", 1], [1] * 6]
    problem = replace(UMAZE, steps=500, arguments={**UMAZE.arguments, "maze_map": corridor})
    method = replace(METHODS["offline, energy"], run=FromData(by_cells, tilted=False, base_updates=200))
    (row,) = run(Job(method, problem, 0, quick=False))
    assert (row["part"], row["method"], row["steps"], row["dt_ms"]) == ("offline", "energy", 1000, 10.0)
    assert row["success"] > 0.5
    assert METHODS["energy"].part == "online"


def test_all_methods_from_a_policys_data_have_its_return_beside_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiny = replace(PRESETS["offline"], tilt=(8,), base=(16,), updates=1, base_updates=4, reward_updates=4)
    monkeypatch.setitem(PRESETS, "offline", tiny)
    monkeypatch.setattr(offline, "QUICK_TRAINED", 30)
    monkeypatch.setattr(
        offline, "CONTENDERS", {k: offline.CONTENDERS[k] for k in ("energy", "feed-forward, CEM")}
    )
    cheetah = replace(PROBLEMS["HalfCheetah-v5"], arguments={"max_episode_steps": 20})
    method = METHODS["offline, data of a policy"]
    assert Job(method, PROBLEMS["HalfCheetah-v5"], 0, quick=False).steps == 100_000
    rows = run(Job(method, cheetah, 0, quick=True))
    assert [row["method"] for row in rows] == ["the policy of the data", "energy", "feed-forward, CEM"]
    own, *others = rows
    assert all(row["data_return"] == own["return"] for row in rows)
    assert all(row["bar"] == pytest.approx(1.2 * own["return"]) for row in rows)
    assert all(np.isfinite(row["planned"]) and row["planned"] != row["return"] for row in others)
    assert "planned" not in own


def test_what_plans_expect_is_kept_step_by_step() -> None:
    class Planned:
        def predict(self, observation: Any, *_: Any) -> Any:
            states = torch.zeros(2, 4, 1) + torch.arange(4.0)[:, None]
            return observation, Plan(states, torch.ones(2, 3, 1), *(torch.zeros(2),) * 3)

    agent = offline.PlannedRewards(Planned(), lambda s, a, n: ((10 * s + a + 100 * n)[..., 0], None))  # type: ignore[arg-type]
    agent.predict(np.zeros(2))
    agent.predict(np.zeros(2))
    assert agent.expected == [10 * 1 + 1 + 100 * 2] * 2


def test_the_page_shows_returns_successes_and_what_was_planned() -> None:
    about = {"part": "online", "method": "energy", "steps": 1, "seed": 0, "plan_ms_p50": 2.0, "minutes": 1.0}
    about |= {"steps_per_second": 9.0, "dt_ms": 50.0, "share_planning": 0.25, "bar": -170.0, "success": None}
    rows = [
        {**about, "env": "Pendulum-v1", "return": -150.0, "policy_return": -190.0},
        {**about, "env": "Pendulum-v1", "method": "SAC", "return": -300.0},
        {**about, "env": "Pendulum-v1", "method": "SAC 10x", "return": -140.0},
        {**about, "env": "FetchReach-v4", "return": -3.0, "success": 0.75, "bar": 0.98},
        {
            **about,
            "env": "HalfCheetah-v5",
            "part": "offline",
            "return": 12.0,
            "planned": 13.0,
            "data_return": 9.0,
        },
    ]
    made = summarised(rows)
    nothing = {cells[0]: cells[1:] for cells in from_nothing(made)}
    assert nothing["Pendulum-v1"] == ("2,000", "-170", "-150", "-190", "-300 (SAC)", "-140 (SAC)", "–", "1")
    assert nothing["FetchReach-v4"][1:3] == ("success 0.98", "0.75")
    assert [cells[:3] for cells in same_loop(made)] == []
    assert next(times(made))[:6] == ("Pendulum-v1", "2", "50", "9", "1.0", "25%")
    assert next(from_data(made)) == ("HalfCheetah-v5", "energy", "12", "13", "9", "2", "1")
