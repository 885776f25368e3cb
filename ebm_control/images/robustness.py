"""Accuracy of classifiers on adversarial examples of growing radius."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_control.checks import is_sequence, require, require_number, require_shape, shown
from ebm_control.images.attacks import Attack, Norm, attacked
from ebm_control.images.classify import Logits
from ebm_control.images.pixels import pixels

ATTACKS = ("none", "pgd", "apgd")


@dataclass(frozen=True)
class Robustness:
    """Accuracy against one attack.

    Attributes:
        attack: "none", "pgd" or "apgd".
        norm: norm of the ball.
        radius: radius of the ball.
        accuracy: share of images that are classified correctly under the attack.

    """

    attack: str
    norm: Norm
    radius: float
    accuracy: float


def robustness(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    radii: Sequence[float],
    *,
    norm: Norm = "linf",
    steps: int = 20,
    restarts: int = 2,
    generator: torch.Generator | None = None,
    size: int = 250,
) -> list[Robustness]:
    """Accuracy as a function of the radius, under projected gradient ascent and its adaptive form.

    "pgd" ascends the cross-entropy. "apgd" adapts its step sizes and ascends the cross-entropy and then the difference
    of logits ratio, as AutoAttack does (Croce & Hein 2020); an image counts as correct only if it withstands both.

    Args:
        logits: the classifier with its defence.
        images: `(N, C, H, W)` in [0, 1].
        labels: `(N,)` true classes.
        radii: ε, 0 for no attack.
        norm: "linf" or "l2".
        steps: steps of each attack ("apgd": twice as many).
        restarts: runs of each attack.
        generator: random source of the restarts.
        size: images per batch.

    """
    images = pixels("images", images)
    require(len(images) > 0, "images", given="none", expected="some")
    require_shape("labels", labels, (len(images),))
    require(is_sequence(radii), "radii", given=shown(radii), expected="numbers of at least 0")
    for radius in radii:
        require_number("radii", radius, 0)
    for name, value in (("steps", steps), ("restarts", restarts), ("size", size)):
        require_number(name, value, 1, whole=True)
    found = []
    for radius in radii:
        if radius == 0:
            right = torch.cat([_right(logits, x, y) for x, y in _parts(images, labels, size)])
            found.append(Robustness("none", norm, 0.0, float(right.double().mean())))
            continue
        for name in ATTACKS[1:]:
            adaptive = name == "apgd"
            attack = Attack(
                radius,
                2 * steps if adaptive else steps,
                norm,
                1.0 if adaptive else 2.5 / steps,
                adaptive,
            )
            right = torch.cat(
                [
                    withstood(logits, x, y, attack, restarts=restarts, generator=generator)
                    for x, y in _parts(images, labels, size)
                ]
            )
            found.append(Robustness(name, norm, radius, float(right.double().mean())))
    return found


def withstood(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    *,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mask `(N,)` of images that stay classified correctly under an attack; an adaptive one uses two losses."""
    right = _right(logits, images, labels)
    for loss in ("cross-entropy", "dlr") if attack.adaptive else ("cross-entropy",):
        left = right.nonzero().squeeze(1)
        if len(left) == 0:
            break
        spoilt = attacked(
            logits,
            images[left],
            labels[left],
            attack,
            restarts=restarts,
            loss=loss,
            generator=generator,
        )
        right[left] = _right(logits, spoilt, labels[left])
    return right


def transferred(
    source: Logits, target: Logits, images: Tensor, labels: Tensor, attack: Attack, size: int = 250
) -> float:
    """Accuracy of `target` on adversarial images for `source`: low if `target` only masks its gradients."""
    right = [_right(target, attacked(source, x, y, attack), y) for x, y in _parts(images, labels, size)]
    return float(torch.cat(right).double().mean())


@torch.no_grad()
def _right(logits: Logits, images: Tensor, labels: Tensor) -> Tensor:
    return logits(images).argmax(dim=1) == labels


def _parts(images: Tensor, labels: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(images.split(size), labels.split(size), strict=True))
