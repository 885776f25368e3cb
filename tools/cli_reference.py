"""Writes docs/reference/cli.md from `ebm-control --help`: `python -m tools.cli_reference`."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
COMMANDS = ("collect", "train", "predict", "plan", "online", "images", "continual", "demo")
IMAGES = ("train", "generate", "inpaint", "restore", "ood", "robustness", "compose")
WIDTH = "100"  # columns of a help text

HEAD = """\
# Command line

<!-- Written by `python -m tools.cli_reference`. Do not edit by hand. -->

`ebm-control COMMAND --help` prints what is on this page. Flags are the fields of the settings classes, so the
[API pages](api/index.md) describe the same settings.

Each command writes a [run folder](run-folder.md). The summary goes to stdout as JSON. Progress bars go to stderr if
stderr is a terminal. Exit codes: 0 for success, 2 for an error that the user can correct, 130 after Ctrl-C, 143 after
SIGTERM.
"""


def help_of(*command: str) -> str:
    """Help text of one command, `WIDTH` columns wide, without colours."""
    from ebm_control.cli import main

    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main([*command, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())


def page() -> str:
    """The whole page as Markdown."""
    calls = [(name,) for name in COMMANDS]
    place = calls.index(("images",)) + 1
    calls[place:place] = [("images", name) for name in IMAGES]
    parts = [HEAD]
    for call in ((), *calls):
        title = " ".join(("ebm-control", *call))
        parts.append(f"{'##' if len(call) < 2 else '###'} {title}\n\n```text\n{help_of(*call)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
