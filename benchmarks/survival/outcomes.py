"""How a try went, and how many went which way."""

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
# What a run notes on its way stands above its bar of progress, on standard error: no word on how it ends.
_NOTE = re.compile(r"step \d+: ")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Outcome:
    """How one try went.

    Attributes:
        kind: what was tried: "kills: train", say.
        what: which try, so that it can be done again.
        result: "right": the answer of the undamaged; "clear": refused in one line that names what is at fault;
            "tracebacks": any other exception, exit status or a hang; "silent": taken, with a wrong result; "lost": work
            or files of the user are gone.
        why: of a fault.

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
        call: what is tried.
        complaint: what is wrong with what it gives; None where it is right.
        names: of arguments or files; a refusal has to name one of them.

    """
    try:
        value = call()
    except DivergenceError:
        return Outcome(kind, what, "clear")  # it names the figure that ran away, not an argument
    except REFUSALS as error:
        unclear = unclear_words(str(error), names)
        return Outcome(kind, what, "tracebacks" if unclear else "clear", unclear)
    except Exception as error:
        return Outcome(kind, what, "tracebacks", place_of(error))
    wrong = complaint(value)
    return Outcome(kind, what, "silent" if wrong else "right", wrong or "")


def unclear_words(message: str, names: Sequence[str]) -> str:
    """What is wrong with the words of a refusal; empty where they are one line that names one of `names`."""
    lines = message.strip().splitlines()
    if len(lines) != 1:
        return f"unclear: {len(lines)} lines: {message.strip()[:200]}"
    if not any(re.search(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", message) for name in names):
        return f"unclear: names none of {', '.join(names)}: {message[:200]}"
    return ""


def place_of(error: BaseException) -> str:
    """An exception in one line, with where it was raised, and where the library last had a say."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "ebm_control" in f.filename or "ebm_envs" in f.filename]
    last = ours[-1] if ours else frames[-1]
    words = " ".join(str(error).split())[:160]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} ({last.name}): {words}"


def ending_complaint(ending: Ending, allowed: Iterable[int]) -> str | None:
    """What is wrong with the end of a command; None where it is one of `allowed`, and in one line unless it is 0."""
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
    """Whether two results are equal to the bit, containers and arrays alike; NaN equals NaN."""
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
    """How many tries there were, and how many went which way."""
    return {"tries": len(outcomes)} | {
        name: sum(outcome.result == name for outcome in outcomes) for name in (*GOOD, *FAULTS)
    }


def tallied(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """`counted` in all, by kind and by what was tried of it, and every fault."""
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
    """Whether something was tried, and nothing went wrong."""
    return tally["tries"] > 0 and all(tally[name] == 0 for name in FAULTS)
