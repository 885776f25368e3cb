"""Save and resume a run of online learning; only files that a run wrote itself are removed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebm_control.baselines import Baseline
from ebm_control.checks import InputError, require
from ebm_control.data import Normalizer
from ebm_control.online.experience import Parts
from ebm_control.online.planner import OnlinePlanner
from ebm_control.online.progress import Progress
from ebm_control.online.regimes import Regime
from ebm_control.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from ebm_control.online.loop import OnlineLearning

FILES = ("data.npz", "held.npz")
MARK = ".ebm-control"  # marks folders of experience that were written by this module


def save(run: OnlineLearning, folder: Path) -> Path:
    """Write a checkpoint to `folder/checkpoints`. Its experience is written first, so a checkpoint is never incomplete.

    Raises:
        CheckpointError: writing failed.

    """
    step, parts = run.progress.step, run.experience.parts()
    kept, checkpoints = folder / "experience", folder / "checkpoints"
    here = kept / f"step_{step:08d}"
    parts.save(here)
    (here / MARK).touch()
    for i, regime in enumerate(run.regimes):
        regime.experience.save(here / f"regime_{i}")
    assert run.normalizer is not None
    model = run.model
    settings = model.describe() | {
        "normalizer": run.normalizer.to_dict(),
        "progress": run.progress.plain(),
        "run": described(run),
        "experience": [part.digest() for part in (parts, *(regime.experience for regime in run.regimes))],
    }
    weights = (model.dynamics if isinstance(model, Baseline) else model.energy).state_dict()
    state = {
        "learner": run.learner.state_dict(),
        "regimes": [regime.learner for regime in run.regimes],
        "planned": run.planned(),
        "planner": run.planner.state_dict() if isinstance(run.planner, OnlinePlanner) else {},
    }
    path = save_checkpoint(checkpoints, step, Checkpoint(weights, settings, state))
    _forget(kept, checkpoints)
    return path


def _forget(kept: Path, checkpoints: Path) -> None:
    """Remove the experience of deleted checkpoints, and no files that were not written by this module."""
    for old in kept.glob("step_*"):
        if not (old / MARK).is_file() or (checkpoints / old.name).exists():
            continue
        (old / MARK).unlink()
        for folder in (*old.glob("regime_*"), old):
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def described(run: OnlineLearning) -> dict[str, Any]:
    """Properties that a resumed run must share with the original, in the form that JSON returns them."""
    settings = asdict(run.settings)
    del settings["steps"]  # a resumed run may be longer
    envs = run.environments
    spec = envs.all[0].spec
    whole = {
        "settings": settings,
        "env": None if spec is None else spec.id,
        "observation_space": str(envs.observation_space),
        "action_space": str(envs.action_space),
        "periods": list(run.experience.periods),
        "about": dict(run.about),
    }
    return dict(json.loads(json.dumps(whole)))


def resume(run: OnlineLearning, path: Path, folder: Path) -> None:
    """Restore the state that `save` wrote to `path`.

    Raises:
        InputError: the checkpoint belongs to another run (other settings, spaces, learner or description), or the
            experience next to it is not the one that it was written with.
        CheckpointError: the checkpoint is corrupt.

    """
    checkpoint = load_checkpoint(path)
    settings, state = checkpoint.settings, checkpoint.state
    require(
        {"normalizer", "progress"} <= set(settings) and "learner" in state,
        "folder",
        given=f"{path}, which is of another kind",
        expected="a checkpoint of online learning",
    )
    _require_same(described(run), settings.get("run"), path)
    here = folder / "experience" / path.name
    parts = Parts.load(here)
    regimes = [Parts.load(here / f"regime_{i}") for i in range(len(state["regimes"]))]
    _require_own(parts, regimes, settings.get("experience"), here, run)
    run.experience.exchange(parts)
    run.normalizer = Normalizer.from_dict(settings["normalizer"])
    run.learner.begin(run.experience.data, run.normalizer)
    try:
        run.learner.load_state_dict(state["learner"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(
            f"learner: expected the one that {path} is of, got another: {' '.join(str(error).split())}"
        ) from error
    run.regimes = [Regime(learner, kept) for learner, kept in zip(state["regimes"], regimes, strict=True)]
    run.progress = Progress.from_plain(settings["progress"])
    run.take_up_planned(state["planned"])
    if isinstance(run.planner, OnlinePlanner):
        run.planner.load_state_dict(state.get("planner", {}))


def _require_same(now: Mapping[str, Any], before: Any, path: Path) -> None:
    """Compare descriptions of runs; checkpoints that predate descriptions are accepted unchecked."""
    if not isinstance(before, Mapping):
        return
    names = [*now["settings"], *now["about"]]
    for part in ("settings", "about"):
        old, new = before.get(part, {}), now[part]
        changed = sorted(
            name for name in {*old, *new} if old.get(name) != new.get(name) and name in {*old, *names}
        )
        require(
            not changed,
            part,
            given={name: new.get(name) for name in changed},
            expected=f"those that {path} began with, " + str({name: old.get(name) for name in changed}),
        )
    for part in ("env", "observation_space", "action_space", "periods"):
        require(
            before.get(part) == now[part],
            part,
            given=now[part],
            expected=f"{before.get(part)}, as in the run that {path} is of",
        )


def _require_own(
    parts: Parts, regimes: list[Parts], known: list[str] | None, here: Path, run: OnlineLearning
) -> None:
    dims = parts.data.obs_dim, parts.data.act_dim
    expected = run.experience.obs_dim, run.experience.act_dim
    require(dims == expected, "env", given=f"dimensions {expected}", expected=f"{dims}, as in {here}")
    found = [part.digest() for part in (parts, *regimes)]
    require(
        known is None or found == known,
        "folder",
        given=f"other data in {here}",
        expected="the experience that its checkpoint was written with",
    )
