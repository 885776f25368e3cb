"""Dispatch of `ebm-control`, and one line for every error a user can mend."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape

from ebm_control.checks import InputError
from ebm_control.cli.commands import Collect, Plan, Predict, Train, use_threads
from ebm_control.cli.continual import Continual
from ebm_control.cli.demo import Demo
from ebm_control.cli.images import Images
from ebm_control.cli.online import Online
from ebm_control.training.checkpoint import CheckpointError
from ebm_control.training.guard import DivergenceError

Command = (
    Annotated[Collect, tyro.conf.subcommand("collect")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Plan, tyro.conf.subcommand("plan")]
    | Annotated[Online, tyro.conf.subcommand("online")]
    | Annotated[Images, tyro.conf.subcommand("images")]
    | Annotated[Continual, tyro.conf.subcommand("continual")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print what was measured; exit with 2 and one line where the input is at fault."""
    command = tyro.cli(
        Command,
        prog="ebm-control",
        description="Energy-based models for control: collect rollouts, train an energy, predict, plan, learn online; "
        "images by the same sampler; classes that arrive one task at a time.",
        args=arguments,
    )
    use_threads()
    try:
        summary = command.run()
    except (InputError, CheckpointError, DivergenceError) as error:
        line = escape(" ".join(str(error).split()))
        Console(stderr=True).print(f"[bold red]error:[/] {line}", highlight=False, soft_wrap=True)
        sys.exit(2)
    if not isinstance(command, Demo):
        Console().print_json(data={k: v for k, v in summary.items() if isinstance(v, int | float | str)})
