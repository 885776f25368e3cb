"""The benchmark of plans: what its record holds, what it times, and that a broken contender is seen."""

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from benchmarks.planning import __main__ as benchmark
from benchmarks.planning import outcomes
from benchmarks.planning.contenders import DEFAULT, EAGER, ByAutograd, default_agent, first_order_agent
from benchmarks.planning.outcomes import memory, pendulums, resident_mib
from benchmarks.planning.rounds import Driver, Race, busy_core
from benchmarks.planning.sizes import FULL, QUICK, Models
from benchmarks.planning.timings import batch, horizons, particle
from ebm_control.energies import Energy
from ebm_control.models import ModelSettings, TrainSettings
from ebm_control.samplers import Langevin
from experiments.pages.plans import RATIOS, TABLES, rows_of
from experiments.pages.speed import default_plans
from experiments.planning.problems import ARM, PARTICLE, REACHER
from experiments.records import load

SMALL = TrainSettings(ModelSettings(hidden=(8,)), updates=1, base_updates=20)
TINY = replace(
    QUICK,
    rounds=2,
    starts=3,
    plans=6,
    compiled=(),
    transitions=1000,
    settings=SMALL,
    pendulum_transitions=600,
    pendulum_settings=SMALL,
)


@pytest.fixture(scope="module")
def models():
    return Models(TINY)


class Still:
    """An agent whose plans never move; `energy` is that of every plan."""

    def __init__(self, energy=0.0):
        self.energy = energy

    def predict(self, observation, state=None, *_):
        count = len(observation["observation"])
        zeros = torch.zeros(count, 2, 2)
        plan = type("", (), {"states": zeros, "actions": zeros, "energy": torch.full((count,), self.energy)})
        return np.zeros((count, 2)), plan


def race(**agents):
    return Race({name: Driver(agent, [gym.make(PARTICLE.env)]) for name, agent in agents.items()})


def test_a_record_has_every_figure_and_makes_a_page(tmp_path):
    path = tmp_path / "planning.json"
    sections = {"particle": particle, "batch": batch, "horizons": horizons, "memory": memory}
    results = benchmark.measure(TINY, path, sections)
    assert load(path)["results"] == json.loads(json.dumps(results))
    assert results["ratios"].keys() == RATIOS.keys()
    assert results["failed"] == {}
    assert {row["section"] for row in results["timings"]} == {"particle", "many starts", "horizons"}
    assert [row["horizon"] for row in results["timings"] if row["section"] == "horizons"] == [10, 20, 40, 80]
    assert results["ratios"]["horizon_80_to_10"] > 0
    assert results["ratios"]["batch64_rate_to_first_order"] > 0
    assert results["ratios"]["non_finite"] == 0
    assert results["ratios"]["particle_p50_to_compiled"] is None  # nothing was compiled
    page = default_plans(results)
    for name, columns in TABLES.items():
        assert (f"### {columns.title}\n" in page) == bool(rows_of(results, name))
    assert "6 plans in one process" in page


def test_a_section_that_fails_is_told_and_the_others_go_on(tmp_path, capsys):
    def broken(models):
        raise ValueError("no plan")

    path = tmp_path / "planning.json"
    results = benchmark.measure(TINY, path, {"reacher": broken, "memory": lambda _: {"memory": {"plans": 1}}})
    assert results["failed"] == {"reacher": "ValueError: no plan"}
    assert results["ratios"]["reacher_p50_to_compiled"] is None
    assert load(path)["results"]["memory"] == {"plans": 1}
    capsys.readouterr()
    benchmark.show(results | {"memory": {}})
    assert "reacher failed: ValueError: no plan" in capsys.readouterr().out


def test_a_quick_run_writes_only_where_it_is_told_and_fails_with_a_failed_section(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "RESULT", tmp_path / "default.json")
    monkeypatch.setattr(benchmark, "SECTIONS", {"memory": lambda models: {"ratios": {"non_finite": 0}}})
    assert benchmark.main(quick=True, sections=("memory",)) == 0
    assert list(tmp_path.iterdir()) == []
    assert benchmark.main(quick=True, out=tmp_path / "here.json", sections=("memory",)) == 0
    assert load(tmp_path / "here.json")["results"]["quick"] is True
    monkeypatch.setattr(benchmark, "SECTIONS", {"memory": lambda models: 1 / 0})
    assert benchmark.main(quick=True, sections=("memory",)) == 1


def test_contenders_plan_one_step_each_in_turn():
    order = []

    class Named(Still):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def predict(self, *given):
            order.append(self.name)
            return super().predict(*given)

    both = race(a=Named("a"), b=Named("b"))
    both.warm_up(1)
    times = both.rounds(4)
    assert order[:2] == ["a", "b"]
    assert {frozenset(order[i : i + 2]) for i in range(2, 10, 2)} == {frozenset("ab")}
    assert {order[i] for i in range(2, 10, 2)} == {"a", "b"}  # each begins some rounds
    assert {len(spent) for spent in times.values()} == {4}
    assert both.median_ratio(times, "a", "b") > 0


def test_a_plan_that_is_not_finite_leaves_no_ratio_and_one_that_does_not_move_has_a_bad_return():
    both = race(fine=Still(), broken=Still(np.nan))
    times = both.rounds(50)
    assert both.median_ratio(times, "broken", "fine") is None
    assert both.quantile_ratio(times, 0.95, "fine", "broken") is None
    assert both.median_ratio(times, "fine", "fine") == 1
    assert both.median_ratio(times, "fine", "absent") is None
    fine, broken = both.rows("particle", times)
    assert fine["non_finite"] == 0
    assert broken["non_finite"] > 0
    assert fine["return"] < -10


def test_cold_plans_are_not_timed():
    one = race(a=Still())
    times = one.rounds(60)  # over the end of an episode, and the first plan of the next one
    assert len(times["a"]) == 60
    assert one.drivers["a"].plans == 62


def test_first_order_plans_are_those_of_the_preset_with_gradients_by_autograd(models):
    agent = first_order_agent(REACHER, models.of(REACHER), "eager")
    planner = agent.planner
    assert isinstance(planner.sampler, Langevin)
    assert (planner.sampler.steps, planner.chains, planner.horizon) == (80, 4, 15)
    assert type(planner.energy).value_and_gradient is Energy.value_and_gradient
    written = planner.energy.energy
    assert type(written).value_and_gradient is not Energy.value_and_gradient
    planner.plan(torch.zeros(1, 4), torch.zeros(1, 2), generator=torch.Generator().manual_seed(0))
    x = torch.randn(4, 16, planner.layout.dim, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(
        ByAutograd(written).value_and_gradient(x), written.value_and_gradient(x), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_models_are_trained_once_and_the_default_names_no_sampler(models):
    first = models.of(REACHER)
    assert models.of(REACHER) is first
    planners = [default_agent(REACHER, first.model, horizon).planner for horizon in (None, 40)]
    assert [planner.horizon for planner in planners] == [15, 40]
    assert planners[0].sampler.steps == planners[1].sampler.steps


def test_the_whole_run_has_every_contender_and_a_quick_one_is_small():
    assert FULL.settings is FULL.pendulum_settings is None
    assert set(FULL.compiled) == {REACHER.name, PARTICLE.name, ARM.name}
    assert FULL.seeds * FULL.episodes >= 30
    assert FULL.plans == 10_000
    assert QUICK.pendulum_transitions == 0
    assert EAGER != DEFAULT


@pytest.mark.filterwarnings("ignore")
def test_pendulums_have_a_row_for_each_seed_and_the_worst_start_is_told(models, monkeypatch):
    for name in ("SWING_UP", "BALANCE"):
        pendulum = getattr(outcomes, name)
        short = replace(pendulum, make=lambda env=pendulum.env: gym.make(env, max_episode_steps=3))
        monkeypatch.setattr(outcomes, name, short)
    part = pendulums(models)
    assert [row["env"] for row in part["pendulums"]] == ["Pendulum-v1", "InvertedPendulum-v5"]
    assert all(row["worst"] <= row["mean"] for row in part["pendulums"])
    assert part["ratios"]["pendulum_worst"] <= part["ratios"]["pendulum_mean"] < 0
    assert 1 <= part["ratios"]["inverted_pendulum_least"] <= 3  # a model that has hardly been trained


def test_a_core_is_busy_until_the_end_of_the_block():
    with busy_core() as process:
        assert process.poll() is None
    assert process.returncode == -9


def test_memory_is_that_of_this_process():
    before = resident_mib()
    held = np.ones(8 * 2**20)  # 64 MiB
    assert 50 < resident_mib() - before < 100
    assert held.all()
