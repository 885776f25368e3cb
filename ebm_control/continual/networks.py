"""Networks of learners: a perceptron with one output per class, and an energy with class-dependent gates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ebm_control.checks import require, require_number, require_shape, require_widths
from ebm_control.energies import Energy
from ebm_control.tensors import ordinary_tensors

Shape = tuple[int, int, int]


def _check(shape: Shape, classes: int, width: int) -> None:
    require_widths("shape", shape, least=3)
    require_number("classes", classes, 1, whole=True)
    require_number("width", width, 1, whole=True)


class Perceptron(nn.Module):
    """Fully connected layers with ReLU, the standard network of comparisons (van de Ven & Tolias 2019).

    Args:
        shape: shape (C, H, W) of one image.
        classes: number of outputs.
        width: units of each of the two hidden layers.

    """

    @ordinary_tensors()
    def __init__(self, shape: Shape, classes: int, width: int = 400) -> None:
        super().__init__()
        _check(shape, classes, width)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(shape), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(B, classes)` of images `(B, C, H, W)`."""
        return self.layers(x)


class GatedEnergy(Energy):
    """Energy `E(x, y)` of an image and a class, with gates that depend on the class (Li et al. 2022).

    Hidden units are multiplied by `1 + g(y)`, with `g(y)` of norm 1. A class mostly trains the units that its gates
    amplify, so later classes overwrite less than in a softmax classifier.

    Args:
        shape: shape (C, H, W) of one image.
        classes: number of classes.
        width: units of the hidden layers.
        layers: number of hidden layers, one or two.

    """

    @ordinary_tensors()
    def __init__(self, shape: Shape, classes: int, width: int = 400, layers: int = 1) -> None:
        super().__init__()
        _check(shape, classes, width)
        require_number("layers", layers, 1, 2, whole=True)
        self.shape, self.classes = shape, classes
        self.gates = nn.Embedding(classes, width)
        self.first = nn.Linear(math.prod(shape), width)
        self.second = nn.Linear(width, width) if layers == 2 else None
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energies `(B,)` of images `(B, C, H, W)` and classes, one-hot in `context` `(B, classes)`."""
        require(context is not None, "context", given=None, expected=f"classes, ({len(x)}, {self.classes})")
        assert context is not None
        require_shape("context", context, (len(x), self.classes))
        return self.of_classes(x, context.argmax(dim=1)[:, None])[:, 0]

    def of_classes(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Energies `(B, K)` of each image with several classes.

        Args:
            x: `(B, C, H, W)`.
            labels: `(B, K)`; None for all classes.

        """
        if labels is None:
            labels = torch.arange(self.classes, device=x.device).expand(len(x), -1)
        gate = 1 + functional.normalize(self.gates(labels), dim=-1)
        h = functional.relu(self.first(x.flatten(1))[:, None] * gate)
        if self.second is not None:
            h = functional.relu(self.second(h) * gate)
        return self.last(h).squeeze(-1)

    def logits(self, x: Tensor, among: Tensor) -> Tensor:
        """Negative energies `(B, classes)`; minus infinity for classes outside of the mask `among` `(classes,)`."""
        wanted = among.nonzero()[:, 0]
        found = x.new_full((len(x), self.classes), float("-inf"))
        if len(wanted):
            found[:, wanted] = -self.of_classes(x, wanted.expand(len(x), -1))
        return found
