"""The benchmark of a GPU: its parts on the CPU, with tiny sizes and the engines that need no CUDA."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import FULL, PEER, Size, chains, cuda_device, measure, timed
from ebm_control.checks import InputError
from ebm_control.models import ModelSettings, TrainSettings
from experiments.pages.gpu import TABLES
from tests.helpers import ROOT

CPU = torch.device("cpu")
TINY = replace(
    FULL,
    chains=(4, 8),
    steps=3,
    width=8,
    rounds=2,
    starts=(1, 3),
    plan_rounds=2,
    updates=1,
    update_rounds=2,
    transitions=1000,
    train=TrainSettings(ModelSettings(hidden=(8,)), updates=1, base_updates=20, batch_size=16),
)


@pytest.fixture(scope="module")
def results() -> dict[str, object]:
    return measure(CPU, TINY, ("eager",))


def test_every_part_is_measured_at_every_size(results: dict[str, list[dict[str, float]]]) -> None:
    loops = {(row["chains"], row["loop"]) for row in results["chains"]}
    assert loops == {(count, name) for count in (4, 8) for name in ("eager", PEER)}
    planned = {(row["starts"], row["planner"]) for row in results["plans"]}
    assert planned == {(count, name) for count in (1, 3) for name in ("default", "first-order, eager")}
    [update] = results["updates"]
    assert update["updates_per_second"] == pytest.approx(1e3 / update["ms"], rel=0.01)
    for row in results["plans"]:
        assert row["plans_per_second"] == pytest.approx(1e3 * row["starts"] / row["ms"], rel=0.01)


def test_ratios_name_what_was_timed_and_every_table_has_rows(
    results: dict[str, list[dict[str, float]]],
) -> None:
    expected = {f"torchebm_to_eager_{count}" for count in (4, 8)}
    expected |= {f"first_order_to_default_plan_{count}" for count in (1, 3)}
    assert set(results["ratios"]) == expected
    for name, table in TABLES.items():
        assert len(table.cells(results[name])) == len(results[name]) > 0


def test_ratios_of_engines_divide_by_eager_and_those_of_torchebm_by_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spent = {"eager": [8.0, 8.0], "compile": [4.0, 4.0], "graph": [2.0, 2.0], PEER: [6.0, 6.0]}
    monkeypatch.setattr(gpu, "timed", lambda *_: spent)
    monkeypatch.setattr(gpu, "chain_loops", lambda *_: {})
    found = chains(CPU, Size(chains=(64,)), ("eager", "compile", "graph"))["ratios"]
    assert found == {
        "graph_to_eager_64": 0.25,
        "compile_to_eager_64": 0.5,
        "torchebm_to_step_64": 3.0,
        "torchebm_to_eager_64": 0.75,
    }


def test_contenders_take_turns_and_two_rounds_do_not_count() -> None:
    calls: list[str] = []
    loops = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = timed(loops, 3, CPU)
    assert calls == ["a", "b"] * 5
    assert {name: len(spent) for name, spent in times.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize("name", ["cpu", "nonsense", "cuda:99"])
def test_what_is_no_cuda_device_is_named(name: str) -> None:
    with pytest.raises(InputError, match=rf"^device: expected a CUDA device.*, got '?{name}"):
        cuda_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_without_a_cuda_device_it_says_so_in_one_line_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--quick", "--out", str(out)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "error: device: expected a CUDA device, got cuda where torch finds 0\n"
    assert not ended.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_all_engines_are_timed_on_a_gpu() -> None:
    found = measure(torch.device("cuda", 0), TINY)
    assert {"graph_to_eager_4", "torchebm_to_step_8"} <= set(found["ratios"])
