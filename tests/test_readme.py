"""The README's examples run as they stand, and give what it says."""

import re
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

README = Path(__file__).parent.parent / "README.md"
EXAMPLES = re.findall(r"<!-- example: ([a-z ]+) -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)


def ran(place, monkeypatch):
    """What each example prints, run one after the other in one namespace, and the namespace."""
    monkeypatch.chdir(place)
    printed, scope = {}, {}
    for name, code in EXAMPLES:
        lines = printed[name] = []
        scope["print"] = lambda *values, lines=lines: lines.append(values)
        exec(code, scope)
    return printed, scope


def test_the_examples_give_what_the_page_says(tmp_path, monkeypatch):
    # One test, as the later examples go on with the model of the first.
    with pytest.warns(UserWarning, match="reward: its correlation with the rewards in the data"):
        printed, scope = ran(tmp_path, monkeypatch)
    assert list(printed) == ["quick start", "save and load", "online", "sampler"]
    assert README.read_text().count("```python") == len(EXAMPLES)
    assert printed["quick start"] == [(100.0,)]
    assert printed["save and load"] == [(torch.Size([16, 8, 20, 4]),)]
    truth = torch.from_numpy(scope["observations"][:, 1:])
    error = (scope["futures"].states.mean(dim=1) - truth)[:, 0].square().mean().sqrt()
    assert error < 0.1 * truth.std()
    assert printed["online"] == [(1.0,)]
    assert len(scope["plans"]) == 6
    for plan in scope["plans"]:
        assert torch.equal(plan[:, 0], scope["x"][:, 0]), "what is fixed stays, to the bit"
        assert torch.isfinite(plan).all()


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (README.parent / target).exists(), target
