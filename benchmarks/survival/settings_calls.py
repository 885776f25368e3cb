"""Valid calls for fuzzing: settings, images, streams of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from benchmarks.survival.fuzz import Call
from benchmarks.survival.material import TINY, TINY_IMAGES, buffer_of, image_model, images_of
from ebm_control.continual import LearnerSettings, learn, make_learner
from ebm_control.data import ImageBatches, ImageSet
from ebm_control.data.streams import TaskStream, permuted_stream, split_stream
from ebm_control.images import denoise, generate, inpaint, restore, salt_and_pepper
from ebm_control.models import fit_images, fit_model
from ebm_control.online import OnlineSettings
from ebm_control.training import Guard

ROLES = {int: "count", float: "number", str: "choice"}


def roles_of(settings: Any, **further: str) -> dict[str, str]:
    """Roles of the fields of a settings class, by the types of their values; `further` adds or replaces roles."""
    found = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        role = "seed" if field.name == "seed" else ROLES.get(type(value))
        if role is not None:
            found[field.name] = role + "?" * ("None" in str(field.type))
        elif isinstance(value, tuple) and value and not field.name.startswith("noise"):
            found[field.name] = "widths"
    return found | further


def values_of(settings: Any) -> dict[str, Any]:
    """Values of the fields by name."""
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def _changed(settings: Any, given: Mapping[str, Any]) -> Any:
    return replace(settings, **{name: given[name] for name in given})


def _settings(
    name: str,
    valid: Any,
    use: Callable[[Any], Any],
    right: Callable[[Any], bool] | None = None,
    **further: str,
) -> Call:
    """A call that builds a settings class with other fields, and uses it."""
    roles = roles_of(valid, **further)
    return Call(
        name,
        lambda **given: use(_changed(valid, given)),
        roles,
        lambda: {field: value for field, value in values_of(valid).items() if field in roles},
        lambda value, given: right is None or right(value),
        names=("settings", "buffer", "noise"),
    )


def _trained(settings: Any) -> Any:
    model = fit_model(buffer_of(100), settings, progress=False)
    return dict(model.energy.state_dict())


def _trained_on_images(settings: Any) -> Any:
    model = fit_images(images_of(8), settings, progress=False)
    return dict(model.energy.state_dict())


SHORT = replace(TINY, updates=3, base_updates=3, checkpoint_every=2)
IMAGES = replace(TINY_IMAGES, learning_rate=1e-3)
KIND = LearnerSettings((1, 8, 8), 4, width=4, memory_size=4, learning_rate=1e-3, penalty=1.0)


def _learned(kind: Any, method: str = "ewc") -> Any:
    stream = split_stream(images_of(16), 2)
    found = learn(make_learner(method, kind), stream, updates=2, batch_size=4)
    return [found.accuracies, found.seconds]


SETTINGS = (
    _settings("TrainSettings", SHORT, _trained),
    _settings("TrainSettings, cd-kl", replace(SHORT, loss="cd-kl"), _trained),
    _settings(
        "ModelSettings",
        SHORT.model,
        lambda model: _trained(replace(SHORT, model=model)),
        hidden="widths",
        base_hidden="widths",
    ),
    _settings("ImageTrainSettings", IMAGES, _trained_on_images),
    _settings(
        "ImageModelSettings",
        replace(TINY_IMAGES.model, noise=()),
        lambda model: _trained_on_images(replace(IMAGES, model=model)),
    ),
    _settings("OnlineSettings", OnlineSettings(memory=100, change=2.0), lambda settings: settings.steps),
    _settings(
        "Guard",
        Guard(),
        lambda guard: dict(fit_model(buffer_of(100), SHORT, progress=False, guard=guard).energy.state_dict()),
    ),
    _settings("Kind", KIND, _learned),
)


def _own(**given: Any) -> Any:
    data = ImageSet("own", **given)
    model = fit_images(data, replace(TINY_IMAGES, updates=1), progress=False)
    return [dict(model.energy.state_dict()), data.classes]


def _set() -> dict[str, Any]:
    data = images_of(12)
    return {name: getattr(data, name) for name in ("images", "labels", "test_images", "test_labels")}


def _stream(**given: Any) -> Any:
    stream = TaskStream("own", (ImageSet("own", **{k: given.pop(k) for k in _set()}),), given.pop("classes"))
    return [[batch.x, batch.labels] for batch in stream.batches(**given)]


def _batch(**given: Any) -> Any:
    return next(ImageBatches(**given, seed=0))


def _in_range(x: Any) -> bool:
    return bool(((x >= 0) & (x <= 1)).all())


def _known() -> torch.Tensor:
    known = torch.zeros(1, 8, 8, dtype=torch.bool)
    known[:, 4:] = True
    return known


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


PIXELS = torch.full((2, 1, 8, 8), 0.25)
IMAGE_CALLS = (
    Call(
        "ImageSet",
        _own,
        dict.fromkeys(("images", "labels", "test_images", "test_labels"), "tensor"),
        _set,
        lambda value, given: value[1] >= 1,
        names=("data", "tasks"),
    ),
    Call(
        "ImageBatches",
        _batch,
        {
            "images": "tensor",
            "batch_size": "count",
            "labels": "tensor?",
            "classes": "count",
            "unlabelled": "number",
        }
        | {"noise": "number"},
        lambda: (
            {"images": _set()["images"], "batch_size": 3, "labels": _set()["labels"], "classes": 4}
            | {"unlabelled": 0.5, "noise": 0.1}
        ),
        lambda value, given: (
            value.x.shape == (given["batch_size"], *np.shape(given["images"])[1:]) and _in_range(value.x)
        ),
    ),
    Call(
        "TaskStream",
        _stream,
        dict.fromkeys(("images", "labels", "test_images", "test_labels"), "tensor")
        | {
            "classes": "count",
            "updates": "count",
            "batch_size": "count",
            "overlap": "number?",
            "seed": "seed",
        },
        lambda: _set() | {"classes": 4, "updates": 2, "batch_size": 3, "overlap": 0.5, "seed": 0},
        lambda value, given: len(value) == given["updates"] and all(_in_range(x) for x, _ in value),
        names=("tasks",),
    ),
    Call(
        "split_stream",
        lambda **given: split_stream(images_of(12), **given).tasks[0].labels,
        {"per_task": "count", "order": "index?"},
        lambda: {"per_task": 2, "order": (3, 1, 0, 2)},
    ),
    Call(
        "permuted_stream",
        lambda **given: len(permuted_stream(images_of(12), **given).tasks),
        {"tasks": "count", "seed": "seed"},
        lambda: {"tasks": 2, "seed": 0},
        lambda value, given: value == given["tasks"],
    ),
    Call(
        "learner_of",
        lambda method, **given: _learned(replace(KIND, penalty=None, **given), method),
        {"method": "choice", "memory_size": "count", "width": "count", "classes": "count"},
        lambda: {"method": "ebm", "memory_size": 4, "width": 4, "classes": 4},
        names=("name", "kind"),
    ),
    Call(
        "learn",
        lambda **given: (
            learn(
                make_learner("softmax", replace(KIND, penalty=None)), split_stream(images_of(12), 2), **given
            ).accuracies
        ),
        {"updates": "count", "batch_size": "count", "overlap": "number?", "test": "count?", "seed": "seed"},
        lambda: {"updates": 1, "batch_size": 2, "overlap": None, "test": 4, "seed": 0},
        lambda value, given: value.shape == (2, 2),
    ),
    Call(
        "generate",
        lambda **given: generate(image_model().energy, **given, generator=_generator()).x,
        {"count": "count", "trace": "count"},
        lambda: {"count": 2, "trace": 0},
        lambda value, given: value.shape == (given["count"], 1, 8, 8) and _in_range(value),
    ),
    Call(
        "inpaint",
        lambda **given: inpaint(image_model().energy, **given, generator=_generator()),
        {"images": "tensor", "known": "tensor", "fills": "count"},
        lambda: {"images": PIXELS.clone(), "known": _known(), "fills": 1},
        lambda value, given: (
            value.shape == (len(given["images"]), given["fills"], 1, 8, 8) and _in_range(value)
        ),
    ),
    Call(
        "denoise",
        lambda **given: denoise(image_model().energy, **given),
        {"images": "tensor", "std": "number", "steps": "count"},
        lambda: {"images": PIXELS.clone(), "std": 0.3, "steps": 2},
        lambda value, given: value.shape == np.shape(given["images"]) and _in_range(value),
    ),
    Call(
        "restore",
        lambda **given: restore(image_model().energy, **given, generator=_generator()),
        {"images": "tensor", "fills": "count", "steps": "count", "level": "number", "beyond": "number"},
        lambda: {"images": PIXELS.clone(), "fills": 1, "steps": 2, "level": 0.3, "beyond": 0.1},
        lambda value, given: value.shape == np.shape(given["images"]) and _in_range(value),
    ),
    Call(
        "salt_and_pepper",
        lambda **given: salt_and_pepper(**given, generator=_generator()),
        {"images": "tensor", "fraction": "number", "dark": "number", "bright": "number"},
        lambda: {"images": PIXELS.clone(), "fraction": 0.1, "dark": 0.1, "bright": 0.9},
        lambda value, given: value.shape == np.shape(given["images"]),
    ),
)
