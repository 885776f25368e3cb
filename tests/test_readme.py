"""The README's examples run, with less data and training where that takes minutes."""

import re
from pathlib import Path

import minari
import pytest
import torch

from ebm_control.data import collect, to_minari

pytestmark = pytest.mark.slow

README = Path(__file__).parent.parent / "README.md"


def example(name: str, smaller: dict[str, str] | None = None) -> str:
    """Code of an example; `smaller` is text to replace in it, all of which has to occur."""
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, f"README has no example named {name!r}"
    code = found.group(1)
    for old, new in (smaller or {}).items():
        assert old in code, f"the example {name!r} has no {old!r}"
        code = code.replace(old, new)
    return code


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def test_example_on_an_own_environment_balances_the_pendulum(capsys):
    scope: dict = {}
    smaller = {"steps=20_000": "steps=6_000", "updates=200": "updates=20, base_updates=1000"}
    exec(example("own environment", smaller | {"max_episode_steps=100": "max_episode_steps=60"}), scope)
    printed = float(capsys.readouterr().out.split("return")[-1])
    assert printed >= 50, "random actions keep it up for about 10 steps"


def test_example_that_learns_online_reaches_the_goal(capsys):
    exec(example("online"), {})
    printed = float(capsys.readouterr().out.split("return")[-1])
    assert printed > -7.5, "random actions give -50"


def test_example_on_a_minari_dataset_predicts(capsys):
    to_minari(collect("Pendulum-v1", 4000, progress=False, num_envs=4), "pendulum/random-v0", "Pendulum-v1")
    assert "pendulum/random-v0" in minari.list_local_datasets()
    scope: dict = {}
    exec(example("minari", {"updates=200": "updates=20, base_updates=1000"}), scope)
    assert scope["futures"].states.shape == (16, 8, 20, 3)
    assert torch.isfinite(scope["futures"].states).all()
    error = scope["prediction_error"](scope["model"], scope["rollouts"], horizon=20)
    assert error.rmse[-1] < 0.5 * error.rmse_still[-1]


def test_the_image_example_draws_and_fills_digits(capsys):
    exec(example("images"), {})
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == "torch.Size([8, 1, 8, 8]) torch.Size([8, 4, 1, 8, 8])"


def test_the_continual_example_forgets_little(capsys):
    exec(example("continual"), {})
    right, forgotten = (float(part.split()[0]) for part in capsys.readouterr().out.split(","))
    assert right > 0.7
    assert forgotten < 0.2
