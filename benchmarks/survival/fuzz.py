"""Calls of the library with invalid arguments: they must be rejected with a message, or return valid results.

One or two arguments of a valid call are changed. Objects of the library itself are not changed, because a type
checker finds such errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.survival.outcomes import REFUSALS, Outcome, judged
from benchmarks.survival.processes import isolated, quiet
from ebm_control.seeds import stream

Rng = np.random.Generator
SECONDS = 30.0  # limit per call
NAN, INF = math.nan, math.inf
BATCH = 50  # calls per process

# Replacements of an argument, and whether they are valid (True), invalid (False), or either (None).
COUNTS = [
    *((value, False) for value in (NAN, INF, -1, 1.5, "three", [], -(2**70))),
    *((value, None) for value in (0, 1, True, 2.0, np.int64(3), np.float32(2.0))),
]
NUMBERS = [
    *((value, False) for value in (NAN, "x", [], np.float64("nan"))),
    *((value, None) for value in (INF, -INF, -1, 0, 1.5, True, 1e12, 1e-12, np.float32(0.5), np.int64(1))),
]
SEEDS = [
    *((value, False) for value in (NAN, INF, 1.5, "x", [])),
    *((value, None) for value in (-1, True, 2**70, 2**32, np.int64(3))),
]
CHOICES = [(value, False) for value in ("", "nothing", "../up", 0, 1.5, True, ["cd"], b"cd", NAN)]
INDICES = [
    *((value, False) for value in ((7,), (-1,), (1.5,), ("a",), (NAN,), "ab")),
    *((value, None) for value in ((), (0,), (0, 0), [0, 1], np.array([0, 1]), (True,), 3)),
]
WIDTHS = [
    *((value, False) for value in ((0,), (-1,), (1.5,), ("a",), (NAN,), "ab", 1.5)),
    *((value, None) for value in ((), (7,), [4, 4], np.array([4, 4]), (True,), 3)),
]
SCALARS: dict[str, list[tuple[Any, bool | None]]] = {
    "count": COUNTS,
    "number": NUMBERS,
    "seed": SEEDS,
    "choice": CHOICES,
    "index": INDICES,
    "widths": WIDTHS,
}


@dataclass(frozen=True)
class Call:
    """A valid call and the roles of its arguments.

    Args:
        name: name of the function.
        function: takes the arguments by name.
        roles: roles of the arguments that are changed: "count", "number", "seed", "choice", "index", "array" (NumPy
            or array-like), "tensor", "bounds" (may be infinite), "widths"; with "?" if None is valid.
        make: builds new valid arguments for every call.
        right: whether a result has the shape that follows from the arguments.
        exact: whether equal arguments in another form (big-endian, a list) must give an equal result.
        names: further names that an error message may contain.

    """

    name: str
    function: Callable[..., Any]
    roles: Mapping[str, str]
    make: Callable[[], dict[str, Any]]
    right: Callable[[Any, Mapping[str, Any]], bool] = lambda value, given: True
    exact: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """A replacement of an argument.

    Attributes:
        value: the value passed.
        words: its description.
        sense: True for the valid argument in another form, False for a value that must be rejected, None for either.

    """

    value: Any
    words: str
    sense: bool | None


def change(role: str, valid: Any, rng: Rng) -> Change:
    """A random replacement of a valid argument."""
    kind, optional = role.removesuffix("?"), role.endswith("?")
    if rng.random() < 0.08:
        return Change(None, "None", None if optional else False)
    if kind in SCALARS:
        pool = SCALARS[kind]
        value, sense = pool[int(rng.integers(len(pool)))]
        return Change(value, repr(value), sense)
    changes = list(_arrays(valid, kind == "bounds"))
    return changes[int(rng.integers(len(changes)))]


def _arrays(valid: Any, bounds: bool) -> Iterator[Change]:
    """Other forms of an array or tensor, and other arrays in its place; `bounds` may be infinite."""
    tensor = isinstance(valid, torch.Tensor)
    array = valid.numpy() if tensor else np.asarray(valid)
    back: Callable[[Any], Any] = (
        (lambda a: torch.from_numpy(np.ascontiguousarray(a))) if tensor else np.asarray
    )
    floats = array.dtype.kind == "f"
    yield Change(array.tolist(), "a list", True)
    yield Change(array.copy() if tensor else torch.from_numpy(array.copy()), "of the other library", True)
    yield Change(
        back(np.repeat(array, 2, axis=-1))[..., ::2] if array.ndim else valid, "a strided view", True
    )
    if floats:
        yield Change(back(array.astype(np.float64)), "float64", True)
        yield Change(back(array.astype(np.float16)), "float16", None)
        yield Change(back(np.round(array).astype(np.int64)), "whole numbers", None)
        for bad in (NAN, INF, -INF):
            spoilt = array.copy()
            spoilt.reshape(-1)[-1:] = bad
            yield Change(back(spoilt), f"with {bad}", None if bounds and bad == bad else False)
        yield Change(back(np.full_like(array, 1e12)), "huge", None)
    if not tensor and array.ndim:
        yield Change(array.astype(array.dtype.newbyteorder(">")), "big-endian", True)
        yield Change(np.ascontiguousarray(array[::-1])[::-1], "a reversed view", True)
        yield Change(np.asfortranarray(array), "in Fortran's order", True)
        yield Change(array.astype(object), "objects", None)
        yield Change(array.astype(str), "strings", None)
    yield Change(back(array != 0), "booleans", None)
    yield Change(back(array[None]), "with an axis more", None)
    if array.ndim:
        yield Change(back(array[:0]), "empty", None)
        yield Change(back(array[0]), "with an axis less", None)
        yield Change(back(np.concatenate([array, array[:1]])), "with a row more", None)
        yield Change(back(array[..., :-1]), "with a column less", None)
        yield Change(back(np.concatenate([array, array[..., :1]], axis=-1)), "with a column more", None)
    yield Change("values", "a string", False)
    yield Change(0.5, "a number", None)


def finite(value: Any) -> bool:
    """Whether all numbers of a result are finite."""
    if isinstance(value, torch.Tensor):
        return bool(torch.isfinite(value).all()) if value.is_floating_point() else True
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    if is_dataclass(value) and not isinstance(value, type):
        return all(finite(getattr(value, field.name)) for field in fields(value))
    return True


def close(first: Any, second: Any) -> bool:
    """Whether two results are equal up to rounding."""
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(close, first, second))
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(close(first[key], second[key]) for key in first)
    if isinstance(first, torch.Tensor | np.ndarray | float):
        a, b = np.asarray(first), np.asarray(second)
        return a.shape == b.shape and np.allclose(a.astype(float), b.astype(float), rtol=1e-4, atol=1e-5)
    return bool(first == second)


def _drawn(calls: Sequence[Call], seed: int, number: int) -> tuple[Call, dict[str, Any], dict[str, Change]]:
    """A call, its arguments, and the changes of one or two of them."""
    rng = stream(seed, f"fuzz {number}")
    call = calls[number % len(calls)]
    given = call.make()
    count = min(len(call.roles), 1 + int(rng.random() < 0.3))
    chosen = [str(name) for name in rng.choice(sorted(call.roles), count, replace=False)]
    changes = {name: change(call.roles[name], given[name], rng) for name in chosen}
    return call, given | {name: made.value for name, made in changes.items()}, changes


def _words(changes: Mapping[str, Change], seed: int, number: int) -> str:
    said = ", ".join(f"{name}: {made.words}" for name, made in changes.items())
    return f"number {number} of seed {seed}: {said}"


def _one(calls: Sequence[Call], seed: int, number: int) -> Outcome:
    """Outcome of one call with one or two changed arguments."""
    call, given, changes = _drawn(calls, seed, number)
    taken = [f"{name}: {made.words}" for name, made in changes.items() if made.sense is False]

    def complaint(value: Any) -> str | None:
        if taken:
            return f"taken: {', '.join(taken)}"
        if not finite(value):
            return "figures are not finite"
        if not call.right(value, given):
            return "the shape is not what was asked for"
        equal = call.exact and all(made.sense for made in changes.values())
        if equal and not close(value, call.function(**call.make())):
            return "another result for equal values"
        return None

    names = sorted({*call.roles, *given, *call.names})
    with quiet():
        return judged(
            f"fuzz: {call.name}",
            _words(changes, seed, number),
            partial(call.function, **given),
            complaint,
            names,
        )


def refuses_valid_ones(calls: Sequence[Call]) -> dict[str, str]:
    """Calls that fail even with valid arguments, and why; fuzzing these would show nothing."""
    found = {}
    for call in calls:
        given = call.make()
        try:
            with quiet():
                value = call.function(**given)
            if not (finite(value) and call.right(value, given)):
                found[call.name] = f"a wrong result: {value!r}"
        except (*REFUSALS, TypeError, AttributeError) as error:
            found[call.name] = repr(error)
    return found


def fuzzed(calls: Sequence[Call], numbers: Sequence[int], seed: int) -> list[Outcome]:
    """Outcomes of one call for each of `numbers`; the same number and seed give the same call."""

    def died(number: int, how: str) -> Outcome:
        call, _, changes = _drawn(calls, seed, number)
        return Outcome(f"fuzz: {call.name}", _words(changes, seed, number), "tracebacks", how)

    found: list[Outcome] = []
    for first in range(0, len(numbers), BATCH):
        part = numbers[first : first + BATCH]
        found += isolated(partial(_one, calls, seed), part, SECONDS, died)
    return found
