"""Composition of energies of independent attributes that were trained separately."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebm_control import images as tasks
from ebm_control.data import ImageSet, Shapes, draw_shapes
from ebm_control.data.shapes import ATTRIBUTES
from ebm_control.energies import Energy, ImageEnergy, mixture
from ebm_control.images.grid import save_grid
from ebm_control.samplers import image_sampler
from experiments.images.settings import Size, attribute_settings, seeded
from experiments.images.trained import Trained, together, trained

Row = dict[str, Any]
TOGETHER = (("shape", "position"), ("shape", "size"), ("shape", "position", "size"))
# Combinations that are left out of the training data of energies.
UNSEEN: tuple[Mapping[str, int], ...] = (
    {"shape": 0, "position": 1},
    {"shape": 1, "position": 2},
    {"shape": 2, "size": 1},
)
# `common` and `strength` of `all_of`; a strength of eight was chosen on the first seed.
WAYS = {"Bayes' rule, attributes eight times": (1.0, 8.0), "Bayes' rule": (1.0, 1.0), "sum": (0.0, 1.0)}


def shapes_rows(seed: int, size: Size, folder: Path, device: str = "cpu") -> list[Row]:
    """Joint accuracy of composed shapes, judged by classifiers trained on all combinations."""
    drawing = torch.Generator().manual_seed(100 + seed)
    seen = draw_shapes(size.drawn, drawing, without=UNSEEN).to(device)
    every = draw_shapes(size.drawn, drawing).to(device)
    generator = torch.Generator(device).manual_seed(200 + seed)
    names = sorted({name for group in TOGETHER for name in group})
    made = {name: of_attribute(seen, name, seed, size, folder) for name in names}
    energies, seconds = {name: one.model.energy for name, one in made.items()}, together(list(made.values()))
    judges = {name: judge(every.labelled(name), size) for name in names}
    accuracies = {
        f"judge_{name}": made.accuracy(every.labelled(name).part("test"), every.labelled(name).test_labels)
        for name, made in judges.items()
    }
    rows = []
    for group in TOGETHER:
        asked = torch.stack(
            [torch.randint(ATTRIBUTES[name], (size.composed,), generator=drawing) for name in group], dim=1
        ).to(device)
        for way, (common, strength) in WAYS.items():
            if not common and group != TOGETHER[0]:
                continue
            began = time.perf_counter()
            drawn = tasks.compose(
                [energies[name] for name in group],
                asked,
                common=common,
                strength=strength,
                sampler=image_sampler(energies[group[0]], size.levels, corrections=3),
                generator=generator,
            )
            took = time.perf_counter() - began
            if seed == 0 and strength > 1:
                save_grid(folder / "figures" / f"composed-{'-'.join(group)}.png", drawn[:60], 12)
            row = {
                "task": "compose",
                "attributes": " + ".join(group),
                "way": way,
                "train_seconds": seconds,
                "sample_seconds": took,
            }
            rows.append(row | accuracies | judged(drawn, asked, group, judges))
    return rows + logic_rows(energies, judges, size, folder, generator, seed)


def logic_rows(
    energies: Mapping[str, ImageEnergy],
    judges: Mapping[str, tasks.Classifier],
    size: Size,
    folder: Path,
    generator: torch.Generator,
    seed: int,
) -> list[Row]:
    """Rows of "either of two shapes" (`mixture`) and "a position but not a shape" (`-`)."""
    shape, position = energies["shape"], energies["position"]
    sampler = image_sampler(shape, size.levels, corrections=3)

    def drawn(energy: Energy) -> Tensor:
        start = shape.mean.expand(size.composed, -1, -1, -1)
        return sampler(energy, start, generator=generator).x.clamp(0, 1)

    either = drawn(mixture([tasks.has(shape, 0), tasks.has(shape, 2)]))
    beside = drawn(tasks.has(position, 3) + tasks.anything(shape) - tasks.has(shape, 1))
    if seed == 0:
        pictures = torch.cat([either[:24], beside[:24]])
        save_grid(folder / "figures" / "composed-either-and-not.png", pictures, 12)
    of_either, of_beside = judges["shape"](either).argmax(dim=1), judges["shape"](beside).argmax(dim=1)
    place = judges["position"](beside).argmax(dim=1)
    share = ((of_either == 0) | (of_either == 2)).double().mean()
    common = {"task": "compose"}
    return [
        common
        | {
            "attributes": "shape 0 or shape 2",
            "way": "mixture",
            "joint": float(share),
            "share_of_first": float((of_either == 0).double().mean()),
        },
        common
        | {
            "attributes": "position 3, not shape 1",
            "way": "difference",
            "joint": float(((place == 3) & (of_beside != 1)).double().mean()),
            "accuracy_position": float((place == 3).double().mean()),
        },
    ]


def of_attribute(seen: Shapes, name: str, seed: int, size: Size, folder: Path) -> Trained:
    """An energy of one attribute, trained separately."""
    settings = attribute_settings(size, size.shapes, seed)
    return trained(seen.labelled(name), settings, folder / f"shapes-{name}-{seed}")


def judge(data: ImageSet, size: Size) -> tasks.Classifier:
    """A classifier of one attribute, trained with noise so that it is robust to residual noise in samples."""
    return tasks.fit_classifier(
        data,
        width=size.width,
        updates=size.classifier,
        noise=0.1,
        seed=1000,
        device=data.images.device,
        progress=False,
    )


def judged(
    drawn: Tensor, asked: Tensor, group: Sequence[str], judges: Mapping[str, tasks.Classifier]
) -> dict[str, float]:
    """Shares of images with the requested attributes: each one, all, and all for combinations that are new."""
    found = torch.stack([judges[name](drawn).argmax(dim=1) for name in group], dim=1)
    right = found == asked
    new = unseen(asked, group)
    joint = right.all(dim=1)
    figures = {f"accuracy_{name}": float(right[:, i].double().mean()) for i, name in enumerate(group)}
    figures["joint"] = float(joint.double().mean())
    if new.any():
        figures["joint_unseen"] = float(joint[new].double().mean())
        figures["unseen"] = float(new.double().mean())
    return figures


def unseen(asked: Tensor, group: Sequence[str]) -> Tensor:
    """Mask of the attributes `(N, k)` whose combination is not in the training data."""
    new = torch.zeros(len(asked), dtype=torch.bool, device=asked.device)
    for combination in UNSEEN:
        if set(combination) <= set(group):
            same = [asked[:, group.index(name)] == value for name, value in combination.items()]
            new |= torch.stack(same).all(dim=0)
    return new


def strokes_rows(data: ImageSet, seed: int, size: Size, folder: Path) -> list[Row]:
    """Rows of digit class and stroke width, in thirds of the training images by ink per length of outline."""
    widths = stroke_thirds(data.images)
    edges = thresholds(data.images)
    by_width = replace(
        data,
        name=f"{data.name}-strokes",
        labels=widths,
        test_labels=torch.bucketize(stroke_width(data.test_images), edges),
    )
    settings = attribute_settings(size, size.strokes, seed)
    made = [
        trained(part, settings, folder / f"{data.name}-{name}-{seed}")
        for part, name in ((data, "digit"), (by_width, "stroke"))
    ]
    energies, seconds = [one.model.energy for one in made], together(made)
    judges = {"digit": judge(data, size), "stroke": judge(by_width, size)}
    generator = seeded(data, seed)
    group = ("digit", "stroke")
    asked = torch.stack(
        [
            torch.randint(n, (size.composed,), generator=generator, device=generator.device)
            for n in (data.classes, 3)
        ],
        dim=1,
    )
    rows = []
    for way, (common, strength) in WAYS.items():
        given: dict[str, Any] = {"common": common, "strength": strength, "generator": generator}
        drawn = tasks.compose(energies, asked, **given)
        if seed == 0 and strength > 1:
            shown = torch.cartesian_prod(torch.arange(3), torch.arange(10)).flip(1).to(asked)
            picture = tasks.compose(energies, shown, **given)
            save_grid(folder / "figures" / f"composed-{data.name}-strokes.png", picture, 10)
        row = {"task": "compose", "attributes": " + ".join(group), "way": way, "train_seconds": seconds}
        rows.append(row | judged(drawn, asked, group, judges))
    return rows


def stroke_width(images: Tensor) -> Tensor:
    """Ink over length of outline, `(N,)`: about half the width of a stroke, in pixels."""
    ink = images.float() / 255
    across = (ink[..., 1:] - ink[..., :-1]).abs().sum(dim=(1, 2, 3))
    down = (ink[..., 1:, :] - ink[..., :-1, :]).abs().sum(dim=(1, 2, 3))
    return ink.sum(dim=(1, 2, 3)) / (across + down).clamp(min=1e-6)


def thresholds(images: Tensor) -> Tensor:
    """The two thresholds that divide images into thirds by stroke width."""
    return stroke_width(images).quantile(images.new_tensor([1 / 3, 2 / 3], dtype=torch.float))


def stroke_thirds(images: Tensor) -> Tensor:
    """Classes of stroke width `(N,)`: 0 for thin, 1 for medium, 2 for thick."""
    return torch.bucketize(stroke_width(images), thresholds(images))
