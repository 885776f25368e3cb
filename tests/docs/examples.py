"""Python examples of the documentation, as they stand or with smaller numbers."""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"
_BLOCK = re.compile(r"(?:<!-- example: (?P<name>[^\n]+?) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One Python block of a page; `name` is None where the page gives none."""

    page: str
    name: str | None
    code: str


def examples(page: str) -> list[Example]:
    """All Python blocks of a page, in order."""
    text = (DOCS / page).read_text()
    return [Example(page, block["name"], block["code"]) for block in _BLOCK.finditer(text)]


def run_page(page: str, smaller: dict[str, str]) -> dict:
    """Execute the blocks of a page one after the other in one scope, which is returned.

    Args:
        page: path below `docs/`.
        smaller: text to replace, and its replacement, so that the examples are fast. All of it has to occur.

    """
    blocks = examples(page)
    for old in smaller:
        assert any(old in block.code for block in blocks), f"{page}: no example has {old!r}"
    scope: dict = {"__name__": f"docs/{page}"}
    for block in blocks:
        code = block.code
        for old, new in smaller.items():
            code = code.replace(old, new)
        exec(compile(code, f"docs/{page}: {block.name}", "exec"), scope)
    return scope
