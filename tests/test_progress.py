"""A line a minute where there is no terminal."""

import io
import time

import pytest

from ebm_control import progress
from ebm_control.data import collect
from ebm_control.progress import Bar, lines_meanwhile
from ebm_control.training.logger import Logger
from tests.data.environments import Point


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.02)


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_logger_says_how_far_it_is(capfd):
    said = ""

    def heard():
        nonlocal said
        said += capfd.readouterr().err
        return "loss 0.5" in said

    with Logger(every=1) as logger:
        logger.start(1000, name="learning")
        logger.advance(250)
        logger.metrics(250, {"loss": 0.5})
        until(heard)
    assert said.strip().splitlines()[-1] == "learning: 250 of 1,000, loss 0.5, 0 s"
    capfd.readouterr()
    time.sleep(0.1)
    assert capfd.readouterr() == ("", "")


def test_nothing_is_said_without_progress(capfd):
    class Slow(Point):
        def step(self, action):
            time.sleep(0.02)
            return super().step(action)

    with Logger(progress=False) as logger:
        logger.start(10)
        collect(Slow, 5, num_envs=1, progress=False)
    assert capfd.readouterr() == ("", "")
    collect(Slow, 20, num_envs=1, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("collecting: ")


def test_only_the_innermost_work_prints(capfd):
    with lines_meanwhile("whole"):
        with Bar() as bar:
            bar.add_task("part", total=3)
            time.sleep(0.15)
        lines = capfd.readouterr().err.splitlines()
        assert lines
        assert all(line.startswith("part: 0 of 3, ") for line in lines)
        time.sleep(0.15)
    assert {line.partition(",")[0] for line in capfd.readouterr().err.splitlines()} == {"whole"}


def test_lines_go_on_where_nobody_reads(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    with lines_meanwhile("work"):
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "4 s"), (60, "1 min"), (3599.4, "59 min"), (7500, "2 h 5 min")]
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert progress._duration(seconds) == text
