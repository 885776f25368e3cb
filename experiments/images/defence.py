"""Accuracy under attack: a conditional energy, the same network as a classifier, and adversarial training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ebm_control import images as tasks
from ebm_control.data import ImageSet
from ebm_control.images.classify import Logits
from experiments.images.settings import Size, classifier_settings, seeded
from experiments.images.trained import trained

Row = dict[str, Any]
BALL = 0.2  # radius for adversarial training and for refinement
LEVELS = (0.2, 0.4)  # noise levels at which the energy classifies


@dataclass(frozen=True)
class Defence:
    """A classifier to be attacked: `name` in its rows, and the noise (std) or attacks that it is trained with."""

    name: str
    noise: float = 0.0
    adversarial: bool = False


ENERGY = "energy"
CLASSIFIERS = {
    "classifier": Defence("classifier"),
    "classifier, noise": Defence("classifier, trained with noise", noise=2 * LEVELS[-1]),
    "adversarial training": Defence("classifier, adversarial training", adversarial=True),
}
METHODS = (ENERGY, *CLASSIFIERS)


def defence_rows(data: ImageSet, method: str, seed: int, size: Size, folder: Path) -> list[Row]:
    """Rows of one method: accuracy by attack and radius of the ball."""
    defended, seconds = fitted(data, method, seed, size, folder)
    rows = []
    images, labels = data.test_images[: size.attacked].float() / 255, data.test_labels[: size.attacked]
    whole = data.part("test")
    other = tasks.fit_classifier(
        data,
        width=size.width,
        updates=size.classifier,
        seed=seed + 500,
        device=data.images.device,
        progress=False,
    )
    for name, logits in defended.items():
        clean = tasks.accuracy(logits, whole, data.test_labels)
        slow = "refined" in name
        for norm, radii in (("linf", size.radii), ("l2", size.radii_l2)):
            if slow:
                radii = (0.0, BALL) if norm == "linf" else ()
            generator = seeded(data, seed)
            found = tasks.robustness(
                logits, images, labels, radii, norm=norm, steps=size.steps, generator=generator
            )
            rows += [
                {
                    "task": "robustness",
                    "defence": name,
                    "attack": row.attack,
                    "norm": norm,
                    "radius": row.radius,
                    "accuracy": row.accuracy,
                    "clean_accuracy": clean,
                }
                for row in found
            ]
        rows += checks(name, logits, other, images, labels, size)
    return [{"train_seconds": seconds} | row for row in rows]


def fitted(
    data: ImageSet, method: str, seed: int, size: Size, folder: Path
) -> tuple[dict[str, Logits], float | None]:
    """A method's classifiers by name (several for an energy, by noise level and refinement), and training seconds."""
    if method == ENERGY:
        made = trained(data, classifier_settings(size, seed), folder / f"{data.name}-classes-{seed}")
        energy = made.model.energy
        found = {f"energy at noise {level}": tasks.energy_logits(energy, level) for level in LEVELS}
        name = f"energy at noise {LEVELS[-1]}, refined"
        return found | {name: tasks.refined_logits(energy, BALL, level=LEVELS[-1])}, made.seconds
    defence = CLASSIFIERS[method]
    attack = tasks.Attack(BALL, 7, step_size=0.3)

    def perturb(logits: Logits, images: Tensor, labels: Tensor) -> Tensor:
        return tasks.attacked(logits, images, labels, attack)

    began = time.perf_counter()
    classifier = tasks.fit_classifier(
        data,
        width=size.width,
        updates=size.adversarial if defence.adversarial else size.classifier,
        noise=defence.noise,
        perturb=perturb if defence.adversarial else None,
        seed=seed,
        device=data.images.device,
        progress=False,
    )
    return {defence.name: classifier}, time.perf_counter() - began


def checks(name: str, logits: Logits, other: Logits, images: Tensor, labels: Tensor, size: Size) -> list[Row]:
    """Rows that test for gradient masking: transferred attacks, and a radius at which every image must fail."""
    attack = tasks.Attack(BALL, size.steps, step_size=2.5 / size.steps)
    accuracy = tasks.transferred(other, logits, images, labels, attack)
    whole = tasks.Attack(1.0, size.steps, step_size=2.5 / size.steps)
    far = tasks.withstood(logits, images, labels, whole, restarts=2)
    common = {"task": "robustness", "defence": name, "norm": "linf"}
    return [
        common | {"attack": "transferred", "radius": BALL, "accuracy": accuracy},
        common | {"attack": "pgd, far", "radius": 1.0, "accuracy": float(far.double().mean())},
    ]
