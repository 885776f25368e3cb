"""Named arrays of npz and HDF5 files. Nothing is unpickled, and no link leads to another file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import InputError, require
from ebm_control.extras import import_extra

_SHOWN = 20  # greatest number of names in a message
_OWN_DATA = "the data itself; copy the data sets into one file first"


class Arrays(Protocol):
    """Arrays of a file by name; "/" separates groups."""

    def names(self, group: str = "") -> list[str]:
        """Names within a group, "" for the file itself."""

    def has(self, name: str) -> bool:
        """Whether there is such an array or group."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array, without reading it."""

    def array(self, name: str) -> NDArray[Any]:
        """The whole array."""


class Npz:
    """Arrays of an open npz file."""

    def __init__(self, file: np.lib.npyio.NpzFile) -> None:
        self._file = file
        self._read: dict[str, NDArray[Any]] = {}

    def names(self, group: str = "") -> list[str]:
        """Names of all arrays."""
        return list(self._file.files)

    def has(self, name: str) -> bool:
        """Whether there is such an array."""
        return name in self._file.files

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array."""
        return self.array(name).shape

    def array(self, name: str) -> NDArray[Any]:
        """The whole array; pickled objects are refused."""
        require_name(self, name)
        if name not in self._read:
            self._read[name] = self._file[name]
        return self._read[name]


class Hdf5:
    """Arrays and groups of an open HDF5 file.

    Only hard links are followed: soft links may, and external links, external storage and virtual data sets do, lead
    to whatever file the writer of this one chose. They are refused by name.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._h5py = import_extra("h5py", "hdf5", "HDF5 files")

    def names(self, group: str = "") -> list[str]:
        """Names within a group; links are listed, not followed."""
        return [str(name) for name in self._item(group)]

    def has(self, name: str) -> bool:
        """Whether there is such an array, group or link."""
        *groups, last = name.split("/")
        found = self._file
        for i, part in enumerate((*groups, last)):
            if not isinstance(found, self._h5py.Group) or not found.id.links.exists(part.encode()):
                return False
            if i < len(groups):
                found = self._item("/".join(groups[: i + 1]))
        return True

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array; (-1,) of a group."""
        item = self._item(name)
        return tuple(item.shape) if isinstance(item, self._h5py.Dataset) else (-1,)

    def array(self, name: str) -> NDArray[Any]:
        """The whole array."""
        item = self._item(name)
        is_array = isinstance(item, self._h5py.Dataset)
        require(is_array, name, given="a group", expected="an array")
        outside = item.is_virtual or item.external
        require(not outside, name, given="an array whose values are in other files", expected=_OWN_DATA)
        return np.asarray(item[()])

    def attribute(self, name: str, attribute: str) -> Any:
        """An attribute of a group or array, JSON decoded if it is; None if there is none."""
        value = self._item(name).attrs.get(attribute)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                return value
        return value

    def _item(self, name: str) -> Any:
        """Group or array, reached by hard links alone."""
        found = self._file
        for part in name.split("/") if name else ():
            group = isinstance(found, self._h5py.Group)
            if not group or not found.id.links.exists(part.encode()):
                missing(name, [str(key) for key in found] if group else [])
            link = found.get(part, getlink=True)
            hard = isinstance(link, self._h5py.HardLink)
            require(hard, name, given=f"a link, {type(link).__name__} {part!r}", expected=_OWN_DATA)
            found = found[part]
        return found


def require_name(arrays: Arrays, name: str) -> None:
    """Raise `InputError`, with the names that there are, unless there is an array of that name."""
    if not arrays.has(name):
        missing(name, arrays.names())


def missing(name: str, there: Sequence[str]) -> None:
    """Raise `InputError` for a name that is not among those that are there."""
    shown = ", ".join(there[:_SHOWN]) + (", ..." if len(there) > _SHOWN else "")
    raise InputError(f"{name}: expected an array of this name, got none; there are {shown or 'none'}")


@contextmanager
def opened(path: Path) -> Iterator[Arrays]:
    """Arrays of an npz or HDF5 file.

    Raises:
        InputError: the file is of neither kind.
        MissingExtraError: an HDF5 file, but h5py is not installed.

    """
    with path.open("rb") as raw:
        begin = raw.read(8)
    if begin.startswith(b"PK"):
        with np.load(path, allow_pickle=False) as file:
            yield Npz(file)
    else:
        hdf5 = begin == b"\x89HDF\r\n\x1a\n"
        require(hdf5, "path", given=path, expected="an npz or HDF5 file")
        with import_extra("h5py", "hdf5", "HDF5 files").File(path, "r") as file:
            yield Hdf5(file)
