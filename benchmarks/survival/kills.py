"""Commands that are killed at random moments, and run again."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.survival.material import experiment_as_program, record_of, recorded, rollouts, rollouts_of
from benchmarks.survival.outcomes import Outcome, ending_complaint, same
from benchmarks.survival.processes import Ending, Running, run
from ebm_control.checks import InputError
from ebm_control.cli import main
from ebm_control.cli.continual import Continual
from ebm_control.data import RolloutBuffer
from ebm_control.seeds import stream
from ebm_control.training import latest_checkpoint, load_checkpoint

SIGNALS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
PATIENCE = 180.0  # seconds after which a run counts as hanging
OWN = ("notes.txt", "checkpoints/mine.txt", "events/mine.txt", "experience/mine.txt")  # files of the user
TRAIN = (
    "--train.model.hidden 16 16 --train.model.base-hidden 16 16 --train.updates 60 --train.base-updates 40 "
    "--train.batch-size 32 --train.langevin-steps 3 --train.checkpoint-every 5"
)
IMAGES = (
    "--train.model.network small --train.model.width 4 --train.updates 40 --train.batch-size 16 "
    "--train.checkpoint-every 4"
)
ONLINE = (
    "--env ebm/Particle-v0 --model feed-forward --online.steps 96 --online.environments 4 --online.warm-up 32 "
    "--online.every 32 --horizon 3 --sampler mppi --evaluate 1"
)


@dataclass(frozen=True)
class Victim:
    """A command that is killed.

    Args:
        name: name of the command.
        begin: writes its inputs into its folder.
        go: runs it; `True` to resume.
        kept: amount of work that is safe on disk, which must never decrease.
        end: its final results, to be compared with those of an undisturbed run.

    """

    name: str
    begin: Callable[[Path], None]
    go: Callable[[Path, bool], None]
    kept: Callable[[Path], float]
    end: Callable[[Path], Any]


def call(line: str, *further: str | Path) -> None:
    """Run the command line as the console script does."""
    main([*line.split(), *map(str, further)])


def _train(folder: Path, again: bool) -> None:
    call(f"train {TRAIN}{' --resume' * again}", "--data", folder / "data.npz", "--out", folder)


def _images(folder: Path, again: bool) -> None:
    call(f"images train {IMAGES}{' --resume' * again}", "--out", folder)


def _online(folder: Path, again: bool) -> None:
    call(f"online {ONLINE}{' --resume' * again}", "--out", folder)


def _collect(folder: Path, again: bool) -> None:
    del again
    call("collect --env ebm/Particle-v0 --steps 3000 --num-envs 4", "--out", folder / "data.npz")


def _continual(folder: Path, again: bool) -> None:
    known = any(field.name == "resume" for field in fields(Continual))
    call(f"continual --updates 30 --batch 16 --width 16{' --resume' * (again and known)}", "--out", folder)


def _checkpointed(folder: Path) -> float:
    """Step of the newest checkpoint; -1 without checkpoints."""
    found = latest_checkpoint(folder / "checkpoints")
    return -1 if found is None else int(found.name.removeprefix("step_"))


def _weights_and_state(folder: Path) -> Any:
    found = load_checkpoint(folder / "checkpoints")
    return {"weights": dict(found.weights), "state": dict(found.state), "settings": dict(found.settings)}


def _experienced(folder: Path) -> Any:
    """Number of counted steps, and whether all of them are in the experience."""
    found = latest_checkpoint(folder / "checkpoints")
    if found is None:
        return None
    step = load_checkpoint(found).settings["progress"]["step"]
    here = folder / "experience" / found.name
    parts = [RolloutBuffer.load(here / f"{name}.npz") for name in ("data", "held")]
    return {"step": step, "transitions": sum(map(len, parts))}


def _loaded(folder: Path) -> float:
    """1 if the file of rollouts is intact, 0 if there is none, -1 if it is damaged."""
    if not (folder / "data.npz").exists():
        return 0
    try:
        return float(len(RolloutBuffer.load(folder / "data.npz")) > 0)
    except InputError:
        return -1


def _accuracies(folder: Path) -> Any:
    summary = json.loads((folder / "summary.json").read_text())
    return {name: summary[name] for name in ("accuracy", "accuracies", "forgetting")}


def _nothing(folder: Path) -> None:
    del folder


VICTIMS = {
    victim.name: victim
    for victim in (
        Victim("train", partial(rollouts, steps=400), _train, _checkpointed, _weights_and_state),
        Victim("images train", _nothing, _images, _checkpointed, _weights_and_state),
        Victim("online", _nothing, _online, _checkpointed, _experienced),
        Victim(
            "collect", partial(rollouts, steps=200), _collect, _loaded, lambda f: rollouts_of(f / "data.npz")
        ),
        Victim("continual", _nothing, _continual, _checkpointed, _accuracies),
        Victim("experiments", _nothing, experiment_as_program, recorded, record_of),
    )
}


@dataclass(frozen=True)
class Whole:
    """Results of an undisturbed run."""

    end: Any
    seconds: float


def undisturbed(victim: Victim, folder: Path) -> Whole:
    """Run a command to its end; raises `RuntimeError` if it fails."""
    folder.mkdir(parents=True)
    victim.begin(folder)
    started = time.perf_counter()
    ending = run(lambda: victim.go(folder, False), PATIENCE)
    seconds = time.perf_counter() - started
    if ending.code or ending.hung:
        raise RuntimeError(f"{victim.name}: an undisturbed run ends with {ending}")
    return Whole(victim.end(folder), seconds)


def kill(victim: Victim, whole: Whole, number: int, seed: int, place: Path) -> Outcome:
    """Kill a command at a random moment, once or twice, resume it, and compare with the undisturbed run."""
    rng = stream(seed, f"kill {victim.name} {number}")
    folder = place / f"{victim.name.replace(' ', '-')}-{number}"
    (folder / "mine").mkdir(parents=True)
    victim.begin(folder)
    for name in OWN:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine\n")
    sent = tuple(SIGNALS)[(number + seed) % len(SIGNALS)]
    what = f"number {number} of seed {seed}: {sent.name}"
    outcome = partial(Outcome, f"kills: {victim.name}", what)
    worst: Outcome | None = None
    for round_ in range(1 + (rng.random() < 0.25)):
        running = Running(lambda again=round_ > 0: victim.go(folder, again))  # type: ignore[misc]
        ended = running.wait(rng.uniform(0, 1) * whole.seconds)
        before = victim.kept(folder)
        if not ended:
            running.send(sent)
        ending = running.end(PATIENCE)
        complaint = ending_complaint(ending, (0, SIGNALS[sent]))
        if complaint is not None and worst is None:
            worst = outcome("tracebacks", complaint)
        gone = _lost(victim, folder, before)
        if gone:
            return outcome("lost", gone)
    ending = run(lambda: victim.go(folder, True), PATIENCE)
    return _compared(victim, folder, whole, ending, outcome) or worst or outcome("right")


def _lost(victim: Victim, folder: Path, before: float) -> str:
    after = victim.kept(folder)
    if after < before:
        return f"what is safe went from {before:g} to {after:g}"
    gone = [name for name in OWN if not (folder / name).exists()]
    return f"files of the user's: {', '.join(gone)}" if gone else ""


def _compared(
    victim: Victim, folder: Path, whole: Whole, ending: Ending, outcome: Callable[..., Outcome]
) -> Outcome | None:
    """The fault in the final results; None if there is none."""
    complaint = ending_complaint(ending, (0,))
    if complaint is not None:
        return outcome("lost", f"it cannot go on: {complaint}")
    gone = _lost(victim, folder, -1)
    if gone:
        return outcome("lost", gone)
    if not same(victim.end(folder), whole.end):
        return outcome("silent", "the end is not that of an undisturbed run")
    return None


def kills(names: Sequence[str], numbers: Sequence[int], seed: int, place: Path) -> list[Outcome]:
    """Kill commands, each once for each of `numbers`."""
    found = []
    for name in names:
        victim = VICTIMS[name]
        whole = undisturbed(victim, place / f"{name.replace(' ', '-')}-undisturbed-{numbers[0]}")
        found += [kill(victim, whole, number, seed, place) for number in numbers]
    return found
