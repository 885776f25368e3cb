"""Provenance of results: what every recorded result contains besides its values."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "numpy", "gymnasium", "mujoco")


def provenance(command: str, seeds: Sequence[int], seconds: float) -> dict[str, Any]:
    """Everything needed to reproduce a result and to judge its speed, as a JSON-safe dictionary.

    Args:
        command: the command that reproduces the result.
        seeds: all seeds that were used.
        seconds: wall-clock time of the whole run.

    Returns:
        `command`, `seeds`, `seconds`, `date` (UTC), `commit` (git hash, with `-dirty` if the working tree
            differs; None outside a repository), `cpu`, `cores` (usable ones), `accelerator` (None without one),
            `python`, `system` and the `versions` of the packages that determine the results.

    """
    return {
        "command": command,
        "seeds": [int(seed) for seed in seeds],
        "seconds": round(float(seconds), 3),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "accelerator": _accelerator(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def write_record(path: str | Path, results: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
    """Write `results` and their `provenance` to `path` as JSON, creating its folder if needed.

    The file is written in one piece, see `write_whole`. The entry `sha256` is the `checksum` of all other entries. Each
    row of a table takes one line.

    Raises:
        OSError: writing failed (for example, the disk is full or `path` is a link to itself); an old file is untouched.
        TypeError: a value cannot be represented in JSON; nothing is written.

    """
    record = {"results": results, "provenance": origin}
    text = laid_out(json.loads(json.dumps(record | {"sha256": checksum(record)}))) + "\n"
    write_whole(path, text.encode())


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file in one piece, creating its folder if needed.

    The content is written to disk under another name, which then replaces the old file.

    Raises:
        OSError: writing failed (for example, the disk is full or `path` is a link to itself); an old file is untouched.

    """
    path = Path(path)
    place = Path(os.path.realpath(path))  # a symbolic link is preserved
    draft = place.with_name(f".{place.name}.{secrets.token_hex(8)}.draft")
    try:
        if leads_nowhere(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(place)
    except OSError as error:
        what = f"the record could not be written ({error.strerror}); what was there before is untouched"
        raise OSError(error.errno, what, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # already removed, or its folder is not a folder
            draft.unlink()


def laid_out(value: Any, indent: str = "") -> str:
    """JSON with one line per entry, but with lists and dictionaries of plain values on one line."""
    inner = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(value, dict | list) or not any(isinstance(part, dict | list) for part in inner):
        return json.dumps(value)
    names = [f"{json.dumps(name)}: " for name in value] if isinstance(value, dict) else [""] * len(value)
    deeper = indent + " "
    body = ",\n".join(
        f"{deeper}{name}{laid_out(part, deeper)}" for name, part in zip(names, inner, strict=True)
    )
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{body}\n{indent}{closing}"


def checksum(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record's results and provenance as JSON with sorted keys and no spaces."""
    parts = {name: record[name] for name in ("results", "provenance")}
    # Read back first, because written keys need not be strings, but read ones are.
    text = json.dumps(json.loads(json.dumps(parts)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def leads_nowhere(path: str | Path) -> bool:
    """Whether a path is a symbolic link that leads back to itself; a link to a missing file is not."""
    return os.path.islink(os.path.realpath(path))


def usable_cores() -> int:
    """Number of cores that this process may use; in a container this can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _commit() -> str | None:
    def git(*arguments: str) -> str:
        run = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        return run.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _accelerator() -> str | None:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        return None
    module = torch.get_device_module(device)
    return str(module.get_device_name()) if hasattr(module, "get_device_name") else device.type


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
