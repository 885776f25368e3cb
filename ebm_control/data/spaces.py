"""Gymnasium's spaces of numbers and choices as vectors, and values of them to and fro, many at once.

The order is that of `gymnasium.spaces.flatten`, which takes one value and casts it to the type of its space; here
batches are converted, and numbers stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from numpy.typing import NDArray

from ebm_control.checks import InputError, require, shown
from ebm_control.data.actions import FlatActions, as_actions
from ebm_control.data.forms import FlatForm, Part
from ebm_control.tensors import as_array

Array = NDArray[np.float64]
GOALS = ("achieved_goal", "desired_goal")
LARGEST = 4096  # coordinates of a space that is not a vector itself
_KINDS = "Box, Discrete, MultiDiscrete and MultiBinary, or Dicts and Tuples of them"


def state_space(space: Space) -> Space:
    """The part of an observation space that describes the state.

    Of a Dict these are all entries but goals ("achieved_goal" and "desired_goal"). "observation" comes first; entries
    beside it that are no vector, such as images, do not count.
    """
    if not isinstance(space, Dict):
        return space
    kept = {name: part for name, part in space.spaces.items() if name not in GOALS}
    if "observation" in kept:
        first = {"observation": kept.pop("observation")}
        kept = first | {name: part for name, part in kept.items() if _why_not(part) is None}
    return kept["observation"] if set(kept) == {"observation"} else _dict(kept)


def _dict(parts: Mapping[str, Space]) -> Dict:
    made = Dict()
    made.spaces = dict(parts)  # the constructor would sort them
    return made


def is_vector(space: Space) -> TypeGuard[Box]:
    """Whether the space is a Box with one axis, which needs no other form."""
    return isinstance(space, Box) and len(space.shape) == 1 and space.shape[0] > 0


def form_of_spaces(observation_space: Space, action_space: Space, history: int = 1) -> FlatForm:
    """How observations and actions of these spaces become vectors.

    Raises:
        InputError: a space has no such form; the message says which part and why.

    """
    return FlatForm(
        _parts("observation", state_space(observation_space), "observation"),
        _parts("action", action_space, "action"),
        history,
    )


def flat_box(space: Space) -> Box:
    """The Box of the vectors that stand for observations of a space, or the space itself if it is a vector."""
    inner = state_space(space)
    if is_vector(inner):
        return inner
    _parts("observation", inner, "observation")
    low, high = _bounds(inner)
    return Box(low, high, dtype=np.float64)


def flat_actions(space: Space) -> Box:
    """The Box of the vectors that stand for actions of a space, or the space itself if it is a vector."""
    if is_vector(space):
        return space
    parts = _parts("action", space, "action")
    dtype = min(_floats(space), key=lambda kind: kind.itemsize)
    low, high = (side.astype(dtype) for side in _bounds(space))
    return FlatActions(parts, low, high, dtype)


def _floats(space: Space) -> list[np.dtype[Any]]:
    """Types of the Boxes of floats in a space, and float64."""
    if isinstance(space, Dict | Tuple):
        inner = space.spaces.values() if isinstance(space, Dict) else space.spaces
        return [kind for part in inner for kind in _floats(part)]
    kind = np.dtype(space.dtype)
    return [kind if isinstance(space, Box) and kind.kind == "f" else np.dtype(np.float64)]


def flattened(space: Space, values: Any, argument: str) -> Array:
    """Values of a space, `N` at once, as vectors `(N, n)`.

    Args:
        space: a space with a form.
        values: arrays with a leading axis, in dictionaries and tuples if the space is one.
        argument: name of the values for messages.

    Raises:
        InputError: the values are not of this space.

    """
    if isinstance(space, Dict):
        known = isinstance(values, Mapping) and set(space.spaces) <= set(values)
        given = [str(key) for key in values] if isinstance(values, Mapping) else type(values).__name__
        require(known, argument, given=given, expected=f"a dictionary with {list(space.spaces)}")
        parts = [
            flattened(part, values[name], f"{argument}[{name!r}]") for name, part in space.spaces.items()
        ]
    elif isinstance(space, Tuple):
        known = isinstance(values, Sequence) and len(values) == len(space.spaces)
        require(known, argument, given=shown(values), expected=f"a tuple of {len(space.spaces)} values")
        pairs = enumerate(zip(space.spaces, values, strict=True))
        parts = [flattened(part, value, f"{argument}[{i}]") for i, (part, value) in pairs]
    else:
        return _leaf(space, as_array(argument, values), argument)
    return np.concatenate(parts, axis=1)


def _leaf(space: Space, array: Array, argument: str) -> Array:
    shape = space.shape or ()
    fits = array.ndim == len(shape) + 1 and array.shape[1:] == shape
    require(fits, argument, given=f"shape {array.shape[1:]}", expected=f"shape {shape}, as its space says")
    rows = array.reshape(len(array), -1)
    if not isinstance(space, Discrete | MultiDiscrete):
        return rows
    start, counts = _choices(space)
    index = rows - start
    sound = (index >= 0) & (index < counts) & (index == np.floor(index))
    require(bool(sound.all()), argument, given=shown(array), expected=f"values of {space}")
    return np.concatenate([np.eye(n)[index[:, i].astype(int)] for i, n in enumerate(counts)], axis=1)


def is_single(space: Space, value: Any) -> bool:
    """Whether a value of a space has no leading axis for several at once; shapes are not checked."""
    if isinstance(space, Dict) and isinstance(value, Mapping):
        name = next((name for name in space.spaces if name in value), None)
        return name is None or is_single(space.spaces[name], value[name])
    if isinstance(space, Tuple) and isinstance(value, Sequence) and len(value):
        return is_single(space.spaces[0], value[0])
    return bool(np.ndim(value) <= len(space.shape or ()))


def flat_observation(space: Space, observation: Any) -> Any:
    """Observations of a space as vectors `(n,)` or `(N, n)`; with goals, a dictionary with "observation" and these.

    Args:
        space: the environment's observation space.
        observation: one observation or a batch of them, in the form of the environment.

    """
    inner = state_space(space)
    goals: dict[str, Any] = {}
    if isinstance(space, Dict):
        known = isinstance(observation, Mapping)
        expected = f"a dictionary with {list(space.spaces)}"
        require(known, "observation", given=type(observation).__name__, expected=expected)
        goals = {name: observation[name] for name in GOALS if name in observation and name in space.spaces}
        if inner is space.spaces.get("observation"):
            require("observation" in observation, "observation", given=list(observation), expected=expected)
            observation = observation["observation"]
    single = is_single(inner, observation)
    rows = flattened(inner, batch([observation]) if single else observation, "observation")
    vector = rows[0] if single else rows
    return {"observation": vector, **goals} if goals else vector


def native_actions(space: Space, flat: NDArray[Any]) -> Any:
    """Actions of a space, `N` at once, from the vectors `(N, n)` that `as_actions` gives for `flat_actions(space)`."""
    if isinstance(space, Dict | Tuple):
        named = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        found: dict[Any, Any] = {}
        for name, part in named:
            width = sum(p.size for p in _parts("action", part, ""))
            found[name], flat = native_actions(part, flat[:, :width]), flat[:, width:]
        return found if isinstance(space, Dict) else tuple(found.values())
    if isinstance(space, Discrete | MultiDiscrete):
        start, counts = _choices(space)
        pieces = np.split(flat, np.cumsum(counts)[:-1], axis=1)
        index = np.stack([piece.argmax(axis=1) for piece in pieces], axis=1) + start
        return index.reshape(len(flat), *(space.shape or ())).astype(space.dtype)
    shaped = flat.reshape(len(flat), *(space.shape or ()))
    return as_actions(shaped, space) if isinstance(space, Box) else shaped.astype(space.dtype)


def batch(values: Sequence[Any]) -> Any:
    """Several values of one space with a leading axis, in dictionaries and tuples if the values are."""
    first = values[0]
    if isinstance(first, Mapping):
        return {name: batch([value[name] for value in values]) for name in first}
    if isinstance(first, tuple):
        return tuple(batch([value[i] for value in values]) for i in range(len(first)))
    return np.stack([np.asarray(value) for value in values])


def rows_of(values: Any, rows: Any) -> Any:
    """Rows of a batch: an index for one value, an array of indices for a smaller batch."""
    if isinstance(values, Mapping):
        return {name: rows_of(value, rows) for name, value in values.items()}
    if isinstance(values, tuple):
        return tuple(rows_of(value, rows) for value in values)
    return values[rows]


def _choices(space: Discrete | MultiDiscrete) -> tuple[NDArray[np.int64], list[int]]:
    """Least value and number of values of each choice."""
    if isinstance(space, Discrete):
        return np.array([int(space.start)]), [int(space.n)]
    start = np.broadcast_to(np.asarray(getattr(space, "start", 0)), space.shape)
    return start.ravel().astype(np.int64), [int(n) for n in space.nvec.ravel()]


def _bounds(space: Space) -> tuple[Array, Array]:
    """Low and high `(n,)` of the vectors of a space."""
    if isinstance(space, Dict | Tuple):
        inner = space.spaces.values() if isinstance(space, Dict) else space.spaces
        pairs = [_bounds(part) for part in inner]
        return np.concatenate([low for low, _ in pairs]), np.concatenate([high for _, high in pairs])
    if isinstance(space, Box):
        return space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    count = sum(part.size for part in _parts("", space, ""))
    return np.zeros(count), np.ones(count)


def _parts(argument: str, space: Space, name: str, path: str = "") -> tuple[Part, ...]:
    """Parts of the vectors of a space, in order; `name` is that of a space without named parts."""
    if isinstance(space, Dict | Tuple) and len(space.spaces):
        named = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        below = ((str(key), part) for key, part in named)
        return tuple(
            found
            for key, part in below
            for found in _parts(argument, part, name, f"{path}.{key}" if path else key)
        )
    reason = _why_not(space)
    if reason is not None:
        found = f"{_one_line(space)} in {path!r}" if path else _one_line(space)
        raise InputError(
            f"env: expected {argument} spaces of numbers and choices ({_KINDS}), got {found}: {reason}"
        )
    called = path or name
    if isinstance(space, MultiDiscrete):
        counts = enumerate(_choices(space)[1])
        return tuple(Part(f"{called}.{i}", "choice", n) for i, n in counts)
    if isinstance(space, Discrete):
        return (Part(called, "choice", int(space.n)),)
    size = int(np.prod(space.shape or (), dtype=int))
    if isinstance(space, MultiBinary):
        return (Part(called, "flags", size),)
    return (Part(called, "whole" if np.dtype(space.dtype).kind in "iub" else "numbers", size),)


def _why_not(space: Space) -> str | None:
    """Why a space has no vectors, in words; None if it has."""
    if isinstance(space, Dict | Tuple):
        inner = list(space.spaces.values() if isinstance(space, Dict) else space.spaces)
        return (
            next((why for part in inner if (why := _why_not(part)) is not None), None)
            if inner
            else "it is empty"
        )
    if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
        return f"{type(space).__name__} has no fixed number of coordinates"
    if isinstance(space, Discrete | MultiDiscrete):
        size = sum(_choices(space)[1])
    else:
        size = int(np.prod(space.shape or (), dtype=int))
    if size == 0:
        return "it has no coordinates"
    if isinstance(space, Box) and len(space.shape) > 1 and space.dtype == np.uint8:
        return (
            "these are images, from which models of the dynamics do not learn; encode them as vectors first"
        )
    if not is_vector(space) and size > LARGEST:
        return f"it has {size} coordinates, more than {LARGEST}; encode them as shorter vectors first"
    return None


def _one_line(space: Space) -> str:
    words = " ".join(str(space).split())
    return words if len(words) <= 300 else f"{words[:300]}..."
