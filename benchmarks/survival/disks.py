"""Every command that writes, when it cannot: full disks, paths in use, read-only folders."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.survival.damage import ONLINE_RUN, minari_folder
from benchmarks.survival.kills import IMAGES, TRAIN, call
from benchmarks.survival.material import (
    RECORD,
    buffer_of,
    experiment,
    experiment_as_program,
    recorded,
    rollouts_of,
)
from benchmarks.survival.outcomes import REFUSALS, Outcome, ending_complaint
from benchmarks.survival.processes import isolated, quiet, run
from ebm_control.checks import InputError
from ebm_control.data import to_minari
from ebm_control.training import CheckpointError, load_checkpoint

SECONDS = 240.0
LIMITS = (0, 300, 3000, 20_000, 100_000)  # bytes of the largest file
DISK = "size=60k"
NEVER = ("/proc/survival", "/sys/survival", "/dev/full/survival", "/dev/null/survival")
LONG = "x" * 300
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
SHORT_TRAIN = TRAIN.replace("--train.updates 60", "--train.updates 10").replace("updates 40", "updates 10")
SHORT_IMAGES = IMAGES.replace("--train.updates 40", "--train.updates 4")


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Args:
        name: name of the command.
        go: runs it; the first folder is its output, the second has `data.npz`, `run` and `images` as inputs.
        files: files and folders that it writes.
        early: whether it takes minutes if nothing fails, so that only failures of its first file are tried.

    """

    name: str
    go: Callable[[Path, Path], object]
    files: tuple[str, ...]
    early: bool = False


def _line(line: str) -> Callable[[Path, Path], object]:
    """A function that runs a command line with its inputs {data}, {run} and {images}."""

    def go(out: Path, given: Path) -> None:
        parts = {"data": given / "data.npz", "run": given / "run", "images": given / "images"}
        call(line.format(**parts), "--out", out)

    return go


def _collect(out: Path, given: Path) -> None:
    del given
    call("collect --env ebm/Particle-v0 --steps 600 --num-envs 4", "--out", out / "data.npz")


def _experiment(out: Path, given: Path) -> None:
    del given
    # For too long names `Path.exists` raises an error, and outside of the program under test.
    experiment_as_program(out, again=os.path.exists(out / RECORD), jobs=3)


def _dataset(out: Path, given: Path) -> None:
    """The one call of the library, not a command, that chooses the folder it writes to."""
    del given
    with refused_in_one_line(), minari_folder(out), quiet():
        to_minari(buffer_of(100), "survival/noise-v0")


@contextmanager
def refused_in_one_line() -> Iterator[None]:
    """Print errors of a call in one line and exit with 2, as the command line does."""
    try:
        yield
    except (
        *REFUSALS,
        OSError,
    ) as error:  # a library may pass on the system's message, if it leaves no files
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


RUN = ("settings.json", "summary.json", "figures", "checkpoints", "events")
COMMANDS = {
    command.name: command
    for command in (
        Command("collect", _collect, ("data.npz", "settings.json", "summary.json")),
        Command("train", _line(f"train --data {{data}} {SHORT_TRAIN}"), RUN),
        Command(
            "predict",
            _line(
                "predict --checkpoint {run} --data {data} --horizon 3 --windows 8 --samples 2 --langevin-steps 2"
            ),
            ("settings.json", "summary.json", "figures", "figures/prediction.png", "predictions.npz"),
        ),
        Command(
            "plan",
            _line(
                "plan --checkpoint {run} --env ebm/Particle-v0 --episodes 1 --horizon 3 --sampler mppi "
                "--goal-index 0 1"
            ),
            ("settings.json", "summary.json", "figures", "figures/plan.png"),
        ),
        Command("online", _line(ONLINE_RUN), (*RUN, "experience", "figures/learning_curve.png")),
        Command("images train", _line(f"images train {SHORT_IMAGES}"), (*RUN, "figures/samples.png")),
        Command(
            "images generate",
            _line("images generate --checkpoint {images} --count 4 --steps 3 --judge-updates 2"),
            ("settings.json", "summary.json", "figures", "samples.pt"),
        ),
        Command("images inpaint", _line("images inpaint --checkpoint {images} --count 4 --fills 1"), RUN[:3]),
        Command("images restore", _line("images restore --checkpoint {images} --count 4"), RUN[:3]),
        Command("images ood", _line("images ood --checkpoint {images} --count 4"), RUN[:3]),
        Command(
            "images robustness",
            _line("images robustness --checkpoint {images} --count 4 --radii 0 --classifier-updates 2"),
            RUN[:2],
        ),
        Command(
            "images compose",
            _line("images compose --checkpoints {images} --attributes 1 --count 4"),
            RUN[:3],
        ),
        Command("continual", _line("continual --updates 3 --batch 8 --width 8"), RUN[:3]),
        Command("demo", _line("demo"), ("settings.json",), early=True),
        Command("experiments", _experiment, (RECORD,)),
        Command("to_minari", _dataset, ("survival", "survival/noise-v0", "survival/noise-v0/data")),
    )
}


def read_by_commands(place: Path) -> None:
    """Write the inputs of commands: rollouts, a model of a point in the plane, one of images with classes."""
    place.mkdir(parents=True)
    with quiet():
        call("collect --env ebm/Particle-v0 --steps 400 --num-envs 4", "--out", place / "data.npz")
        call(f"train {SHORT_TRAIN}", "--data", place / "data.npz", "--out", place / "run")
        conditional = SHORT_IMAGES.replace(
            "--train.model.width", "--train.model.conditional --train.model.width"
        )
        call(f"images train {conditional}", "--out", place / "images")


def scenarios(command: Command) -> Iterator[tuple[str, str]]:
    """Name and argument of every failure scenario."""
    for limit in LIMITS[:1] if command.early else LIMITS:
        yield "no file above", str(limit)
    for name in command.files:
        yield "taken", name
    for path in NEVER:
        yield "never", path
    yield "never", LONG
    yield "under a file", "notes.txt"
    yield "out is a file", "notes.txt"
    if may_mount() and not command.early:
        yield "full disk", DISK


def may_mount() -> bool:
    """Whether a process may mount a temporary disk of its own."""
    return run(partial(_mount, Path("/tmp")), 20).code == 0


def _mount(place: Path) -> None:
    """Mount a tiny disk at `place`, visible only to this process and its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNS | CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "no namespaces")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if libc.mount(b"survival", str(place).encode(), b"tmpfs", 0, DISK.encode()):
        raise OSError(ctypes.get_errno(), "no disk")


def disks(name: str, numbers: Sequence[int], place: Path, given: Path) -> list[Outcome]:
    """`disks_of` for a command given by name."""
    return disks_of(COMMANDS[name], numbers, place, given)


def disks_of(command: Command, numbers: Sequence[int], place: Path, given: Path) -> list[Outcome]:
    """Run a command under failure scenarios, once for each of `numbers`."""
    name = command.name
    known = list(scenarios(command))
    chosen = [(number, *known[number]) for number in numbers if number < len(known)]
    died = lambda one, how: Outcome(f"disks: {name}", f"{one[1]} {one[2]}", "tracebacks", how)  # noqa: E731
    found = []
    for one in chosen:  # each in its own process, to which a mounted disk belongs
        found += isolated(partial(_tried, command, place=place, given=given), [one], SECONDS, died)
    return found


def _tried(command: Command, one: tuple[int, str, str], place: Path, given: Path) -> Outcome:
    number, scenario, argument = one
    outcome = partial(Outcome, f"disks: {command.name}", f"{scenario} {argument[:60]}")
    folder = place / f"{command.name.replace(' ', '-')}-{number}"
    folder.mkdir(parents=True)
    if scenario == "full disk":
        _mount(folder)
    out, before = _in_the_way(command, folder, given, scenario, argument)
    limit = int(argument) if scenario == "no file above" else None
    ending = run(partial(command.go, out, given), SECONDS / 2, limit)
    for path, content in before.items():
        if not path.is_file() or path.read_bytes() != content:
            return outcome("lost", f"{path.relative_to(folder)} of the user's")
    broken = _broken(command, out, ending.code == 0)
    if broken:
        return outcome("lost" if ending.code else "silent", broken)
    complaint = ending_complaint(ending, (0, 2))
    if complaint:
        return outcome("tracebacks", complaint)
    return outcome("right" if ending.code == 0 else "clear")


def _in_the_way(
    command: Command, folder: Path, given: Path, scenario: str, argument: str
) -> tuple[Path, dict[Path, bytes]]:
    """Set up a scenario; returns the output path, and the user's files that must not change."""
    out = folder / "out"
    (out / "mine").mkdir(parents=True)
    mine = [folder / "notes.txt", out / "notes.txt", out / "mine" / "more.txt"]
    for path in mine:
        path.write_text("mine\n")
    if command.name == "collect" and argument != "data.npz":
        shutil.copyfile(given / "data.npz", out / "data.npz")
    if command.name == "experiments" and argument != RECORD and scenario != "full disk":
        with quiet():
            experiment(out, again=False, jobs=2)
    match scenario:
        case "taken":
            path = out / argument
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix:
                path.mkdir()
                mine.append(path / "mine.txt")
            else:
                mine.append(path)
            mine[-1].write_text("mine\n")
        case "never":
            out = Path(argument) if argument.startswith("/") else folder / argument
        case "under a file":
            out = folder / argument / "out"
        case "out is a file":
            out = folder / argument
    return out, {path: path.read_bytes() for path in mine}


def _broken(command: Command, out: Path, ended_well: bool) -> str:
    """Description of corrupt outputs; empty if everything reported as written is intact."""
    if not os.access(out, os.F_OK):
        return ""
    try:
        if (out / "data.npz").is_file():
            rollouts_of(out / "data.npz")
        elif command.name == "collect" and out.is_dir() and not (out / "data.npz").is_dir():
            return "its file is gone"
        if list(out.glob("checkpoints/step_*")):
            load_checkpoint(out / "checkpoints")
        if command.name == "experiments" and out.is_dir() and not (out / RECORD).is_dir():
            least = 3 if ended_well else 2 * (out / RECORD).exists()
            return "" if recorded(out) >= least else "runs that were recorded are gone"
    except (InputError, CheckpointError, OSError) as error:
        return f"unsound: {error}"
    return ""
