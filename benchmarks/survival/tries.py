"""All tries: their numbers, their execution in two processes, and their results."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimisers import it, which takes a second in every process that has not
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.survival.calls import DATA, MODELS
from benchmarks.survival.damage import COMMAND, IDX, SUBJECTS, damages, strangers
from benchmarks.survival.disks import COMMANDS, disks, may_mount, read_by_commands, scenarios
from benchmarks.survival.fuzz import fuzzed, refuses_valid_ones
from benchmarks.survival.kills import VICTIMS, kills
from benchmarks.survival.material import image_model, trajectory_model
from benchmarks.survival.outcomes import FAULTS, GOOD, Outcome, tallied
from benchmarks.survival.sampling_calls import COSTS, SAMPLERS
from benchmarks.survival.settings_calls import IMAGE_CALLS, SETTINGS
from ebm_control.data.images import FOLDER

WORKERS = 2
CALLS = (*DATA, *MODELS, *COSTS, *SAMPLERS, *SETTINGS, *IMAGE_CALLS)
COUNTS = ("tries", *GOOD, *FAULTS)
SHOWN = 40  # faults shown in the terminal; the file has all


@dataclass(frozen=True)
class Sizes:
    """Numbers of tries.

    Args:
        kills: kills of each command.
        damaged: damaged files, except those below.
        commanded: damaged settings of a run that the command line resumes.
        idx: damaged files of MNIST, if a copy of it is available.
        every: stride over the disk scenarios; 1 tries all.
        fuzzed: fuzzed calls.
        victims: commands that are killed.
        commands: commands that run where they cannot write.

    """

    kills: int
    damaged: int
    commanded: int
    idx: int
    every: int
    fuzzed: int
    victims: tuple[str, ...] = tuple(VICTIMS)
    commands: tuple[str, ...] = tuple(COMMANDS)


FULL = Sizes(kills=30, damaged=1700, commanded=30, idx=60, every=1, fuzzed=4000)
QUICK = Sizes(kills=3, damaged=300, commanded=3, idx=6, every=5, fuzzed=500)
TINY = Sizes(
    kills=1,
    damaged=60,
    commanded=0,
    idx=3,
    every=30,
    fuzzed=100,
    victims=("train", "collect", "experiments"),
    commands=("train", "collect", "predict", "experiments", "to_minari"),
)

Work = Callable[[], list[Outcome]]


def survive(
    sizes: Sizes,
    kinds: Sequence[str],
    seed: int,
    place: Path,
    *,
    show: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Run all tries of these kinds, in two processes, and count their results.

    Args:
        sizes: numbers of tries.
        kinds: some of "kills", "damage", "disks" and "fuzz".
        seed: seed of moments, damage and arguments.
        place: an empty working folder.
        show: called with a line whenever a part is done.

    Returns:
        The counts, see `outcomes.tallied`; `skipped` lists what could not be tried here, and why.

    """
    others, given, skipped = place / "strangers", place / "given", []
    works: list[Work] = []
    if "kills" in kinds:
        works += _kills(sizes, seed, place / "kills")
    if "disks" in kinds:
        read_by_commands(given)
        works += _disks(sizes, seed, place / "disks", given)
        skipped += (
            [] if may_mount() else ["disks: a full disk of its own, as namespaces are not allowed here"]
        )
    if "damage" in kinds:
        works += _damages(sizes, seed, place / "damage", strangers(others))
        skipped += [] if os.environ.get(FOLDER) else [f"damage: idx files, as {FOLDER} is not set"]
    if "fuzz" in kinds:
        trajectory_model(), image_model()  # trained before the fork, so that all processes have them
        useless = refuses_valid_ones(CALLS)
        if useless:
            raise RuntimeError(f"valid calls are refused: {useless}")
        size = -(-sizes.fuzzed // max(1, 2 * (sizes.fuzzed // 200)))
        for first in range(0, sizes.fuzzed, size):
            works.append(partial(fuzzed, CALLS, range(first, min(first + size, sizes.fuzzed)), seed))
    found = list(_in_processes(works, show))
    return tallied(found) | {"skipped": skipped}


def _in_processes(works: Sequence[Work], show: Callable[[str], object]) -> Iterator[Outcome]:
    """Outcomes of all works, in their order."""
    started, done = time.perf_counter(), 0
    _WORKS[:] = works  # inherited by forked processes; local functions cannot be pickled
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("fork")) as pool:
        running = [pool.submit(_work, i) for i in range(len(works))]
        for future in as_completed(running):
            done += 1
            part = future.result()
            faults = sum(outcome.result in FAULTS for outcome in part)
            kind = part[0].kind if part else "nothing"
            show(
                f"{time.perf_counter() - started:6.0f} s  {done} of {len(works)}: {kind}, "
                f"{len(part)} tries, {faults} faults"
            )
        for future in running:
            yield from future.result()


_WORKS: list[Work] = []


def _work(number: int) -> list[Outcome]:
    torch.set_num_threads(1)
    return _WORKS[number]()


def _kills(sizes: Sizes, seed: int, place: Path) -> Iterator[Work]:
    """Work for the kills: the slowest commands first, each command's tries in two parts."""
    for name in sorted(sizes.victims, key=lambda name: name != "online"):
        half = -(-sizes.kills // 2) if sizes.kills > 5 else sizes.kills
        for first in range(0, sizes.kills, half):
            yield partial(kills, [name], range(first, min(first + half, sizes.kills)), seed, place)


def _disks(sizes: Sizes, seed: int, place: Path, given: Path) -> Iterator[Work]:
    for i, name in enumerate(sizes.commands):
        count = len(list(scenarios(COMMANDS[name])))
        numbers = range((i + seed) % sizes.every, count, sizes.every)
        half = -(-len(numbers) // 2)
        for part in (numbers[:half], numbers[half:]):
            if part:
                yield partial(disks, name, part, place, given)


def _damages(sizes: Sizes, seed: int, place: Path, others: Sequence[Path]) -> Iterator[Work]:
    idx = IDX if os.environ.get(FOLDER) else ()
    parts = [(subject, round(subject.share * sizes.damaged)) for subject in SUBJECTS]
    parts += [(subject, round(subject.share * sizes.idx)) for subject in idx]
    for subject, count in (*parts, (COMMAND, sizes.commanded)):
        step = 100 if subject is not COMMAND else 15
        for first in range(0, count, step):
            numbers = range(first, min(first + step, count))
            yield partial(damages, subject, numbers, seed, place, others)


def table_of(tally: dict[str, Any]) -> None:
    """Print counts, faults and what was skipped."""
    table = Table("kind", *COUNTS)
    for name, counts in (*tally["by_kind"].items(), ("in all", tally)):
        if name.startswith("fuzz: ") and not any(counts[fault] for fault in FAULTS):
            continue
        table.add_row(name, *(str(counts[column]) for column in COUNTS), end_section=":" not in name)
    console = Console()
    console.print(table)
    for fault in tally["faults"][:SHOWN]:
        line = f"{fault['result']}: {fault['kind']}, {fault['what']}: {fault['why']}"
        console.print(escape(line), soft_wrap=True, highlight=False)
    if len(tally["faults"]) > SHOWN:
        console.print(f"and {len(tally['faults']) - SHOWN} more faults: --out FILE has them all")
    for reason in tally["skipped"]:
        console.print(f"skipped: {escape(reason)}")
