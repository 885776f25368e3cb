"""The folder of a run: settings, events, checkpoints, figures and a summary."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ebm_control.checks import InputError


class RunFolder:
    """`settings.json`, `events/`, `checkpoints/`, `figures/` and `summary.json` under one path.

    Args:
        path: made if it does not exist.
        settings: the command's dataclass, written at once.

    """

    def __init__(self, path: Path | str, settings: object = None) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"out: expected a folder, got {self.path} ({error.strerror})") from error
        if settings is not None:
            self.write_json("settings.json", plain(settings))

    @property
    def figures(self) -> Path:
        """Folder of pictures, made when first asked for."""
        folder = self.path / "figures"
        folder.mkdir(exist_ok=True)
        return folder

    def clear(self) -> None:
        """Remove checkpoints and events of an earlier run of the same command."""
        for name in ("checkpoints", "events"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def write_json(self, name: str, content: object) -> Path:
        """Write a JSON file, in one piece."""
        path = self.path / name
        draft = path.with_name(f".{name}.draft")
        draft.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
        draft.replace(path)
        return path

    def summarise(self, summary: Mapping[str, Any]) -> Path:
        """Write `summary.json`."""
        return self.write_json("summary.json", plain(summary))


def plain(value: Any) -> Any:
    """JSON-safe form of settings and results."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, torch.Tensor) or hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # JSON knows no NaN
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)
