"""Provenance of the numbers of a page, one line per record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.records import load, parts_of
from experiments.tables import markdown

RESULTS = Path("experiments/results")
COLUMNS = ("record", "written by", "runs", "commits", "last run")
Record = dict[str, Any]


def sources(root: Path, records: Iterable[str]) -> str:
    """The Markdown table of the provenance of records."""
    return markdown(COLUMNS, (_line(root, name) for name in records))


def _line(root: Path, name: str) -> list[str]:
    record = load(root / name)
    parts = parts_of(record["provenance"])
    commits = [row.get("commit") for row in _rows(record)]
    commits += [] if any(commits) else [part["commit"] for part in parts]
    module = " ".join(parts[-1]["command"].split()[:3]).rstrip(",")
    return [
        f"[{name}](../../{name})",
        f"`{module}`",
        str(_runs(record)),
        ", ".join(dict.fromkeys(_short(commit) for commit in commits if commit)),
        max(part["date"] for part in parts)[:10],
    ]


def _rows(record: Record) -> list[Record]:
    rows = record["results"].get("by_seed")
    return rows if isinstance(rows, list) else []


def _runs(record: Record) -> int:
    return len({(row["job"], row["seed"]) for row in _rows(record)}) or 1


def _short(commit: str) -> str:
    number, _, changed = commit.partition("-")
    return number[:7] + (" with changes" if changed else "")
