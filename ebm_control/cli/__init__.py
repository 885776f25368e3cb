"""Console script `ebm-control`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ebm_control.interrupts import exit_status, signal_name, termination_raises

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `ebm-control` with `arguments`, by default those of the process.

    Importing the commands takes seconds, so it happens here, after the handlers of Ctrl-C and SIGTERM are set.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if list(given) == ["--version"]:
        from ebm_control import __version__

        print(f"ebm-control {__version__}")
        return
    try:
        with termination_raises():
            from ebm_control.cli.dispatch import dispatch

            dispatch(given)
    except KeyboardInterrupt as stop:
        print(f"stopped by {signal_name(stop)}", file=sys.stderr)
        sys.exit(exit_status(stop))
