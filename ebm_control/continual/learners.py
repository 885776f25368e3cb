"""Learners of a stream, one update a batch: softmax classifiers and the discriminative energy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from ebm_control.checks import require, require_number, require_seed
from ebm_control.continual.memory import Memory
from ebm_control.continual.networks import GatedEnergy
from ebm_control.continual.penalties import Penalty
from ebm_control.data.streams import StreamBatch
from ebm_control.images.classify import parameters_of
from ebm_control.training.averaging import warm_ema


class Learner(ABC):
    """Learns from a stream and predicts among all classes, without a task label (class-incremental); on the CPU."""

    @abstractmethod
    def observe(self, batch: StreamBatch) -> float:
        """One update on a batch; returns its loss before the update."""

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """`(B, classes)` of images `(B, C, H, W)`: the greatest is that of the predicted class."""

    def finish_task(self, images: Tensor, labels: Tensor) -> None:
        """A task has ended whose training images `(N, C, H, W)` and labels `(N,)` can be seen a last time."""
        del images, labels

    @property
    def parameters(self) -> int:
        """Numbers that are learned; 0 where a learner does not say."""
        return 0

    @property
    def needs_boundaries(self) -> bool:
        """It does nothing against forgetting where no one says when a task ends."""
        return False

    @torch.no_grad()
    def predict(self, x: Tensor, size: int = 1000) -> Tensor:
        """Classes `(N,)` of images `(N, C, H, W)`; -1 where no class was seen yet."""
        best = [self.logits(part).max(dim=1) for part in x.split(size)]
        return torch.cat([classes.where(values.isfinite(), -1) for values, classes in best])


class _Replaying(Learner):
    """A learner whose loss is taken on the batch, and on as many images of a memory.

    A small memory is soon known by heart. Against it, pixels may be hidden at random (dropout: Srivastava et al. 2014),
    and averaged weights may tell classes (Polyak & Juditsky 1992); penalties hold the last ones.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        memory: Memory | None,
        dropout: float,
        averaging: float,
        seed: int,
    ) -> None:
        require_number("learning_rate", learning_rate, 0, above=True)
        require_number("dropout", dropout, 0, 1, below=True)
        require_number("averaging", averaging, 0, 1, below=True)
        require_seed("seed", seed)
        self.network, self.memory, self.dropout = network, memory, dropout
        self.average = AveragedModel(network, multi_avg_fn=warm_ema(averaging)) if averaging else None
        self._hiding = torch.Generator().manual_seed(int(seed))
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=learning_rate, betas=(0.9, 0.999), fused=True
        )
        self.tasks_done = 0

    @property
    def parameters(self) -> int:
        """Number of weights of the network."""
        return parameters_of(self.network)

    def observe(self, batch: StreamBatch) -> float:
        """One update of Adam, on the batch and on as many images of the memory."""
        self.network.train()
        shown, labels = self.shown(batch.x), batch.labels
        if self.memory is not None and len(self.memory):
            old_x, old_labels = self.memory.draw(len(shown))
            share = self.share_of_new(batch)
            known = self.seen(torch.cat([labels, self.memory.classes]))
            new = self.loss(shown, labels, known)
            loss = share * new + (1 - share) * self.loss(self.shown(old_x), old_labels, known)
        else:
            loss = self.loss(shown, labels, self.seen(labels))
        self.optimizer.zero_grad(set_to_none=True)
        self.learn(loss, shown)
        if self.average is not None:
            self.average.update_parameters(self.network)
        if self.memory is not None and batch.task is None:
            self.memory.add(batch.x, labels)
        return float(loss.detach())

    def shown(self, x: Tensor) -> Tensor:
        """Images with some pixels hidden, the others brighter by as much (dropout)."""
        if not self.dropout:
            return x
        left = torch.rand((len(x), 1, *x.shape[2:]), generator=self._hiding) >= self.dropout
        return x * left / (1 - self.dropout)

    @property
    def telling(self) -> nn.Module:
        """The network that tells classes: with averaged weights where there are such."""
        return (self.network if self.average is None else self.average.module).eval()

    @property
    def needs_boundaries(self) -> bool:
        """Whether its memory is filled only at the end of a task."""
        return self.memory is not None and self.memory.needs_boundaries

    def share_of_new(self, batch: StreamBatch) -> float:
        """Weight of the batch, the rest being the memory's: as of one task among those seen, or half."""
        return 0.5 if batch.task is None else 1 / (self.tasks_done + 1)

    @abstractmethod
    def loss(self, x: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        """Loss of images `(B, C, H, W)` and labels `(B,)` where only `classes` `(K,)` may be predicted."""

    def learn(self, loss: Tensor, x: Tensor) -> None:
        """One step of the optimizer down `loss`, of images `x` `(B, C, H, W)`."""
        loss.backward()
        self.optimizer.step()

    def seen(self, labels: Tensor) -> Tensor:
        """Labels of a batch, each once."""
        return labels.unique()

    def finish_task(self, images: Tensor, labels: Tensor) -> None:
        """Where boundaries are known, a memory is filled when a task ends."""
        self.tasks_done += 1
        if self.memory is not None:
            self.memory.add(images, labels)


class Softmax(_Replaying):
    """A classifier by cross-entropy, with whatever keeps it from forgetting.

    Args:
        network: logits of images.
        classes: there are.
        learning_rate: of Adam.
        among: classes that cross-entropy is over: "all" there will ever be, those "seen" so far, or those of the
            "batch" (with its memory) alone.
        penalties: see `Penalty`.
        memory: what is replayed; None for nothing.
        dropout: share of pixels that are hidden in training.
        averaging: decay of the averaged weights that tell classes; 0 for the last ones.
        seed: of hidden pixels.

    Raises:
        InputError: a figure is out of its range, or `among` is none of its words.

    """

    def __init__(
        self,
        network: nn.Module,
        classes: int,
        *,
        learning_rate: float = 1e-3,
        among: str = "all",
        penalties: Sequence[Penalty] = (),
        memory: Memory | None = None,
        dropout: float = 0.0,
        averaging: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(network, learning_rate, memory, dropout, averaging, seed)
        require_number("classes", classes, 1, whole=True)
        ways = ("all", "seen", "batch")
        require(among in ways, "among", given=among, expected=f"one of {ways}")
        self.classes, self.among, self.penalties = classes, among, tuple(penalties)
        self._seen = torch.zeros(classes, dtype=torch.bool)

    @property
    def needs_boundaries(self) -> bool:
        """Whether it has penalties, which are taken at the end of a task, or such a memory."""
        return bool(self.penalties) or super().needs_boundaries

    def seen(self, labels: Tensor) -> Tensor:
        """Classes `(K,)` that cross-entropy is over, the batch's `labels` `(B,)` counted among those seen."""
        self._seen[labels] = True
        if self.among == "all":
            return torch.arange(self.classes)
        return self._seen.nonzero()[:, 0] if self.among == "seen" else labels.unique()

    def loss(self, x: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        """Cross-entropy of images `(B, C, H, W)` and labels `(B,)` over `classes` `(K,)` alone."""
        return functional.cross_entropy(_among(self.network(x), classes), labels)

    def learn(self, loss: Tensor, x: Tensor) -> None:
        """A step down the loss with its penalties."""
        for penalty in self.penalties:
            loss = penalty.added(loss, self.network, x, self._seen.nonzero()[:, 0])
        loss.backward()
        followed = [penalty for penalty in self.penalties if penalty.follows_steps]
        before = [p.detach().clone() for p in self.network.parameters()] if followed else []
        self.optimizer.step()
        for penalty in followed:
            penalty.stepped(self.network, before)

    def logits(self, x: Tensor) -> Tensor:
        """Logits `(B, classes)` of images `(B, C, H, W)`, minus infinity for classes not seen yet."""
        return _among(self.telling(x), self._seen.nonzero()[:, 0])

    def finish_task(self, images: Tensor, labels: Tensor) -> None:
        """A task has ended: every penalty takes note of the weights, with its training images and labels."""
        super().finish_task(images, labels)
        for penalty in self.penalties:
            penalty.finish_task(self.network, images, labels, self._seen.nonzero()[:, 0])


class Contrastive(_Replaying):
    """The discriminative energy: a class is contrasted with one other, drawn from those of the batch (Li et al. 2022).

    `-log exp(-E(x, y)) / (exp(-E(x, y)) + exp(-E(x, y')))`: the loss says nothing of classes that are not there.

    Args:
        energy: of images with classes.
        learning_rate: of Adam.
        memory: what is replayed; None for nothing. Other classes are then drawn from the memory's too.
        dropout: share of pixels that are hidden in training.
        averaging: decay of the averaged weights that tell classes; 0 for the last ones.
        seed: of the other classes, and of hidden pixels.

    Raises:
        InputError: a figure is out of its range.

    """

    def __init__(
        self,
        energy: GatedEnergy,
        *,
        learning_rate: float = 1e-4,
        memory: Memory | None = None,
        dropout: float = 0.0,
        averaging: float = 0.0,
        seed: int = 0,
    ) -> None:
        require_seed("seed", seed)
        super().__init__(energy, learning_rate, memory, dropout, averaging, seed + 1)
        self.energy = energy
        self._generator = torch.Generator().manual_seed(int(seed))
        self._seen = torch.zeros(energy.classes, dtype=torch.bool)

    def seen(self, labels: Tensor) -> Tensor:
        """Classes `(K,)` among the batch's `labels` `(B,)`, which count as seen from now on."""
        self._seen[labels] = True
        return labels.unique()

    def loss(self, x: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        """Cross-entropy between the class and another; 0 where there is but one."""
        if len(classes) < 2:
            return 0.0 * self.energy.of_classes(x, labels[:, None]).sum()
        place = torch.searchsorted(classes, labels)
        further = torch.randint(1, len(classes), (len(x),), generator=self._generator)
        other = classes[(place + further) % len(classes)]
        energies = self.energy.of_classes(x, torch.stack([labels, other], dim=1))
        return functional.softplus(energies[:, 0] - energies[:, 1]).mean()

    def logits(self, x: Tensor) -> Tensor:
        """Energies' negatives, of classes that were seen."""
        energy = self.telling
        assert isinstance(energy, GatedEnergy)
        return energy.logits(x, self._seen)


def _among(logits: Tensor, classes: Tensor) -> Tensor:
    """Logits of other classes made impossible."""
    hidden = torch.ones(logits.shape[1], dtype=torch.bool)
    hidden[classes] = False
    return logits.masked_fill(hidden, float("-inf"))
