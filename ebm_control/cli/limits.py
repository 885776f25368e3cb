"""Range checks of the settings of commands, before any work."""

from __future__ import annotations

import math

from ebm_control.checks import require_number


def require_counts(command: object, *names: str, low: int = 1) -> None:
    """Raise `InputError` unless the named fields of a command are integers of at least `low`."""
    for name in names:
        require_number(name, getattr(command, name), low, whole=True)


def require_numbers(
    command: object, *names: str, low: float = 0.0, high: float = math.inf, above: bool = False
) -> None:
    """Raise `InputError` unless the named fields are finite numbers in range; None is accepted."""
    for name in names:
        value = getattr(command, name)
        if value is not None:
            require_number(name, value, low, high, above=above)
