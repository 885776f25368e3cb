"""Records of runs: locked by one process at a time, never overwritten by accident, verified on reading, merged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ebm_control.checks import InputError, require
from ebm_control.locks import locked
from ebm_control.provenance import checksum, leads_nowhere
from experiments.storage import DamagedError, by_seed_path, whole_results, write

Row = dict[str, Any]


@contextmanager
def claimed(path: Path, *, resume: bool | None = None, argument: str = "out") -> Iterator[None]:
    """Lock the record at `path` for the duration of the block; to be called before any work for it.

    Args:
        path: path of the record, which need not exist.
        resume: whether to continue an existing record; None for programs that cannot resume.
        argument: name of the argument for `path` or its folder, for the error message.

    Raises:
        InputError: there is a record and `resume` is not set, another process has locked it, or `path` is a link that
            leads back to itself.
        OSError: the path is not writable.

    """
    require(
        not leads_nowhere(path),
        argument,
        given=f"{path}, a link that leads back to itself",
        expected="a file, or a place for one",
    )
    with locked(path.with_name(f".{path.name}.lock"), argument):
        ways = f"another --{argument}, or the old record moved away"
        if resume is not None:
            ways = f"--resume, which keeps its runs and does what is missing, or {ways}"
        require(
            resume or not path.exists(), argument, given=f"{path}, which holds earlier runs", expected=ways
        )
        rows = by_seed_path(path)
        require(
            path.exists() or not rows.exists(),
            argument,
            given=f"{rows}, whose record {path.name} is missing",
            expected="a record with both its files, or none",
        )
        yield


def load(path: Path, argument: str = "record") -> Row:
    """The record at `path`, `{"results": ..., "provenance": ...}`, including its rows of single seeds.

    Raises:
        InputError: it is missing or damaged: its contents do not match its checksum, or the compressed file next to
            it is not the one that it names.

    """

    def refuse(why: str) -> InputError:
        return InputError(f"{argument}: expected a whole record of runs, got {path}, {why}")

    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise refuse(f"which is no JSON ({error})") from error
    except OSError as error:
        raise refuse(f"which cannot be read ({error.strerror})") from error
    if not isinstance(record, dict) or not {"results", "provenance"} <= record.keys():
        raise refuse("which has no results, or no word on where they come from")
    # Earlier records have no checksum; it is the only key allowed besides results and provenance.
    if len(record) > 3 or (len(record) == 3 and record.get("sha256") != checksum(record)):
        raise refuse("which was changed since it was written: its checksum is of something else")
    try:
        return {"results": whole_results(path, record["results"]), "provenance": record["provenance"]}
    except DamagedError as error:
        raise refuse(str(error)) from error
    except OSError as error:
        raise refuse(f"whose rows of single seeds cannot be read ({error.strerror})") from error


def read(path: Path, argument: str) -> Row:
    """The record at `path`: `{"results": {"by_seed": [rows], ...}, "provenance": {"command": ..., ...}}`.

    Raises:
        InputError: it is damaged, see `load`, or not a record of runs of several seeds.

    """
    record = load(path, argument)
    match record:
        case {"results": {"by_seed": [*rows]}, "provenance": {"command": str()} as origin} if all(
            _is_row(row) for row in rows
        ) and all(_has_command(part) for part in parts_of(origin)):
            return record
    raise InputError(
        f"{argument}: expected a whole record of runs, got {path}, which has no rows that each name their job and "
        "seed, or no word on where they come from"
    )


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("job"), str) and type(row.get("seed")) is int


def _has_command(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("command"), str)


def parts_of(origin: Row) -> list[Row]:
    """Provenance of the parts of a record; a record that was not merged is its only part."""
    parts = origin.get("parts", [origin])
    return parts if isinstance(parts, list) else [parts]


def put_together(
    parts: Sequence[Path],
    record: Path,
    names: Sequence[str],
    summarised: Callable[[list[Row]], list[Row]],
) -> None:
    """Merge the runs of several records into one, with the provenance of each part.

    Raises:
        InputError: a part is damaged, or `record` exists and is not one of the parts, so its runs would be lost.

    """
    among = record.resolve() in [part.resolve() for part in parts]
    with claimed(record, resume=among or None, argument="record"):
        rows = merged(parts, names)
        origins = [read(part, "parts")["provenance"] for part in parts]
        whole = origins[-1] | {
            "command": f"python -m experiments.{record.stem}, in parts",
            "seeds": sorted({row["seed"] for row in rows}),
            "seconds": None,
            "parts": list(
                {json.dumps(part): part for origin in origins for part in parts_of(origin)}.values()
            ),
        }
        write(record, {"rows": summarised(rows), "by_seed": rows}, whole)


def merged(parts: Sequence[Path], names: Sequence[str]) -> list[Row]:
    """Rows of single seeds of several records; the last record wins for equal runs; jobs in the order of `names`."""
    found: dict[tuple[str, int], list[Row]] = {}
    for part in parts:
        fresh: dict[tuple[str, int], list[Row]] = {}
        record = read(part, "parts")
        where = {"accelerator": record["provenance"].get("accelerator")}
        for row in record["results"]["by_seed"]:
            fresh.setdefault((row["job"], row["seed"]), []).append(where | row)
        found |= fresh
    place = {name: i for i, name in enumerate(names)}
    order = sorted(found, key=lambda key: (place.get(key[0], len(place)), key[1]))
    return [row for key in order for row in found[key]]
