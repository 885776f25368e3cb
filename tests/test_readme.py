"""The README's examples run as they stand, and give what it says."""

import re
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

README = Path(__file__).parent.parent / "README.md"
EXAMPLES = re.findall(r"<!-- example: ([a-z ]+) -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each example prints, run one after the other in one namespace, and the namespace."""
    place, printed, scope = tmp_path_factory.mktemp("readme"), {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, code in EXAMPLES:
            lines = []
            scope["print"] = lambda *values, lines=lines: lines.append(values)
            exec(code, scope)
            printed[name] = lines
    return printed, scope


def test_every_block_of_python_is_run(told):
    printed, _ = told
    assert list(printed) == ["quick start", "save and load", "online", "sampler"]
    assert README.read_text().count("```python") == len(EXAMPLES)


def test_the_pendulum_is_balanced(told):
    printed, _ = told
    assert printed["quick start"] == [(100.0,)]


def test_futures_are_in_the_environments_units(told):
    printed, scope = told
    assert printed["save and load"] == [(torch.Size([16, 8, 20, 4]),)]
    truth = torch.from_numpy(scope["observations"][:, 1:])
    error = (scope["futures"].states.mean(dim=1) - truth)[:, 0].square().mean().sqrt()
    assert error < 0.1 * truth.std()


def test_learning_online_reaches_the_goals(told):
    printed, _ = told
    assert printed["online"] == [(1.0,)]


def test_every_sampler_keeps_what_is_fixed(told):
    _, scope = told
    assert len(scope["plans"]) == 5
    for plan in scope["plans"]:
        assert torch.equal(plan[:, 0], scope["x"][:, 0])
        assert torch.isfinite(plan).all()


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (README.parent / target).exists(), target
