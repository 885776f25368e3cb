"""Penalties that keep a classifier's weights, or its outputs, near their earlier values."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from ebm_control.checks import require, require_number


class Penalty(ABC):
    """A term of the loss of every update, with hooks for every step and for the end of every task."""

    follows_steps = False  # whether `stepped` is to be called, which costs a copy of all weights

    @abstractmethod
    def added(self, loss: Tensor, network: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
        """The loss with the penalty, on images `x`; `classes` `(K,)` are the classes observed so far."""

    def stepped(self, network: nn.Module, before: Sequence[Tensor]) -> None:
        """Called after an optimizer step from weights `before`; gradients are still those of the step."""
        del network, before

    def finish_task(self, network: nn.Module, images: Tensor, labels: Tensor, classes: Tensor) -> None:
        """Called when a task ends: its images `(N, C, H, W)` in [0, 1], labels `(N,)`, observed classes `(K,)`."""
        del network, images, labels, classes


class Consolidation(Penalty):
    """Elastic weight consolidation: penalises changes of weights that earlier tasks need (Kirkpatrick et al. 2017).

    Args:
        weight: λ.
        decay: None for one quadratic term per task. Otherwise a single term, with the importances of earlier tasks
            multiplied by `decay` (online EWC, Schwarz et al. 2018).
        samples: images per task for the estimate of the Fisher information.

    Raises:
        InputError: a value is out of range.

    """

    def __init__(self, weight: float = 5000.0, *, decay: float | None = None, samples: int = 1000) -> None:
        require_number("weight", weight, 0)
        require_number("samples", samples, 1, whole=True)
        if decay is not None:
            require_number("decay", decay, 0, 1)
        self.weight, self.decay, self.samples = weight, decay, samples
        self.held: list[tuple[list[Tensor], list[Tensor]]] = []  # importances, and weights as they were

    def added(self, loss: Tensor, network: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
        """The loss plus `λ/2 Σ F (θ - θ*)²`."""
        for importances, means in self.held:
            for f, mean, now in zip(importances, means, network.parameters(), strict=True):
                loss = loss + 0.5 * self.weight * (f * (now - mean).square()).sum()
        return loss

    def finish_task(self, network: nn.Module, images: Tensor, labels: Tensor, classes: Tensor) -> None:
        """Estimate the diagonal of the Fisher information, and store it with the weights."""
        # Shuffled, as images of a task may be in order of their classes.
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: self.samples]
        fresh = fisher(network, images[chosen.sort().values], classes)
        means = [p.detach().clone() for p in network.parameters()]
        if self.decay is not None and self.held:
            old = self.held[0][0]
            fresh = [self.decay * a + b for a, b in zip(old, fresh, strict=True)]
            self.held = []
        self.held.append((fresh, means))


def fisher(network: nn.Module, images: Tensor, classes: Tensor, size: int = 25) -> list[Tensor]:
    """Diagonal of the Fisher information of a classifier's weights, a mean over images and predicted classes.

    Args:
        network: maps images to logits.
        images: `(N, C, H, W)`.
        classes: `(K,)` classes that may be predicted: those observed so far.
        size: images per batch.

    """
    weights = {name: p.detach() for name, p in network.named_parameters()}
    network.eval()  # batch statistics of single images would be meaningless

    def log_chance(given: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        chances = functional_call(network, given, (image[None],))[0, classes].log_softmax(dim=0)
        return chances.gather(0, label[None])[0]

    gradients = vmap(grad(log_chance), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(p) for name, p in weights.items()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in images.split(size):
            chances = network(part)[:, classes].softmax(dim=1)
            # A class drawn for each image stands for all of them.
            labels = torch.multinomial(chances, 1, generator=generator)[:, 0]
            for name, value in gradients(weights, part, labels).items():
                total[name] += value.square().sum(dim=0)
    return [total[name] / len(images) for name in weights]


class Intelligence(Penalty):
    """Synaptic intelligence: a weight's importance is its contribution to the loss decrease (Zenke et al. 2017).

    The loss includes the penalty, as in the code of van de Ven & Tolias 2019.

    Args:
        weight: c.
        damping: ξ, which bounds the importance of weights that hardly moved.

    Raises:
        InputError: a value is out of range.

    """

    follows_steps = True

    def __init__(self, weight: float = 0.1, damping: float = 0.1) -> None:
        require_number("weight", weight, 0)
        require_number("damping", damping, 0, above=True)
        self.weight, self.damping = weight, damping
        self.work: list[Tensor] | None = None
        self.importances: list[Tensor] | None = None
        self.means: list[Tensor] | None = None

    def added(self, loss: Tensor, network: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
        """The loss plus `c Σ Ω (θ - θ*)²`."""
        if self.means is None:
            self.means = [p.detach().clone() for p in network.parameters()]
        if self.importances is None:
            return loss
        for omega, mean, now in zip(self.importances, self.means, network.parameters(), strict=True):
            loss = loss + self.weight * (omega * (now - mean).square()).sum()
        return loss

    def stepped(self, network: nn.Module, before: Sequence[Tensor]) -> None:
        """Add each weight's contribution to the decrease of the loss in this step."""
        if self.work is None:
            self.work = [torch.zeros_like(p) for p in before]
        for work, old, now in zip(self.work, before, network.parameters(), strict=True):
            assert now.grad is not None
            work -= now.grad * (now.detach() - old)

    def finish_task(self, network: nn.Module, images: Tensor, labels: Tensor, classes: Tensor) -> None:
        """Add the importances of the task to those of earlier tasks, and store the weights."""
        if self.work is None or self.means is None:  # no step was taken
            return
        now = [p.detach().clone() for p in network.parameters()]
        fresh = [
            w / ((b - a).square() + self.damping) for w, a, b in zip(self.work, self.means, now, strict=True)
        ]
        old = self.importances or [torch.zeros_like(p) for p in now]
        self.importances = [a + b for a, b in zip(old, fresh, strict=True)]
        self.work, self.means = None, now


class Distillation(Penalty):
    """Learning without forgetting: outputs on new images are distilled from the previous network (Li & Hoiem 2017).

    Args:
        temperature: temperature of the compared softmax outputs.
        over_classes: "sum", the definition of distillation, or "mean". The code of van de Ven & Tolias 2019 used the
            mean over old and new classes when it was published in April of that year, and the sum from May on. The
            mean has less weight the more classes there are.

    Raises:
        InputError: a temperature that is not positive, or neither sum nor mean.

    """

    def __init__(self, temperature: float = 2.0, over_classes: Literal["sum", "mean"] = "sum") -> None:
        require_number("temperature", temperature, 0, above=True)
        ways = ("sum", "mean")
        require(over_classes in ways, "over_classes", given=over_classes, expected=f"one of {ways}")
        self.temperature, self.over_classes = temperature, over_classes
        self.before: nn.Module | None = None
        self.known: Tensor | None = None
        self.tasks = 0

    def added(self, loss: Tensor, network: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
        """Weighted mean of loss and distillation: weight `1/t` for the loss in task t, the rest for distillation."""
        if self.before is None or self.known is None:
            return loss
        with torch.no_grad():
            wanted = (self.before(x)[:, self.known] / self.temperature).softmax(dim=1)
        # The softmax is over all observed classes, so probability of the new ones counts too.
        logits = network(x)[:, classes] / self.temperature
        given = logits.log_softmax(dim=1)[:, torch.searchsorted(classes, self.known)]
        kept = functional.kl_div(given, wanted, reduction="batchmean") * self.temperature**2
        if self.over_classes == "mean":
            kept = kept / len(classes)
        share = 1 / (self.tasks + 1)
        return share * loss + (1 - share) * kept

    def finish_task(self, network: nn.Module, images: Tensor, labels: Tensor, classes: Tensor) -> None:
        """Store a copy of the network and the observed classes."""
        self.before = copy.deepcopy(network).eval().requires_grad_(False)
        self.known, self.tasks = classes, self.tasks + 1
