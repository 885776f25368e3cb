"""The pages of results, written only from the records.

`python -m experiments.report [--out docs/results] [--pages NAME ...]` writes a page for each kind of experiment. A page
is a template from `experiments/pages/` with explanations, and with tables in its slots `{{name}}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.continual import report as continual
from experiments.images import report as images
from experiments.mujoco import report as mujoco
from experiments.online import report as online
from experiments.pages import speed
from experiments.planning import report as planning
from experiments.prediction import report as prediction
from experiments.processes import as_program
from experiments.runs import chosen

ROOT = Path(__file__).parents[1]
TEMPLATES = Path(__file__).parent / "pages"
PAGES: dict[str, Callable[[Path], dict[str, str]]] = {
    "planning": planning.page_tables,
    "online": online.page_tables,
    "mujoco": mujoco.page_tables,
    "prediction": prediction.page_tables,
    "images": images.page_tables,
    "continual": continual.page_tables,
    "speed": speed.page_tables,
}
SLOT = re.compile(r"\{\{(\w+)\}\}")


def page(name: str, root: Path = ROOT) -> str:
    """Text of a page, from the records under `root`.

    Raises:
        InputError: a record is missing or damaged.
        KeyError: the template has a slot without a table, or has no slot for a table.

    """
    found = PAGES[name](root)
    template = (TEMPLATES / f"{name}.md").read_text(encoding="utf-8")
    left_over = found.keys() - set(SLOT.findall(template))
    if left_over:
        raise KeyError(f"{name}.md: no slot for {sorted(left_over)}")
    head = f"<!-- Written by `python -m experiments.report` from the records and experiments/pages/{name}.md. -->\n\n"
    text = head + SLOT.sub(lambda slot: found[slot[1]], template)
    return re.sub(r"\n{3,}", "\n\n", text)  # around a slot of which nothing was measured


@dataclass
class Report:
    """Write all pages, or some."""

    out: Path = ROOT / "docs" / "results"
    """Folder of the pages."""
    pages: tuple[str, ...] = tuple(PAGES)
    """Names of the pages to write."""


def main() -> None:
    asked = tyro.cli(Report)
    names = chosen("pages", asked.pages, PAGES)
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        (asked.out / f"{name}.md").write_text(page(name), encoding="utf-8")
        print(asked.out / f"{name}.md")


if __name__ == "__main__":
    as_program(main)
