"""What every experiment's and benchmark's program refuses before it does anything."""

import importlib
import sys

import pytest

from ebm_control.checks import InputError

RECORDS = {
    "online.__main__": "online.json",
    "continual.__main__": "continual.json",
    "images.__main__": "images.json",
    "mujoco.__main__": "mujoco.json",
    "prediction.__main__": "prediction.json",
    "prediction.gaps": "prediction-gaps.json",
    "planning.__main__": "planning.json",
    "planning.budget": "budget.json",
    "planning.diversity": "diversity.json",
    "planning.reinforcement": "reinforcement.json",
    "reacher": "reacher.json",
}
CHOICES = [
    (
        "online.__main__",
        ["--parts", "reacher", "nowhere"],
        "parts: expected some of 'reacher', .*, got 'nowhere'",
    ),
    ("online.__main__", ["--parts"], "parts: expected some of .*, got none"),
    ("online.__main__", ["--methods", "EBN"], "methods: expected some of 'EBM', .*, got 'EBN'"),
    (
        "online.__main__",
        ["--quick", "--parts", "exploration, arm7"],
        "online: expected a choice that has runs",
    ),
    (
        "continual.__main__",
        ["--streams", "split-letters"],
        "streams: expected some of .*, got 'split-letters'",
    ),
    ("continual.__main__", ["--methods", "ebm", "Ewc"], "methods: expected some of .*, got 'Ewc'"),
    (
        "images.__main__",
        ["--parts", "density", "speed"],
        "parts: expected some of 'density', .*, got 'speed'",
    ),
    (
        "images.__main__",
        ["--parts", "compose", "--methods", "classifier"],
        "methods: expected some of 'energies', got",
    ),
    ("mujoco.__main__", ["--envs", "Ant-v5"], "envs: expected some of 'Pendulum-v1', .*, got 'Ant-v5'"),
    (
        "mujoco.__main__",
        ["--methods", "PPO"],
        "methods: expected some of 'oracle', 'energy', .*'SAC', .*, got 'PPO'",
    ),
    (
        "mujoco.__main__",
        ["--envs", "CartPole-v1", "--methods", "SAC"],
        "methods: expected some of 'energy', .*'DQN', 'DQN 10x', got 'SAC'",
    ),
    (
        "prediction.__main__",
        ["--cases", "forks"],
        "cases: expected some of 'fork, actions given', .*, got 'forks'",
    ),
    (
        "prediction.__main__",
        ["--quick", "--cases", "hand-reach, states alone"],
        "prediction: expected a choice that",
    ),
    (
        "prediction.gaps",
        ["--cases", "fork, actions given"],
        "cases: expected some of .*, got 'fork, actions given'",
    ),
    ("planning.__main__", ["--parts", "mazes"], "parts: expected some of 'maze', .*, got 'mazes'"),
    ("planning.__main__", ["--timing", "0"], "timing: expected a whole number of at least 1, got 0"),
    ("planning.__main__", ["--quick", "--parts", "ensemble"], "planning: expected a choice that has runs"),
    ("planning.diversity", ["--problems", "0"], "problems: expected a whole number of at least 1, got 0"),
    ("planning.reinforcement", ["--steps", "-5"], "steps: expected a whole number of at least 1, got -5"),
    ("planning.reinforcement", ["--envs"], "envs: expected some of 'particle', .*, got none"),
    ("planning.reinforcement", ["--envs", "nowhere"], "envs: expected some of 'particle', .*, got 'nowhere'"),
    (
        "planning.reinforcement",
        ["--algorithms", "sac", "dqn"],
        "algorithms: expected some of 'sac', 'ppo', 'sac10x', got 'dqn'",
    ),
    ("planning.reinforcement", ["--until", "noon"], "until: expected HH:MM, got 'noon'"),
    ("planning.figures", ["--only", "all"], "only: expected some of 'maze_plans', .*, got 'all'"),
    ("reacher", ["--episodes", "-2"], "episodes: expected a whole number of at least 1, got -2"),
]
BENCHMARKS = ["collection", "continual", "planning.__main__", "prediction", "samplers"]


def call(monkeypatch, module, *arguments):
    monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
    importlib.import_module(module).main()


@pytest.mark.parametrize("module", RECORDS)
@pytest.mark.parametrize("quick", [[], ["--quick"]])
def test_a_record_that_is_there_is_not_begun_anew(module, quick, tmp_path, monkeypatch):
    record = tmp_path / RECORDS[module]
    record.write_text("hundreds of runs")
    with pytest.raises(InputError, match=r"^out: expected --resume, .*, got .*, which holds earlier runs$"):
        call(monkeypatch, f"experiments.{module}", "--out", tmp_path, *quick)
    with pytest.raises(
        InputError, match=r"^resume: expected a whole record of runs, got .*, which is no JSON"
    ):
        call(monkeypatch, f"experiments.{module}", "--out", tmp_path, "--resume", *quick)
    assert record.read_text() == "hundreds of runs"
    assert list(tmp_path.iterdir()) == [record]


@pytest.mark.parametrize("module", RECORDS)
@pytest.mark.parametrize(("flag", "value"), [("--seeds", "0"), ("--seeds", "-1"), ("--first", "-1")])
def test_seeds_are_counted_from_0_and_at_least_one(module, flag, value, tmp_path, monkeypatch):
    least = 1 if flag == "--seeds" else 0
    said = rf"^{flag[2:]}: expected a whole number of at least {least}, got {value}$"
    with pytest.raises(InputError, match=said):
        call(monkeypatch, f"experiments.{module}", "--out", tmp_path / "new", flag, value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("module", "arguments", "said"), CHOICES)
def test_unknown_names_and_choices_without_runs_are_refused(module, arguments, said, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=f"^{said}"):
        call(monkeypatch, f"experiments.{module}", "--out", tmp_path / "new", *arguments)
    assert not (tmp_path / "new").exists()


def measured(name, path):
    """Call a benchmark as its command line does."""
    if name == "samplers":
        pytest.importorskip("torchebm")
    module = importlib.import_module(f"benchmarks.{name}")
    if name == "collection":
        module.main(module.Settings(output=path))
    else:
        module.main(out=path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_does_not_write_over_figures(name, tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("figures")
    argument = "output" if name == "collection" else "out"
    with pytest.raises(
        InputError, match=rf"^{argument}: expected another --{argument}, or .*, got .*figures\.json"
    ):
        measured(name, path)
    assert path.read_text() == "figures"
    assert list(tmp_path.iterdir()) == [path]
