"""What tests of the command line share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebm_control.cli import main
from tests.helpers import ROOT

SMALL = [
    "--train.updates", "4", "--train.base-updates", "20", "--train.batch-size", "32", "--train.langevin-steps", "2",
    "--train.model.hidden", "16", "--train.model.base-hidden", "16",
]  # fmt: skip
PROGRAM = "import sys; from ebm_control.cli import main; main(sys.argv[1:])"


def read(folder: Path, name: str = "summary.json") -> Any:
    return json.loads((folder / name).read_text())


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that the command ends with."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def process(arguments: list[str], program: str = PROGRAM, **options: Any) -> subprocess.Popen[str]:
    """The command line in an interpreter of its own, its output kept."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    return subprocess.Popen([sys.executable, "-c", program, *arguments], **given | options)
