"""The simplest generative classifier: one Gaussian per class with a shared covariance, from running sums."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm_control.checks import require_number, require_widths
from ebm_control.continual.learners import Learner
from ebm_control.data.streams import StreamBatch

Shape = tuple[int, int, int]


class Discriminant(Learner):
    """Streaming linear discriminant analysis on pixels (Hayes & Kanan 2020); exact for any order of the images.

    Args:
        shape: shape (C, H, W) of one image.
        classes: number of classes.
        shrinkage: share of the identity in the covariance.

    """

    def __init__(self, shape: Shape, classes: int, shrinkage: float = 1e-2) -> None:
        require_widths("shape", shape, least=3)
        require_number("shrinkage", shrinkage, 0, 1, above=True)
        require_number("classes", classes, 1, whole=True)
        size = math.prod(shape)
        self.shrinkage = shrinkage
        self._sums = torch.zeros(classes, size, dtype=torch.double)
        self._counts = torch.zeros(classes, dtype=torch.double)
        self._products = torch.zeros(size, size, dtype=torch.double)

    @property
    def parameters(self) -> int:
        """Number of learned parameters: the classes' means and their shared covariance."""
        return self._sums.numel() + self._products.numel()

    def observe(self, batch: StreamBatch) -> float:
        """Add images and their products to the running sums; returns 0, as there is no loss."""
        x = batch.x.flatten(1).double()
        self._sums.index_add_(0, batch.labels, x)
        self._counts += torch.bincount(batch.labels, minlength=len(self._counts))
        self._products.addmm_(x.T, x)
        return 0.0

    def logits(self, x: Tensor) -> Tensor:
        """Log densities `(B, classes)` up to a constant shared by all classes; minus infinity for unobserved ones."""
        seen = self._counts > 0
        means = self._sums[seen] / self._counts[seen, None]
        within = self._products - (means.T * self._counts[seen]) @ means
        covariance = (1 - self.shrinkage) * within / self._counts.sum()
        covariance.diagonal().add_(self.shrinkage)
        weights = torch.linalg.solve(covariance, means.T)  # (D, K)
        found = x.new_full((len(x), len(seen)), float("-inf"))
        found[:, seen] = (x.flatten(1).double() @ weights - 0.5 * (means.T * weights).sum(dim=0)).to(found)
        return found
