"""Files damaged in the ways of disks, copies and editors: they must be read correctly or rejected with a message."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.survival.kills import ONLINE, OWN, call
from benchmarks.survival.material import (
    RECORD,
    ROWS,
    buffer_of,
    contents,
    experiment,
    image_run,
    record_of,
    rollouts_of,
    trajectory_run,
)
from benchmarks.survival.outcomes import Outcome, ending_complaint, judged, same
from benchmarks.survival.processes import isolated, quiet, run
from ebm_control.baselines import Baseline, BaselineSettings, fit_baseline
from ebm_control.control import planner_for
from ebm_control.data import from_minari, load_images, read, to_minari
from ebm_control.data.images import FOLDER
from ebm_control.energies import GoalCost
from ebm_control.models import ImageModel, TrajectoryModel
from ebm_control.online import OnlineLearning, OnlineSettings, make_learner
from ebm_control.seeds import stream
from ebm_control.training import load_checkpoint

Rng = np.random.Generator
SECONDS = 60.0  # limit per file
CHECKPOINT = ("weights.safetensors", "settings.json", "state.pt", "manifest.json")
DATASET = "survival/noise-v0"
STRANGERS = (b"", b"\0" * 4096, b"\x89PNG\r\n\x1a\n" + b"\0" * 64, b"[]", b"{}", b"null", b"nothing\n" * 40)


@dataclass(frozen=True)
class Subject:
    """Files of one kind.

    Args:
        name: name of the kind.
        make: writes intact files into a folder.
        files: patterns of the files that are damaged.
        read: reads the contents of the folder.
        share: share of all tries.
        names: arguments that an error message may name instead of the file.
        alone: whether each file is complete in itself, so that another intact file in its place is not damage.

    """

    name: str
    make: Callable[[Path], None]
    files: tuple[str, ...]
    read: Callable[[Path], Any]
    share: float
    names: tuple[str, ...] = ()
    alone: bool = False

    def damageable(self, folder: Path) -> list[Path]:
        """Existing files that can be damaged, in order."""
        return sorted(path for pattern in self.files for path in folder.glob(pattern) if path.is_file())


def _truncated(content: bytes, rng: Rng) -> bytes:
    return content[: int(rng.integers(len(content)))]


def _ends_early(content: bytes, rng: Rng) -> bytes:
    return content[: -int(rng.integers(1, 20))]


def _flipped(content: bytes, rng: Rng) -> bytes:
    found = bytearray(content)
    for place in rng.integers(len(content), size=int(rng.integers(1, 9))):
        found[place] ^= 1 << int(rng.integers(8))
    return bytes(found)


def _zeroed(content: bytes, rng: Rng) -> bytes:
    first = int(rng.integers(len(content)))
    size = min(int(rng.choice([16, 64, 512, 4096])), len(content) - first)
    return content[:first] + b"\0" * size + content[first + size :]


def _swapped(content: bytes, rng: Rng) -> bytes:
    found, size = bytearray(content), min(int(rng.choice([1, 2, 8, 64])), len(content) // 2)
    a, b = sorted(int(i) for i in rng.integers(len(content) - size + 1, size=2))
    b = min(max(b, a + size), len(content) - size)
    found[a : a + size], found[b : b + size] = content[b : b + size], content[a : a + size]
    return bytes(found)


def _longer(content: bytes, rng: Rng) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 200)))


def _inserted(content: bytes, rng: Rng) -> bytes:
    place = int(rng.integers(len(content)))
    return content[:place] + rng.bytes(int(rng.integers(1, 9))) + content[place:]


WAYS = (_truncated, _ends_early, _flipped, _flipped, _zeroed, _swapped, _longer, _inserted)


def damaged(file: Path, others: Sequence[Path], rng: Rng) -> str:
    """Damage a file in place; returns a description of the damage."""
    content = file.read_bytes()
    way = int(rng.integers(len(WAYS) + 5))
    if way < len(WAYS) and len(content) > 1:
        file.write_bytes(WAYS[way](content, rng))
        return WAYS[way].__name__.strip("_")
    match way - len(WAYS):
        case 0:
            file.rename(file.with_name(f"{file.name}.old"))
            return "renamed"
        case 1:
            file.unlink()
            file.mkdir()
            return "a folder in its place"
        case 2:
            other = others[int(rng.integers(len(others)))]
            shutil.copyfile(other, file)
            return f"replaced by {'/'.join(other.parts[-3:])}"
        case 3:
            file.unlink()
            file.symlink_to(file.name)
            return "a link to itself"
        case _:
            file.write_bytes(STRANGERS[int(rng.integers(len(STRANGERS)))])
            return "replaced by nothing or next to it"


def _save_rollouts(folder: Path) -> None:
    buffer_of(200).save(folder / "data.npz")


def _read_rollouts(folder: Path) -> Any:
    read(str(folder / "data.npz"))  # as the command line does
    return rollouts_of(folder / "data.npz")


def _read_checkpoint(folder: Path, model: type[TrajectoryModel] | type[ImageModel]) -> Any:
    found = load_checkpoint(folder / "checkpoints")
    weights = model.load(folder / "checkpoints").energy.state_dict()
    return [dict(weights), dict(found.weights), dict(found.settings), dict(found.state)]


def _save_baseline(folder: Path) -> None:
    settings = BaselineSettings(hidden=(8,), updates=5, batch_size=16)
    fit_baseline(buffer_of(200), settings, progress=False).save(folder)


def _read_baseline(folder: Path) -> Any:
    found = Baseline.load(folder)
    return [dict(found.dynamics.state_dict()), found.normalizer.to_dict(), found.held_out_error]


def _learning(folder: Path, resume: bool, steps: int = 64) -> OnlineLearning:
    return OnlineLearning(
        "ebm/Particle-v0",
        make_learner("feed-forward", 100),
        lambda model, step: planner_for(
            model, 20 * GoalCost(model.layout, (0, 1)), 3, sampler="mppi", preset="online"
        ),
        OnlineSettings(steps=steps, environments=4, warm_up=32, every=16),
        folder=folder,
        resume=resume,
        progress=False,
    )


def _learn(folder: Path) -> None:
    _learning(folder, resume=False).run()


def _read_learning(folder: Path) -> Any:
    found = _learning(folder, resume=True)
    parts = [contents(found.experience.data), contents(found.experience.held)]
    normalizer = None if found.normalizer is None else found.normalizer.to_dict()
    return [parts, normalizer, found.learner.state_dict(), found.progress.step, found.progress.rounds]


def _online(folder: Path) -> None:
    call(ONLINE_RUN, "--out", folder)


def _resume_online(folder: Path) -> Any:
    call(f"{ONLINE_RUN} --resume", "--out", folder)


ONLINE_RUN = f"online {ONLINE}"


def _save_record(folder: Path) -> None:
    experiment(folder, again=False, jobs=3)


def _read_record(folder: Path) -> Any:
    experiment(folder, again=True, jobs=3)
    return record_of(folder)


@contextmanager
def minari_folder(folder: Path) -> Iterator[None]:
    """Use this folder for data sets of Minari."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before


def _save_dataset(folder: Path) -> None:
    with minari_folder(folder):
        to_minari(buffer_of(100), DATASET, description="noise", author="nobody", author_email="a@b.c")


def _read_dataset(folder: Path) -> Any:
    with minari_folder(folder):
        return contents(from_minari(DATASET))


def _copy_images(folder: Path, plain: bool) -> None:
    (folder / "mnist").mkdir()
    for path in sorted((Path(os.environ[FOLDER]) / "mnist").glob("*.gz")):
        if plain:
            (folder / "mnist" / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        else:
            shutil.copyfile(path, folder / "mnist" / path.name)


def _read_images(folder: Path) -> Any:
    found = load_images("mnist", folder)
    return [found.images, found.labels, found.test_images, found.test_labels]


def _trajectory(folder: Path) -> None:
    trajectory_run(folder)


def _images(folder: Path) -> None:
    image_run(folder)


_EACH = tuple(f"checkpoints/*/{name}" for name in CHECKPOINT)
SUBJECTS = (
    Subject("rollouts", _save_rollouts, ("data.npz",), _read_rollouts, 0.2, ("data", "path"), True),
    Subject("checkpoint", _trajectory, _EACH, partial(_read_checkpoint, model=TrajectoryModel), 0.2),
    Subject("image checkpoint", _images, _EACH, partial(_read_checkpoint, model=ImageModel), 0.08),
    Subject("baseline", _save_baseline, ("*/*",), _read_baseline, 0.08),
    Subject(
        "online", _learn, (*_EACH, "experience/*/*.npz"), _read_learning, 0.16, ("experience", "learner")
    ),
    Subject("record", _save_record, (RECORD, ROWS), _read_record, 0.1, ("record", "resume")),
    Subject("Minari data set", _save_dataset, ("**/*.hdf5", "**/*.json"), _read_dataset, 0.18, ("dataset",)),
)
IDX = tuple(
    Subject(name, partial(_copy_images, plain=plain), (f"mnist/{which}",), _read_images, share, ("folder",))
    for name, plain, which, share in (
        ("idx labels, gzipped", False, "*labels*", 0.5),
        ("idx labels, plain", True, "*labels*", 0.25),
        ("idx images, plain", True, "t10k-images*", 0.25),
    )
)
COMMAND = Subject("settings of a run", _online, ("settings.json",), _resume_online, 1.0)


def strangers(place: Path) -> list[Path]:
    """Intact files of other runs and programs, which replace files."""
    place.mkdir(parents=True)
    buffer_of(200, seed=1).save(place / "rollouts.npz")
    np.savez(place / "arrays.npz", states=np.zeros((3, 2)), format=1)
    trajectory_run(place, seed=1)
    (place / "settings.json").write_text('{"env": "ebm/Reacher-v0", "steps": 10}\n')
    (place / "picture.png").write_bytes(STRANGERS[2])
    return sorted(path for path in place.rglob("*") if path.is_file() and "events" not in path.parts)


def damages(
    subject: Subject, numbers: Sequence[int], seed: int, place: Path, others: Sequence[Path]
) -> list[Outcome]:
    """Damage files of one kind, one file once for each of `numbers`.

    Args:
        subject: kind of files.
        numbers: numbers of the tries.
        seed: seed of the damage.
        place: working folder.
        others: files that may replace one.

    """
    sound = place / f"{subject.name.replace(' ', '-')}-{numbers[0]}"
    if not sound.exists():
        sound.mkdir(parents=True)
        with quiet():
            subject.make(sound)
    kind = f"damage: {subject.name}"
    others = [*(other for other in others if not (subject.alone and other.name == "rollouts.npz"))]
    others += subject.damageable(sound)
    if subject is COMMAND:
        return [_resumed(kind, number, sound, seed, others) for number in numbers]
    with quiet():
        truth = subject.read(sound)

    def one(number: int) -> Outcome:
        rng, folder = stream(seed, f"{kind} {number}"), sound.with_name(f"{sound.name}-damaged")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sound, folder)
        files = _newest(subject.damageable(folder))
        file = files[int(rng.integers(len(files)))]
        how = damaged(file, others, rng)
        before = file.read_bytes() if file.is_file() else b""
        what = f"number {number} of seed {seed}: {file.relative_to(folder)} {how}"
        names = (file.name, str(folder), *subject.names)
        wrong = "what is read is not what was written"
        found = judged(
            kind, what, partial(subject.read, folder), lambda v: None if same(v, truth) else wrong, names
        )
        left = file.read_bytes() if file.is_file() else b""
        if found.result == "clear" and left != before:
            return Outcome(kind, what, "lost", "what was left of the file is changed, though it was refused")
        return found

    died = lambda number, how: Outcome(kind, f"number {number} of seed {seed}", "tracebacks", how)  # noqa: E731
    return list(isolated(one, numbers, SECONDS, died))


def _newest(files: Sequence[Path]) -> list[Path]:
    """Files that are read: for checkpoints and experience only those of the last step."""
    last = max((part for file in files for part in file.parts if part.startswith("step_")), default="")
    return [file for file in files if not last or last in file.parts]


def _resumed(kind: str, number: int, sound: Path, seed: int, others: Sequence[Path]) -> Outcome:
    """Outcome of resuming by the command line in a folder with a damaged file."""
    rng, folder = stream(seed, f"{kind} {number}"), sound.with_name(f"{sound.name}-damaged-{number}")
    shutil.copytree(sound, folder)
    (folder / OWN[0]).write_text("mine\n")
    how = damaged(folder / "settings.json", others, rng)
    outcome = partial(Outcome, kind, f"number {number} of seed {seed}: settings.json {how}")
    ending = run(partial(_resume_online, folder))
    complaint = ending_complaint(ending, (0, 2))
    if not (folder / OWN[0]).exists():
        return outcome("lost", "a file of the user's")
    return (
        outcome("tracebacks", complaint) if complaint else outcome("right" if ending.code == 0 else "clear")
    )
