"""Every number that a command takes is checked before any work."""

import dataclasses
import types
import typing
from pathlib import Path

import pytest

from ebm_control.checks import InputError
from ebm_control.cli.commands import Collect, Predict
from ebm_control.cli.continual import Continual
from ebm_control.cli.demo import Demo
from ebm_control.cli.images import Compose, Generate, Inpaint, Outliers, Restore, Robust
from ebm_control.cli.online import Online
from ebm_control.cli.plan import Plan
from tests.cli.helpers import refused

TRAJECTORIES = (Collect, Predict, Plan, Online, Continual, Demo)
OF_A_MODEL = (Generate, Inpaint, Restore, Outliers, Robust)
GIVEN = {"env": "ebm/Particle-v0", "checkpoint": Path("no/run"), "data": "no.npz"}
# Where 0 or less means something.
FREE = {("Predict", "temperature", 0.0), ("Continual", "memory_size", 0), ("Continual", "penalty", 0.0)}
FREE |= {("Continual", name, 0.0) for name in ("dropout", "averaging")} | {("Robust", "level", 0.0)}
BAD = {int: (0, -1), float: (-1.0, 0.0, float("nan"), float("inf"))}


def kinds(hint):
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def cases(commands):
    for command in commands:
        hints = typing.get_type_hints(command)
        for field in dataclasses.fields(command):
            for kind in set(kinds(hints[field.name])) & set(BAD):
                for value in BAD[kind]:
                    of_seed = field.name in ("seed", "label") and value == 0
                    if not of_seed and (command.__name__, field.name, value) not in FREE:
                        yield pytest.param(
                            command, field.name, value, id=f"{command.__name__}-{field.name}-{value}"
                        )


def made(command, out, **changes):
    names = {field.name for field in dataclasses.fields(command)}
    return command(**{name: value for name, value in GIVEN.items() if name in names} | {"out": out} | changes)


@pytest.mark.parametrize(("command", "name", "value"), list(cases(TRAJECTORIES)))
def test_numbers_out_of_range_are_refused_before_anything_is_read_or_written(tmp_path, command, name, value):
    out = tmp_path / "run" / "data.npz" if command is Collect else tmp_path / "run"
    with pytest.raises(InputError, match=f"^{name}: expected a .*number .*, got {value}"):
        made(command, out, **{name: value}).run()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def digits(runs):
    return runs / "digits"


@pytest.mark.parametrize(("command", "name", "value"), list(cases(OF_A_MODEL)))
def test_numbers_of_image_tasks_are_refused_before_anything_is_written(
    tmp_path, digits, command, name, value
):
    with pytest.raises(InputError, match=f"^{name}: expected .*, got {value}"):
        command(digits, out=tmp_path / "run", **{name: value}).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "changes", "message"),
    [
        (Generate, {"label": 10}, "label: expected 0 to 9, got 10"),
        (Generate, {"count": 3}, "count: expected a whole number of at least 4, got 3"),
        (Robust, {"radii": ()}, "radii: expected at least one"),
        (Robust, {"radii": (0.1, float("nan"))}, "radii: expected a number of at least 0, got nan"),
        (Robust, {"radii": (-0.1,)}, "radii: expected a number of at least 0, got -0.1"),
        (Inpaint, {"count": 1}, "count: expected a whole number of at least 2, got 1"),
    ],
)
def test_what_image_tasks_cannot_do_is_refused_before_anything_is_written(
    tmp_path, digits, command, changes, message
):
    with pytest.raises(InputError) as caught:
        command(digits, out=tmp_path / "run", **changes).run()
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count: expected a whole number of at least 1"),
        ({"seed": -1}, "seed: expected a whole number from 0 to"),
        ({"attributes": ()}, "attributes: expected 1, one for each checkpoint"),
        ({"attributes": (10,)}, "attributes: expected 0 to 9, got 10"),
    ],
)
def test_compositions_of_no_sense_are_refused(tmp_path, digits, changes, message):
    with pytest.raises(InputError) as caught:
        Compose(**{"checkpoints": (digits,), "attributes": (3,), "out": tmp_path / "run"} | changes).run()
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["collect", "--env", "ebm/Particle-v0", "--seed", "99999999999999999999999", "--out", "{tmp}/a.npz"],
        ["online", "--env", "ebm/Particle-v0", "--seed", "-1", "--out", "{tmp}/run"],
        ["continual", "--seed", "9999999999999999999", "--out", "{tmp}/run"],
    ],
)
def test_seeds_that_no_generator_takes_are_refused(tmp_path, arguments, capfd):
    assert "seed: expected" in refused([part.format(tmp=tmp_path) for part in arguments], capfd)
    assert list(tmp_path.iterdir()) == []
