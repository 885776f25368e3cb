"""What the library survives, on a small scale; and a harness that tells a fault when there is one."""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.survival.damage import Subject, damages
from benchmarks.survival.disks import Command, disks_of
from benchmarks.survival.fuzz import Call, fuzzed
from benchmarks.survival.kills import Victim, Whole, kill
from benchmarks.survival.outcomes import (
    FAULTS,
    Outcome,
    ending_complaint,
    judged,
    same,
    sound,
    tallied,
)
from benchmarks.survival.processes import Ending, isolated, run
from ebm_control.checks import InputError, require_number
from ebm_control.training import CheckpointError
from tests.helpers import Forked

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SMALL = """
import sys
from pathlib import Path
from benchmarks.survival.__main__ import Settings, main
from benchmarks.survival.tries import TINY
sys.exit(main(Settings(out=Path({out!r}), seed=1), TINY))
"""


@pytest.mark.slow
def test_a_small_run_finds_no_fault(tmp_path):
    out = tmp_path / "survival.json"
    ended = Forked(SMALL.format(out=str(out)), cwd=ROOT)
    complained = ended.communicate(timeout=200)[1]
    assert out.exists(), complained
    tally = json.loads(out.read_text())
    assert tally["tries"] > 150
    assert tally["clear"] > 0
    assert tally["right"] > 0
    assert {"kills", "damage", "disks", "fuzz"} <= tally["by_kind"].keys()
    assert tally["provenance"]["seeds"] == [1]
    assert [fault for fault in tally["faults"] if fault["result"] in FAULTS] == []
    assert ended.returncode == 0


def refuse(error):
    raise error


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (lambda: 1, "right"),
        (lambda: 2, "silent"),
        (lambda: refuse(InputError("steps: expected 1, got 2")), "clear"),
        (lambda: refuse(CheckpointError("run/steps: truncated")), "clear"),
        (lambda: refuse(InputError("expected 1, got 2")), "tracebacks"),
        (lambda: refuse(InputError("footsteps: expected 1, got 2")), "tracebacks"),
        (lambda: refuse(InputError("steps: expected 1,\ngot 2")), "tracebacks"),
        (lambda: refuse(ValueError("steps: expected 1, got 2")), "tracebacks"),
        (lambda: [][0], "tracebacks"),
    ],
    ids=["right", "other", "input", "checkpoint", "unnamed", "part of a word", "lines", "value", "index"],
)
def test_a_call_is_judged_by_what_it_gives_and_by_how_it_refuses(call, result):
    found = judged("fuzz: one", "it", call, lambda value: None if value == 1 else "not 1", ["steps"])
    assert found.result == result
    assert bool(found.why) == (result in FAULTS)


@pytest.mark.parametrize(
    ("ending", "fault"),
    [
        (Ending(0, "done", ""), False),
        (Ending(2, "", "error: out: expected a folder, got a file\n"), False),
        (Ending(2, "", "\x1b[1;31merror:\x1b[0m out: expected a folder\n"), False),
        (Ending(2, "", "out: expected a folder\n"), True),
        (Ending(2, "", "error: out\nand more\n"), True),
        (Ending(2, "", ""), True),
        (Ending(2, "", "step 64: learned anew\nerror: out: expected a folder\n"), False),
        (Ending(2, "", "step 64: learned anew\nin other units\nerror: out\n"), True),
        (Ending(2, "", "step 64: learned anew\n"), True),
        (Ending(1, "", "error: out\n"), True),
        (Ending(-11, "", ""), True),
        (Ending(0, "", "", hung=True), True),
        (Ending(0, "", "Traceback (most recent call last):\n  File\nOSError: no\n"), True),
    ],
)
def test_a_command_may_end_well_or_with_one_line(ending, fault):
    assert (ending_complaint(ending, (0, 2)) is not None) == fault


def test_equal_to_the_bit_means_values_types_and_shapes():
    state = {"a": torch.tensor([1.0, float("nan")]), "b": [1, "x", np.zeros(2)]}
    assert same(state, {"a": torch.tensor([1.0, float("nan")]), "b": [1, "x", np.zeros(2)]})
    assert not same(state, {"a": torch.tensor([1.0, 2.0]), "b": [1, "x", np.zeros(2)]})
    assert not same(state, {"a": state["a"], "b": [1, "x", np.zeros(2, np.float32)]})
    assert not same(state, {"a": state["a"]})
    assert not same(1, True)


def test_one_fault_of_any_kind_makes_a_run_unsound():
    fine = [Outcome("kills: train", "0", "right"), Outcome("fuzz: x", "1", "clear")]
    assert sound(tallied(fine))
    assert not sound(tallied([]))
    for fault in FAULTS:
        tally = tallied([*fine, Outcome("fuzz: x", "2", fault, "why")])
        assert not sound(tally)
        assert tally["tries"] == 3
        assert tally[fault] == tally["by_kind"]["fuzz"][fault] == tally["by_kind"]["fuzz: x"][fault] == 1
        assert [found["why"] for found in tally["faults"]] == ["why"]


def crash_or_hang(item):
    if item == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "hang":
        time.sleep(60)
    return item


@pytest.mark.slow
def test_what_crashes_or_hangs_costs_its_own_try_alone():
    items = ["a", "crash", "b", "hang", "c"]
    found = list(isolated(crash_or_hang, items, 2.0, lambda item, how: f"{item}: {how}"))
    assert found == ["a", "crash: the process died (-9)", "b", "hang: hangs", "c"]


def test_a_process_ends_as_an_interpreter_would():
    assert run(lambda: print("here")) == Ending(0, "here\n", "")
    assert run(lambda: sys.exit(3)).code == 3
    failed = run(lambda: refuse(ValueError("no")))
    assert failed.code == 1
    assert "ValueError: no" in failed.complained
    hung = run(lambda: time.sleep(60), seconds=0.5)
    assert hung.hung
    assert hung.code == -9


def counting(folder, again, *, forget=False, take=(), shrink=False):
    """Write a number a step, as a run with checkpoints would; well, or badly."""
    file = folder / "count"
    done = int(file.read_text()) if again and file.exists() else 0
    for name in take:
        (folder / name).unlink(missing_ok=True)
    for step in range(done + 1, 21):
        time.sleep(0.02)
        draft = folder / "draft"
        draft.write_text(str(step + 100 * (forget and again)))
        draft.replace(file)
    if shrink and again:
        file.write_text("0")


def stopped_in_one_line(folder, again, **how):
    def stop(number, frame):
        print("stopped", file=sys.stderr)
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    counting(folder, again, **how)


def count_of(folder):
    return int((folder / "count").read_text()) if (folder / "count").exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("go", "result"),
    [
        (stopped_in_one_line, "right"),
        (counting, "tracebacks"),
        (partial(stopped_in_one_line, forget=True), "silent"),
        (partial(stopped_in_one_line, shrink=True), "silent"),
        (partial(stopped_in_one_line, take=["notes.txt"]), "lost"),
    ],
    ids=["well", "killed by SIGTERM", "another end", "less in the end", "takes files"],
)
def test_what_a_killed_command_does_wrong_is_told(tmp_path, go, result):
    victim = Victim("count", lambda folder: None, go, count_of, count_of)
    found = kill(victim, Whole(20, 0.3), number=0, seed=1, place=tmp_path)  # SIGTERM
    assert found.result == result, found


def test_a_reader_that_does_not_look_is_told(tmp_path):
    text = "figures: " + " ".join(map(str, range(40)))
    subject = Subject(
        "text",
        lambda folder: (folder / "a.txt").write_text(text),
        ("a.txt",),
        lambda folder: (folder / "a.txt").read_text(errors="replace"),
        1.0,
    )
    results = {outcome.result for outcome in damages(subject, range(40), 0, tmp_path, [ROOT / "Makefile"])}
    assert {"silent", "tracebacks"} <= results


def write_over(out, given):
    del given
    (out / "data.json").write_text("new")


def refused(out, given):
    try:
        write_over(out, given)
    except OSError as error:
        print(f"error: {out}: {error}", file=sys.stderr)
        sys.exit(2)


def take_all(out, given):
    del given
    for path in out.rglob("*.txt") if out.is_dir() else ():
        path.unlink()


@pytest.mark.parametrize(
    ("go", "results"),
    [(refused, {"clear", "right"}), (write_over, {"tracebacks", "right"}), (take_all, {"lost"})],
    ids=["refuses", "breaks off", "takes files"],
)
def test_a_command_that_cannot_write_is_judged_by_words_and_by_what_is_left(tmp_path, go, results):
    found = disks_of(Command("write", go, ("data.json",)), range(12), tmp_path, tmp_path)
    told = {outcome.result for outcome in found}
    assert results <= told
    assert go is not refused or told == results


def checked(steps):
    require_number("steps", steps, 1, 10, whole=True)
    return float(steps)


@pytest.mark.parametrize(
    ("function", "results"),
    [
        (checked, {"clear", "right"}),
        (lambda steps: 1.0, {"silent", "right"}),
        (lambda steps: 1.0 + steps, {"silent", "tracebacks", "right"}),
    ],
    ids=["checked", "swallows all", "computes"],
)
def test_a_call_that_does_not_check_is_told(function, results):
    call = Call("one", function, {"steps": "count"}, lambda: {"steps": 3})
    found = {outcome.result for outcome in fuzzed([call], range(60), 0)}
    assert found == results
