"""Networks of learners: a perceptron with an output a class, and an energy that its class gates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ebm_control.checks import require, require_shape
from ebm_control.energies import Energy
from ebm_control.tensors import ordinary_tensors

Shape = tuple[int, int, int]


class Perceptron(nn.Module):
    """Fully connected layers with ReLU, as continual learning is compared on (van de Ven & Tolias 2019).

    Args:
        shape: of one image.
        classes: outputs.
        width: of both hidden layers.

    """

    @ordinary_tensors()
    def __init__(self, shape: Shape, classes: int, width: int = 400) -> None:
        super().__init__()
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
    """Energy of an image with a class, whose gates the class sets (Li et al. 2022): `E(x, y)`.

    Hidden units are multiplied by `1 + g(y)`, `g(y)` of length 1. What one class learns is mostly about the units that
    it opens: classes that come later overwrite less of it than they would of a softmax classifier.

    Args:
        shape: of one image.
        classes: there are.
        width: of hidden layers.
        layers: one or two.

    """

    @ordinary_tensors()
    def __init__(self, shape: Shape, classes: int, width: int = 400, layers: int = 1) -> None:
        super().__init__()
        require(layers in (1, 2), "layers", given=layers, expected="1 or 2")
        self.shape, self.classes = shape, classes
        self.gates = nn.Embedding(classes, width)
        self.first = nn.Linear(math.prod(shape), width)
        self.second = nn.Linear(width, width) if layers == 2 else None
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energies `(B,)` of images `(B, C, H, W)` with the classes `(B, classes)` that are 1 in their context."""
        require(context is not None, "context", given=None, expected=f"classes, ({len(x)}, {self.classes})")
        assert context is not None
        require_shape("context", context, (len(x), self.classes))
        return self.of_classes(x, context.argmax(dim=1)[:, None])[:, 0]

    def of_classes(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Energies with several classes each, `(B, K)`.

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
        """Minus the energies with each class, `(B, classes)`; minus infinity but for those of `among` `(classes,)`."""
        wanted = among.nonzero()[:, 0]
        found = x.new_full((len(x), self.classes), float("-inf"))
        if len(wanted):
            found[:, wanted] = -self.of_classes(x, wanted.expand(len(x), -1))
        return found
