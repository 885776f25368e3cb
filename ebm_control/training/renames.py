"""Names in checkpoints of earlier versions, and their current names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Settings, at any depth of a checkpoint's JSON.
_SETTINGS = {"batch": "batch_size", "base_deviation": "base_std", "rows": "replan_every"}

# Weights: parts of dotted names. Only networks of images had a `told`.
_WEIGHTS = [(re.compile(r"(^|\.)deviation$"), r"\1std"), (re.compile(r"(^|\.)told(?=\.)"), r"\1films")]


def settings_now(settings: Any) -> Any:
    """Settings with current names, in dictionaries at any depth."""
    if isinstance(settings, dict):
        return {_SETTINGS.get(name, name): settings_now(value) for name, value in settings.items()}
    if isinstance(settings, list):
        return [settings_now(value) for value in settings]
    return settings


def weights_now(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights with current names."""
    return {weight_now(name): value for name, value in weights.items()}


def weight_now(name: Any) -> Any:
    """Current name of a weight; anything but a string is returned unchanged."""
    if isinstance(name, str):
        for pattern, today in _WEIGHTS:
            name = pattern.sub(today, name)
    return name


def state_now(state: Any) -> Any:
    """State of a run with current names, in dictionaries at any depth."""
    if type(state) is dict:
        return {weight_now(name): state_now(value) for name, value in state.items()}
    if hasattr(state, "items") and hasattr(state, "move_to_end"):  # an OrderedDict of weights
        return type(state)((weight_now(name), state_now(value)) for name, value in state.items())
    if isinstance(state, list):
        return [state_now(value) for value in state]
    return state
