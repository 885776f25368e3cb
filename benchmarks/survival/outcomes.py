"""Outcomes of tries, and their counts."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.survival.processes import Ending
from ebm_control.checks import InputError
from ebm_control.training import CheckpointError, DivergenceError

GOOD = ("clear", "right")
FAULTS = ("tracebacks", "silent", "lost")
REFUSALS = (InputError, CheckpointError, DivergenceError)
# Lines that runs print above the progress bar on standard error, which are not messages about their end.
_NOTE = re.compile(r"step \d+: ")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Outcome:
    """Outcome of one try.

    Attributes:
        kind: kind of the try, such as "kills: train".
        what: description of the try, with which it can be repeated.
        result: "right": the same result as without damage; "clear": rejected with one line that names the cause;
            "tracebacks": any other exception or exit status, or a hang; "silent": accepted, with a wrong result;
            "lost": work or files of the user are gone.
        why: cause of a fault.

    """

    kind: str
    what: str
    result: str
    why: str = ""


def judged(
    kind: str,
    what: str,
    call: Callable[[], Any],
    complaint: Callable[[Any], str | None],
    names: Sequence[str],
) -> Outcome:
    """Outcome of a call in this process.

    Args:
        kind: see `Outcome`.
        what: see `Outcome`.
        call: the call to try.
        complaint: describes the fault of its result; None if it is correct.
        names: names of arguments or files; an error message must contain one of them.

    """
    try:
        value = call()
    except DivergenceError:
        return Outcome(kind, what, "clear")  # its message names the diverged quantity, not an argument
    except REFUSALS as error:
        unclear = unclear_words(str(error), names)
        return Outcome(kind, what, "tracebacks" if unclear else "clear", unclear)
    except Exception as error:
        return Outcome(kind, what, "tracebacks", place_of(error))
    wrong = complaint(value)
    return Outcome(kind, what, "silent" if wrong else "right", wrong or "")


def unclear_words(message: str, names: Sequence[str]) -> str:
    """Fault of an error message; empty if it is one line that contains one of `names`."""
    lines = message.strip().splitlines()
    if len(lines) != 1:
        return f"unclear: {len(lines)} lines: {message.strip()[:200]}"
    if not any(re.search(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", message) for name in names):
        return f"unclear: names none of {', '.join(names)}: {message[:200]}"
    return ""


def place_of(error: BaseException) -> str:
    """An exception in one line, with the last frame in the library, or else where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "ebm_control" in f.filename or "ebm_envs" in f.filename]
    last = ours[-1] if ours else frames[-1]
    words = " ".join(str(error).split())[:160]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} ({last.name}): {words}"


def ending_complaint(ending: Ending, allowed: Iterable[int]) -> str | None:
    """Fault of a command's end; None if its status is one of `allowed`, with a one-line message unless it is 0."""
    words = _STYLE.sub("", ending.complained).strip()
    if ending.hung:
        return "it hangs"
    if "Traceback (most recent call last)" in words:
        lines = words.splitlines()
        ours = [line.strip() for line in lines if "ebm_control" in line or "experiments" in line]
        return f"traceback: {lines[-1][:160]} ({ours[-1][-90:] if ours else 'outside'})"
    if ending.code not in allowed:
        return f"exit status {ending.code}: {words[-160:]}"
    lines = [line for line in words.splitlines() if line.strip() and not _NOTE.match(line)]
    if ending.code > 0 and len(lines) != 1:
        return f"exit status {ending.code} with {len(lines)} lines: {words[:160]}"
    if ending.code == 2 and not lines[0].startswith("error:"):
        return f"exit status 2 without an error: {words[:160]}"
    return None


def same(first: Any, second: Any) -> bool:
    """Whether two results, containers and arrays included, are equal bit for bit; NaN equals NaN."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return same(first.detach().cpu().numpy(), second.detach().cpu().numpy())
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        floats = first.dtype.kind == "f" and second.dtype.kind == "f"
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=floats)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return type(first) is type(second) and (first == second or (first != first and second != second))


def counted(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Number of tries, and number of tries by result."""
    return {"tries": len(outcomes)} | {
        name: sum(outcome.result == name for outcome in outcomes) for name in (*GOOD, *FAULTS)
    }


def tallied(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """`counted` in total, by kind and by subject of the kind, and a list of all faults."""
    parts: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        parts.setdefault(outcome.kind.partition(":")[0], []).append(outcome)
        parts.setdefault(outcome.kind, []).append(outcome)
    return {
        **counted(outcomes),
        "by_kind": {kind: counted(parts[kind]) for kind in sorted(parts)},
        "faults": [vars(outcome) for outcome in outcomes if outcome.result in FAULTS],
    }


def sound(tally: Mapping[str, Any]) -> bool:
    """Whether there was at least one try, and no fault."""
    return tally["tries"] > 0 and all(tally[name] == 0 for name in FAULTS)
