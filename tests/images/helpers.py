"""Energies of images whose laws are known, and what is drawn for them."""

import torch
from torch import nn

from ebm_control.energies import ImageEnergy
from tests.helpers import Zero, seeded

SHAPE = (1, 8, 8)
NOISE = (0.02, 4.0)
DEVIATION = 0.05  # of pixels around their means: the data's, not the noise's


def images(*shape, seed=0):
    return torch.rand(*shape, generator=seeded(seed))


def at(level, count):
    """The context of a noise level."""
    return torch.full((count, 1), level).log()


class Mixtures(nn.Module):
    """Tilts that make each class an even mixture of noised Gaussians: means `(classes, components, C, H, W)`."""

    def __init__(self, means, std):
        super().__init__()
        self.std = std
        self.register_buffer("means", (means - means.mean(dim=(0, 1))).flatten(2))

    def forward(self, u, told):
        level = told.exp()
        wide = (self.std**2 + level.square()).sqrt()
        away = u.flatten(1) * wide
        apart = (away[:, None, None] - self.means).square().sum(dim=3) / (2 * wide.square())[..., None]
        energy = -torch.logsumexp(-apart, dim=2)
        return (energy - away.square().sum(dim=1, keepdim=True) / (2 * wide.square())) * level / wide


def gaussians(means, std=DEVIATION):
    """The energy of noised mixtures, exact at every noise level; without classes where there is one."""
    classes = len(means) if len(means) > 1 else 0
    energy = ImageEnergy(Mixtures(means, std), tuple(means.shape[2:]), classes=classes, noise=NOISE)
    energy.mean.copy_(means.mean(dim=(0, 1)))
    energy.std.fill_(std)
    return energy


def gaussian(mean=0.5, std=DEVIATION, shape=SHAPE, classes=0):
    """Independent pixels around one mean, and no network."""
    energy = ImageEnergy(Zero(classes or 1), shape, classes=classes, noise=NOISE)
    energy.mean.copy_(torch.as_tensor(mean).expand(shape))
    energy.std.fill_(std)
    return energy


def annealed_std(sampler, std=DEVIATION):
    """Of a Gaussian's pixels after a sampler's noise levels: a little less than theirs, as steps are finite."""
    variance = sampler.levels[0] ** 2
    for level, following in zip(sampler.levels, (*sampler.levels[1:], 0.0), strict=True):
        law = std**2 + level**2
        correction, fall = sampler.rate * level**2, level**2 - following**2
        for _ in range(sampler.steps):
            variance = (1 - correction / law) ** 2 * variance + 2 * correction
        variance = (1 - fall / law) ** 2 * variance + fall * (following / level) ** 2
    return variance**0.5


def greys(*tones, shape=SHAPE):
    """Means of `gaussians`: a class an image of one tone."""
    return torch.tensor(tones)[:, None, None, None, None].expand(-1, 1, *shape)


class Bowls(nn.Module):
    """`f_y(x) = curve |x - target_y|² / 2`, of images as they are."""

    def __init__(self, targets, curve=0.05):
        super().__init__()
        self.curve = curve
        self.register_buffer("targets", targets)

    def forward(self, x, told):
        away = (x[:, None] + 1) / 2 - self.targets
        return self.curve * away.square().sum(dim=(2, 3, 4)) / 2


def bowls(targets, curve=0.05):
    classes = len(targets) if len(targets) > 1 else 0
    return ImageEnergy(Bowls(targets, curve), tuple(targets.shape[1:]), classes=classes)


class Mirror(nn.Module):
    """Low where the lower half mirrors the upper."""

    def forward(self, x, told):
        return 0.004 * (x - x.flip(2)).square().sum(dim=(1, 2, 3))[:, None]


def mirror():
    return ImageEnergy(Mirror(), SHAPE)


class LinearLogits:
    """`w x + b` of flat images."""

    def __init__(self, weight, bias=None):
        self.weight, self.bias = weight, torch.zeros(len(weight)) if bias is None else bias

    def __call__(self, x):
        return x.flatten(1) @ self.weight.T + self.bias
