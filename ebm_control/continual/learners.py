"""Learners of a stream, one update per batch: softmax classifiers and the discriminative energy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

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
        """Logits `(B, classes)` of images `(B, C, H, W)`; the predicted class has the greatest."""

    def finish_task(self, images: Tensor, labels: Tensor) -> None:
        """Called when a task ends, with its training images `(N, C, H, W)` and labels `(N,)`; does nothing here."""
        del images, labels

    @property
    def parameters(self) -> int:
        """Number of learned parameters; 0 if the learner does not define it."""
        return 0

    @property
    def needs_boundaries(self) -> bool:
        """Whether its protection against forgetting relies on task boundaries; False here."""
        return False

    @torch.no_grad()
    def predict(self, x: Tensor, size: int = 1000) -> Tensor:
        """Predicted classes `(N,)` of images `(N, C, H, W)`; -1 if no class was observed yet."""
        best = [self.logits(part).max(dim=1) for part in x.split(size)]
        return torch.cat([classes.where(values.isfinite(), -1) for values, classes in best])


class _Replaying(Learner):
    """A learner whose loss covers the batch and as many images of a replay memory.

    A small memory is soon overfitted. Two regularisers help: input dropout (Srivastava et al. 2014), and prediction
    with averaged weights (Polyak & Juditsky 1992). Penalties act on the current weights, not on the average.
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
        """One update of Adam on the batch and as many images of the memory; returns its loss."""
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
        """Images after input dropout: some pixels set to 0, the others scaled up to keep the mean."""
        if not self.dropout:
            return x
        left = torch.rand((len(x), 1, *x.shape[2:]), generator=self._hiding) >= self.dropout
        return x * left / (1 - self.dropout)

    @property
    def telling(self) -> nn.Module:
        """The network used for prediction: the one with averaged weights, if there is one."""
        return (self.network if self.average is None else self.average.module).eval()

    @property
    def needs_boundaries(self) -> bool:
        """Whether its memory is filled only at the end of a task."""
        return self.memory is not None and self.memory.needs_boundaries

    def share_of_new(self, batch: StreamBatch) -> float:
        """Weight of the batch's loss against the memory's: one over the tasks so far, or 0.5 without boundaries."""
        return 0.5 if batch.task is None else 1 / (self.tasks_done + 1)

    @abstractmethod
    def loss(self, x: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        """Loss of images `(B, C, H, W)` and labels `(B,)` where only `classes` `(K,)` may be predicted."""

    def learn(self, loss: Tensor, x: Tensor) -> None:
        """One step of the optimizer down `loss`, of images `x` `(B, C, H, W)`."""
        loss.backward()
        self.optimizer.step()

    def seen(self, labels: Tensor) -> Tensor:
        """The distinct labels of a batch, `(K,)`."""
        return labels.unique()

    def finish_task(self, images: Tensor, labels: Tensor) -> None:
        """A task has ended: its images are added to the memory, if there is one."""
        self.tasks_done += 1
        if self.memory is not None:
            self.memory.add(images, labels)


Among = Literal["all", "seen", "batch"]


class Softmax(_Replaying):
    """A classifier trained by cross-entropy, with optional penalties and replay against forgetting.

    Args:
        network: maps images to logits.
        classes: number of classes.
        learning_rate: learning rate of Adam.
        among: classes that the cross-entropy is over: "all" of the stream, those "seen" so far, or only those of the
            "batch" (and its replayed images).
        penalties: see `Penalty`.
        memory: replay memory; None for no replay.
        dropout: share of pixels that are set to 0 in training.
        averaging: decay of the averaged weights used for prediction; 0 for the current weights.
        seed: seed of the input dropout.

    Raises:
        InputError: a value is out of range, or `among` is not one of the three names.

    """

    def __init__(
        self,
        network: nn.Module,
        classes: int,
        *,
        learning_rate: float = 1e-3,
        among: Among = "all",
        penalties: Sequence[Penalty] = (),
        memory: Memory | None = None,
        dropout: float = 0.0,
        averaging: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(network, learning_rate, memory, dropout, averaging, seed)
        require_number("classes", classes, 1, whole=True)
        require(among in get_args(Among), "among", given=among, expected=f"one of {get_args(Among)}")
        self.classes, self.among, self.penalties = classes, among, tuple(penalties)
        self._seen = torch.zeros(classes, dtype=torch.bool)

    @property
    def needs_boundaries(self) -> bool:
        """Whether it has penalties, which are updated at the end of a task, or a memory that needs boundaries."""
        return bool(self.penalties) or super().needs_boundaries

    def seen(self, labels: Tensor) -> Tensor:
        """Classes `(K,)` that the cross-entropy is over; records the batch's `labels` `(B,)` as observed."""
        self._seen[labels] = True
        if self.among == "all":
            return torch.arange(self.classes)
        return self._seen.nonzero()[:, 0] if self.among == "seen" else labels.unique()

    def loss(self, x: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        """Cross-entropy of images `(B, C, H, W)` and labels `(B,)` over `classes` `(K,)` only."""
        return functional.cross_entropy(_among(self.network(x), classes), labels)

    def learn(self, loss: Tensor, x: Tensor) -> None:
        """One step of the optimizer on the loss plus penalties."""
        for penalty in self.penalties:
            loss = penalty.added(loss, self.network, x, self._seen.nonzero()[:, 0])
        loss.backward()
        followed = [penalty for penalty in self.penalties if penalty.follows_steps]
        before = [p.detach().clone() for p in self.network.parameters()] if followed else []
        self.optimizer.step()
        for penalty in followed:
            penalty.stepped(self.network, before)

    def logits(self, x: Tensor) -> Tensor:
        """Logits `(B, classes)` of images `(B, C, H, W)`; minus infinity for classes not observed yet."""
        return _among(self.telling(x), self._seen.nonzero()[:, 0])

    def finish_task(self, images: Tensor, labels: Tensor) -> None:
        """A task has ended: fill the memory, and update every penalty with the task's images and labels."""
        super().finish_task(images, labels)
        for penalty in self.penalties:
            penalty.finish_task(self.network, images, labels, self._seen.nonzero()[:, 0])


class Contrastive(_Replaying):
    """The discriminative energy: each class is contrasted with one other class of the batch (Li et al. 2022).

    `-log exp(-E(x, y)) / (exp(-E(x, y)) + exp(-E(x, y')))`: the loss does not change energies of absent classes.

    Args:
        energy: energy of image and class.
        learning_rate: learning rate of Adam.
        memory: replay memory; None for no replay. With a memory, the other class may also be one of its classes.
        dropout: share of pixels that are set to 0 in training.
        averaging: decay of the averaged weights used for prediction; 0 for the current weights.
        seed: seed of the other classes and of the input dropout.

    Raises:
        InputError: a value is out of range.

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
        """The distinct `labels` `(B,)` of the batch, `(K,)`; records them as observed."""
        self._seen[labels] = True
        return labels.unique()

    def loss(self, x: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        """Cross-entropy between the true class and one other; 0 if there is only one class."""
        if len(classes) < 2:
            return 0.0 * self.energy.of_classes(x, labels[:, None]).sum()
        place = torch.searchsorted(classes, labels)
        further = torch.randint(1, len(classes), (len(x),), generator=self._generator)
        other = classes[(place + further) % len(classes)]
        energies = self.energy.of_classes(x, torch.stack([labels, other], dim=1))
        return functional.softplus(energies[:, 0] - energies[:, 1]).mean()

    def logits(self, x: Tensor) -> Tensor:
        """Negative energies `(B, classes)`; minus infinity for classes not observed yet."""
        energy = self.telling
        assert isinstance(energy, GatedEnergy)
        return energy.logits(x, self._seen)


def _among(logits: Tensor, classes: Tensor) -> Tensor:
    """Logits with all classes but `classes` `(K,)` set to minus infinity."""
    hidden = torch.ones(logits.shape[1], dtype=torch.bool)
    hidden[classes] = False
    return logits.masked_fill(hidden, float("-inf"))
