"""Hooks of mkdocs: links of pages to files of the repository that are not pages."""

from __future__ import annotations

import re
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?:experiments|benchmarks)/[^)\s]+)\)")


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Lead links to records to the repository, or print their names where the site has no `repo_url`.

    On the pages as files such links are relative, so that they work in a checkout. The site has no records.
    """
    repository = config.repo_url

    def replaced(link: re.Match[str]) -> str:
        name, path = link.groups()
        return f"[{name}]({repository.rstrip('/')}/blob/main/{path})" if repository else f"`{name}`"

    return _LINK.sub(replaced, markdown)
