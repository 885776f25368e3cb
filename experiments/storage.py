"""Storage of a record: readable JSON, and all results in full precision in a compressed file next to it.

`NAME.json` has the provenance and the rows summarised over seeds, as tables with five significant digits.
`NAME.by-seed.json.xz` has all results: the same rows in full precision and those of single seeds. The JSON has its
SHA-256, so the two are replaced together: the compressed file is written under a temporary name, then the JSON is
replaced, then the compressed file is renamed. The record stays readable if the process is stopped in between.
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
DIGITS = 5  # significant digits in the readable JSON


class DamagedError(Exception):
    """The compressed file is missing, or not the one that the record names."""


def by_seed_path(path: Path) -> Path:
    """Path of the compressed file of the record at `path`; if `path` is a link, next to its target."""
    place = Path(os.path.realpath(path))
    return place.with_name(f"{place.stem}{BY_SEED}")


def compressed(results: Mapping[str, Any]) -> bytes:
    """The results as compressed JSON; the same bytes for the same results."""
    text = json.dumps(results, separators=(",", ":"))
    return lzma.compress(text.encode(), check=lzma.CHECK_CRC64, preset=6 | lzma.PRESET_EXTREME)


def write(path: Path, results: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
    """Write a record; its rows `by_seed`, if any, go into the compressed file.

    Raises:
        OSError: it could not be written; the existing record is unchanged.
        TypeError: a value cannot be written as JSON; nothing is written.

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
    ):  # usually the record is still the old one; after a signal it may be the new one, which needs the file
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    fresh.replace(data)


def whole_results(path: Path, results: Any) -> Any:
    """All results of the record at `path` whose JSON has `results`.

    Raises:
        DamagedError: the compressed file is missing, or not the one that the JSON names.

    """
    about = results.get("by_seed") if isinstance(results, dict) else None
    if not isinstance(about, dict):
        return results  # an earlier record in a single file, or that of a single run
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
    # While a writer is replacing it, the file that the JSON names still has its temporary name.
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
    """Rename the temporary file of a stopped writer if the record names it."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        content = _aside(data).read_bytes()
        named = json.loads(path.read_text(encoding="utf-8"))["results"]["by_seed"]["sha256"]
        if named == hashlib.sha256(content).hexdigest():
            _aside(data).replace(data)


def _shown(value: Any) -> Any:
    """Rows as readable tables, one for all rows with the same keys; without lists of single seeds."""
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        return value
    tables: dict[tuple[str, ...], list[list[Any]]] = {}
    for row in value:
        cells = {name: cell for name, cell in row.items() if not isinstance(cell, dict | list | None)}
        tables.setdefault(tuple(cells), []).append([_rounded(cell) for cell in cells.values()])
    return [{"columns": list(columns), "rows": rows} for columns, rows in tables.items()]


def _rounded(cell: Any) -> Any:
    return float(f"{cell:.{DIGITS}g}") if isinstance(cell, float) else cell
