"""Sample quality of images, in the features of a classifier trained on the same set."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.checks import require, require_mask, require_number, require_shape
from ebm_control.images.classify import Classifier
from ebm_control.images.detect import in_parts
from ebm_control.images.pixels import pixels
from ebm_control.prediction.metrics import frechet_distance


def features(classifier: Classifier, images: Tensor) -> Tensor:
    """Features of the last layer for images `(N, C, H, W)`, averaged over the cells of a 2×2 grid: `(N, k)`."""

    def of(part: Tensor) -> Tensor:
        last = classifier.features(part)[-1]
        return torch.nn.functional.adaptive_avg_pool2d(last, 2).flatten(1)

    return in_parts(of, images)


def feature_frechet(classifier: Classifier, samples: Tensor, data: Tensor) -> float:
    """Squared Fréchet distance between Gaussians fitted to features of samples and of data (Heusel et al. 2017).

    The features are those of the given classifier, so values are comparable only for the same set and classifier.
    """
    return frechet_distance(features(classifier, samples), features(classifier, data))


def precision_recall(
    classifier: Classifier, samples: Tensor, data: Tensor, neighbours: int = 3
) -> tuple[float, float]:
    """Share of samples near data, and of data near samples (Kynkäänniemi et al. 2019).

    "Near" means within the distance, in features, of some point to its `neighbours`-th nearest neighbour.

    Raises:
        InputError: no more images than `neighbours`.

    """
    samples, data = pixels("samples", samples), pixels("data", data)
    least = min(len(samples), len(data))
    require_number("neighbours", neighbours, 1, whole=True)
    require(least > neighbours, "samples", given=least, expected=f"more than {neighbours}")
    a, b = features(classifier, samples), features(classifier, data)
    return _covered(a, b, neighbours), _covered(b, a, neighbours)


def _covered(points: Tensor, by: Tensor, neighbours: int) -> float:
    radius = torch.cdist(by, by).kthvalue(neighbours + 1, dim=1).values  # the first is itself
    return float((torch.cdist(points, by) <= radius).any(dim=1).double().mean())


def feature_distance(classifier: Classifier, a: Tensor, b: Tensor) -> Tensor:
    """Distance of image pairs `(N, C, H, W)` over all layers, as in LPIPS (Zhang et al. 2018) without its weights.

    Features at each position are scaled to norm 1; squared differences are summed over channels, averaged over
    positions and summed over layers: `(N,)`.
    """
    a, b = pixels("a", a), pixels("b", b)
    require_shape("b", b, tuple(a.shape))

    def of(both: Tensor) -> Tensor:
        total = both.new_zeros(len(both))
        for left, right in zip(classifier.features(both[:, 0]), classifier.features(both[:, 1]), strict=True):
            apart = _unit(left) - _unit(right)
            total = total + apart.square().sum(dim=1).mean(dim=(1, 2))
        return total

    return in_parts(of, torch.stack([a, b], dim=1))


def _unit(features: Tensor) -> Tensor:
    return features / features.norm(dim=1, keepdim=True).clamp(min=1e-10)


def nearest(images: Tensor, among: Tensor, mask: Tensor | None = None, size: int = 256) -> Tensor:
    """Index `(N,)` of the nearest image in `among` `(M, C, H, W)`, by squared distance over the pixels of a mask.

    Args:
        images: `(N, C, H, W)`.
        among: `(M, C, H, W)`.
        mask: boolean, broadcast to `images`; None for all pixels.
        size: images per batch.

    """
    images = pixels("images", images, finite=mask is None)
    among = pixels("among", among, tuple(images.shape[1:]))
    if mask is not None:
        require_mask("mask", mask)
    require_number("size", size, 1, whole=True)
    weight = torch.ones_like(images) if mask is None else mask.expand_as(images).to(images)
    pool = among.flatten(1)
    squared = pool.square()
    found = []
    for part, weights in zip(images.split(size), weight.split(size), strict=True):
        w = weights.flatten(1)
        x = torch.where(w > 0, part.flatten(1), 0.0)
        # The term that is the same for all distances of one image is left out.
        found.append((w @ squared.T - 2 * (w * x) @ pool.T).argmin(dim=1))
    return torch.cat(found)
