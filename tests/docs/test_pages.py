"""What is written about the command line is what it says, and pages are linked and complete."""

import re
from types import SimpleNamespace

import pytest

from tests.docs.examples import DOCS
from tools import cli_reference, docs_hooks

PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"(?<!`)\]\((?!https?:)([^)#\s]+)(#[^)]+)?\)")


def test_the_command_line_page_is_what_help_prints():
    written, now = cli_reference.PAGE.read_text(), cli_reference.page()
    assert written == now, "run `python -m tools.cli_reference`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_lead_somewhere(page):
    for target, _ in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation():
    navigation = (DOCS.parent / "mkdocs.yml").read_text()
    missing = [str(p.relative_to(DOCS)) for p in PAGES if str(p.relative_to(DOCS)) not in navigation]
    assert not missing


@pytest.mark.parametrize(
    ("repo_url", "link"),
    [
        ("", "`a.json`"),
        ("https://example.org/x/", "[a.json](https://example.org/x/blob/main/experiments/results/a.json)"),
    ],
)
def test_links_to_records_lead_to_the_repository_or_become_names(repo_url, link):
    page = "see [a.json](../../experiments/results/a.json) and [notes](../lab-notes/index.md)"
    config = SimpleNamespace(repo_url=repo_url)
    assert (
        docs_hooks.on_page_markdown(page, config=config) == f"see {link} and [notes](../lab-notes/index.md)"
    )
