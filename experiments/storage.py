"""How a record is stored: JSON for people, and everything to full precision in one compressed file beside it.

`NAME.json` has the provenance and the rows that are summarised over seeds, as tables of five significant digits.
`NAME.by-seed.json.xz` has all results: the same rows to full precision and those of single seeds. The JSON names it
with its SHA-256, so the two are exchanged together: the compressed file is written aside first, then the JSON is
replaced, then the compressed file takes its place. Whoever is stopped in between leaves a record that can be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebm_control.provenance import write_record, write_whole

Row = dict[str, Any]
BY_SEED = ".by-seed.json.xz"
DIGITS = 5  # of the numbers that are there for people


class DamagedError(Exception):
    """The compressed file is missing, or not the one that the record names."""


def by_seed_path(path: Path) -> Path:
    """Of the compressed file of the record at `path`, beside the file itself where `path` is a link."""
    place = Path(os.path.realpath(path))
    return place.with_name(f"{place.stem}{BY_SEED}")


def compressed(results: Mapping[str, Any]) -> bytes:
    """The results as compressed JSON; the same bytes for the same results."""
    text = json.dumps(results, separators=(",", ":"))
    return lzma.compress(text.encode(), check=lzma.CHECK_CRC64, preset=6 | lzma.PRESET_EXTREME)


def write(path: Path, results: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
    """Write a record; its rows `by_seed`, where it has any, go into the compressed file.

    Raises:
        OSError: it could not be written; what was there before is untouched.
        TypeError: something of it has no form in JSON; nothing is written.

    """
    if "by_seed" not in results:
        write_record(path, results, origin)
        return
    data, content = by_seed_path(path), compressed(results)
    about = {
        "file": data.name,
        "rows": len(results["by_seed"]),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    shown = {name: _shown(value) for name, value in results.items() if name != "by_seed"}
    fresh = _aside(data)
    _settle(path, data)
    write_whole(fresh, content)
    try:
        write_record(path, shown | {"by_seed": about}, origin)
    except (
        OSError
    ):  # the record is still the old one; after a signal it may be the new one, which needs the file
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    fresh.replace(data)


def whole_results(path: Path, results: Any) -> Any:
    """All results of the record at `path`, whose JSON has `results`.

    Raises:
        DamagedError: the compressed file is missing, or not the one that the JSON names.

    """
    about = results.get("by_seed") if isinstance(results, dict) else None
    if not isinstance(about, dict):
        return results  # of earlier records, which have all in one, or of a single run
    match about:
        case {"file": str(name), "sha256": str(digest)} if name.endswith(BY_SEED) and name == Path(name).name:
            content = _content(Path(os.path.realpath(path)).with_name(name), digest)
        case _:
            raise DamagedError("which does not say where its rows of single seeds are")
    try:
        return json.loads(lzma.decompress(content))
    except (ValueError, lzma.LZMAError) as error:
        raise DamagedError(
            f"whose rows of single seeds, {name} beside it, cannot be read ({error})"
        ) from error


def _content(data: Path, digest: str) -> bytes:
    # While a writer is about to exchange it, the file that the JSON names is still aside.
    for place in (data, _aside(data), data):
        with contextlib.suppress(FileNotFoundError):
            content = place.read_bytes()
            if hashlib.sha256(content).hexdigest() == digest:
                return content
    if not data.exists():
        raise DamagedError(f"whose rows of single seeds, {data.name} beside it, are missing")
    raise DamagedError(
        f"whose rows of single seeds, {data.name} beside it, were changed since they were written"
    )


def _aside(data: Path) -> Path:
    return data.with_name(f".{data.name}.next")


def _settle(path: Path, data: Path) -> None:
    """Finish what a writer that was stopped had left aside, if the record names it."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        content = _aside(data).read_bytes()
        named = json.loads(path.read_text(encoding="utf-8"))["results"]["by_seed"]["sha256"]
        if named == hashlib.sha256(content).hexdigest():
            _aside(data).replace(data)


def _shown(value: Any) -> Any:
    """Rows as tables for people, one for all rows that have the same entries; without lists of single seeds."""
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        return value
    tables: dict[tuple[str, ...], list[list[Any]]] = {}
    for row in value:
        cells = {name: cell for name, cell in row.items() if not isinstance(cell, dict | list | None)}
        tables.setdefault(tuple(cells), []).append([_rounded(cell) for cell in cells.values()])
    return [{"columns": list(columns), "rows": rows} for columns, rows in tables.items()]


def _rounded(cell: Any) -> Any:
    return float(f"{cell:.{DIGITS}g}") if isinstance(cell, float) else cell
