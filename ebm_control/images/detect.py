"""Out-of-distribution detection: outlier scores of images, and sets of outliers to evaluate them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ebm_control.checks import is_sequence, require, require_floats, require_number, require_shape, shown
from ebm_control.energies.base import Energy
from ebm_control.energies.image import ImageEnergy
from ebm_control.energies.noise import AtNoise
from ebm_control.extras import import_extra
from ebm_control.images.pixels import pixels
from ebm_control.samplers.chain import evaluation_mode
from ebm_control.samplers.kernel import norms

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

Score = Callable[[Tensor], Tensor]  # images `(N, C, H, W)` to scores `(N,)`, high for outliers
LEVELS = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0)
# Derangements of the quarters: which one comes upper left, upper right, lower left and lower right, in that order.
QUARTER_ORDERS = {
    "left and right swapped": (1, 0, 3, 2),
    "0 <- 1 <- 2 <- 3 <- 0": (1, 2, 3, 0),
    "turned clockwise": (2, 0, 3, 1),
    "top and bottom swapped": (2, 3, 0, 1),
    "diagonals swapped": (3, 2, 1, 0),
    "0 <- 3 <- 2 <- 1 <- 0": (3, 0, 1, 2),
}
DENOISED = 0.1  # noise level below which the denoised image is nearly the image itself


def energy_score(energy: ImageEnergy, level: float | None = None) -> Score:
    """The energy as a score (Du & Mordatch 2019), at a noise level if it has some (default: the lowest)."""
    plain = _at(energy, level)

    def score(images: Tensor) -> Tensor:
        return in_parts(plain, images)

    return score


def gradient_norm_score(energy: ImageEnergy, level: float | None = None) -> Score:
    """The norm of the energy's gradient as a score (Grathwohl et al. 2020)."""
    plain = _at(energy, level)

    def norm(images: Tensor) -> Tensor:
        with torch.enable_grad():
            x = images.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(plain(x).sum(), x)
        return gradient.flatten(1).norm(dim=1)

    def score(images: Tensor) -> Tensor:
        return in_parts(norm, images)

    return score


def _at(energy: ImageEnergy, level: float | None) -> Energy:
    """The energy at a noise level if it has some, by default the lowest."""
    if energy.noise is None:
        require(level is None, "level", given=level, expected="None: the energy has no noise levels")
        return energy
    return AtNoise(energy, energy.noise[0] if level is None else level)


@dataclass(frozen=True)
class EnergyProfile:
    """Outlier score from the joint density of energies and gradients, cell by cell, at several noise levels.

    A single energy is low for images that are simpler than the data: likely images need not be typical (Nalisnick et
    al. 2019). Energies and gradient norms at several levels differ from those of the data for simpler and for more
    complex images (compare Mahmood, Oliva & Styner 2021, who fit a density to score norms). Means over the cells of a
    coarse grid also show where an image is unusual: of the gradient, of its root mean square, and of the denoised
    image `x - σ² ∇E(x, σ)`. The score is the negative log density of a Gaussian mixture fitted to these features of
    the data; no outliers are needed.

    Args:
        energy: energy with noise levels.
        mixture: Gaussian mixture of the standardised features.
        mean: `(k,)` mean of the features over the data.
        std: `(k,)` standard deviation of the features over the data.
        levels: noise levels.
        grid: cells along each side.

    """

    energy: ImageEnergy
    mixture: GaussianMixture
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    levels: tuple[float, ...] = LEVELS
    grid: int = 4

    @classmethod
    def fit(
        cls,
        energy: ImageEnergy,
        images: Tensor,
        levels: tuple[float, ...] = LEVELS,
        *,
        grid: int = 4,
        components: int | None = None,
        ridge: float = 0.01,
        seed: int = 0,
    ) -> EnergyProfile:
        """Compute features of data `(N, C, H, W)`, such as training images, and fit their density.

        Args:
            energy: energy with noise levels.
            images: data.
            levels: noise levels.
            grid: cells along each side; 0 for energies and gradient norms only.
            components: mixture components; None for 10, or fewer so that there are 500 images per component.
            ridge: added to the variance of every standardised feature, because many are strongly correlated.
            seed: seed of the mixture's initialisation.

        Raises:
            InputError: the energy has no noise levels, or there are too few images.

        """
        require(energy.noise is not None, "energy", given="no noise levels", expected="one of noised images")
        images = pixels("images", images, energy.shape)
        if components is None:
            components = min(10, max(1, len(images) // 500))
        require_number("components", components, 1, whole=True)
        require_number("grid", grid, 0, whole=True)
        require_number("ridge", ridge, 0)
        require_number("seed", seed, 0, 2**32 - 1, whole=True)  # the range of NumPy's legacy generator
        require(is_sequence(levels), "levels", given=shown(levels), expected="positive numbers")
        for level in levels:
            require_number("levels", level, 0, above=True)
        least = 10 * len(levels) * components
        require(len(images) > least, "images", given=len(images), expected=f"over {least}")
        features = cls._features(energy, images, levels, grid)
        mean, std = features.mean(axis=0), features.std(axis=0) + 1e-9
        density = import_extra("sklearn.mixture", "images", "EnergyProfile")
        mixture = density.GaussianMixture(components, reg_covar=ridge, random_state=seed)
        mixture.fit((features - mean) / std)
        return cls(energy, mixture, mean, std, levels, grid)

    def __call__(self, images: Tensor) -> Tensor:
        """Scores `(N,)`, high for outliers; infinite where the energy is not finite."""
        features = self._features(self.energy, images, self.levels, self.grid)
        scaled = (features - self.mean) / self.std
        sound = np.isfinite(scaled).all(axis=1)
        scores = np.full(len(scaled), np.inf)
        if sound.any():
            scores[sound] = -self.mixture.score_samples(scaled[sound])
        return torch.from_numpy(scores).to(images.device)

    @staticmethod
    def _features(
        energy: ImageEnergy, images: Tensor, levels: tuple[float, ...], grid: int
    ) -> NDArray[np.float64]:
        """Columns of `_level_features` for each level in turn, `(N, columns)`, in double precision."""

        def of(part: Tensor) -> Tensor:
            columns = [_level_features(energy, part, level, grid) for level in levels]
            return torch.cat(columns, dim=1).double()

        with evaluation_mode(energy):
            return in_parts(of, images).cpu().numpy()


def _level_features(energy: ImageEnergy, images: Tensor, level: float, grid: int) -> Tensor:
    """Features of images `(N, C, H, W)` at one noise level.

    Returns:
        `(N, columns)`, columns in this order: the energy (1), the norm of its gradient (1), and with a grid, per cell:
        the mean gradient, the root of its mean square, and, at levels of `DENOISED` and above, the mean denoised
        image (`C * grid²` each).

    """
    with torch.enable_grad():
        x = images.detach().requires_grad_()
        value = AtNoise(energy, level)(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    scaled = level * gradient
    # Energies grow without bound far from the data; the logarithm keeps features in a usable range.
    columns = [value.detach().asinh()[:, None], norms(scaled).clamp(min=1e-12).log()[:, None]]
    if grid:
        columns += [_cells(scaled, grid), _cells(scaled.square(), grid).sqrt()]
        if level >= DENOISED:
            columns.append(_cells(images - level * scaled, grid))
    return torch.cat(columns, dim=1)


def _cells(images: Tensor, grid: int) -> Tensor:
    """Means over the cells of a grid, `(N, C * grid²)`."""
    return functional.adaptive_avg_pool2d(images, grid).flatten(1)


def auroc(inliers: Tensor, outliers: Tensor) -> float:
    """Area under the ROC curve: probability that an inlier's score `(N,)` is below an outlier's `(M,)`."""
    require_shape("inliers", inliers, (None,))
    require_shape("outliers", outliers, (None,))
    require(len(inliers) > 0 and len(outliers) > 0, "outliers", given="none", expected="some of both")
    scores = torch.cat([inliers, outliers]).nan_to_num(nan=torch.inf).double()
    finite = scores.clamp(-1e300, 1e300)
    labels = torch.cat([torch.zeros(len(inliers)), torch.ones(len(outliers))])
    metrics = import_extra("sklearn.metrics", "images", "auroc")
    return float(metrics.roc_auc_score(labels.numpy(), finite.cpu().numpy()))


def outlier_sets(
    images: Tensor, generator: torch.Generator, other: Tensor | None = None
) -> Mapping[str, Tensor]:
    """Sets of outliers for inliers `(N, C, H, W)` in [0, 1], at most N images each.

    "uniform": uniform noise; "constant": each image one random grey; "interpolated": means of two images;
    "rotated": by 90 degrees; "shuffled": quarters in another order; "other": another set, if given.
    """
    images = pixels("images", images)
    count = len(images)
    require(count > 1, "images", given=count, expected="at least 2")
    place = generator.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=place).to(images)

    shift = 1 + int(torch.randint(count - 1, (), generator=generator, device=place))
    found = {
        "uniform": uniform(*images.shape),
        "constant": uniform(count, 1, 1, 1).expand_as(images).clone(),
        "interpolated": (images + images.roll(shift, dims=0)) / 2,
        "rotated": images.rot90(1, (2, 3)),
        "shuffled": _shuffled(images, generator),
    }
    return found if other is None else {"other": other} | found


def _shuffled(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images with their quarters deranged: no quarter stays in its place."""
    rows, columns = images.shape[2] // 2, images.shape[3] // 2
    whole = images[:, :, : 2 * rows, : 2 * columns]
    parts = [whole[:, :, r : r + rows, c : c + columns] for r in (0, rows) for c in (0, columns)]
    orders = torch.tensor(list(QUARTER_ORDERS.values()))
    index = torch.randint(len(orders), (len(images),), generator=generator, device=generator.device)
    chosen = orders[index.cpu()].to(images.device)
    stacked = torch.stack(parts, dim=1)
    moved = stacked[torch.arange(len(images), device=images.device)[:, None], chosen]
    upper, lower = torch.cat([moved[:, 0], moved[:, 1]], dim=3), torch.cat([moved[:, 2], moved[:, 3]], dim=3)
    out = images.clone()
    out[:, :, : 2 * rows, : 2 * columns] = torch.cat([upper, lower], dim=2)
    return out


@torch.no_grad()
def in_parts(of: Callable[[Tensor], Tensor], images: Tensor, size: int = 512) -> Tensor:
    """`of` applied to images `(N, C, H, W)` in batches of `size`, to limit memory."""
    require_floats("images", images)
    return torch.cat([of(part) for part in images.split(size)])
