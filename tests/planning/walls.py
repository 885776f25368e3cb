"""Planes with walls that an energy knows, and what walks between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebm_control.data import Normalizer
from ebm_control.energies import GaussianBase, GoalCost, SpeedCost, TrajectoryLayout, TransitionEnergy
from ebm_control.planning import LineOfSight, Planner
from ebm_control.samplers import Langevin

LAYOUT = TrajectoryLayout(2)
STEP = torch.full((2,), 0.1)  # deviation of one displacement
WALL = torch.tensor([[-0.1, -4.0], [0.1, 0.5]])  # between left and right, open above y = 0.5
PILLAR = torch.tensor([[-0.4, -0.4], [0.4, 0.4]])
PLAIN = Normalizer(*(torch.tensor([v, v], dtype=torch.float64) for v in (0.0, 1.0, 0.0, 1.0, 1.0)))


class Solid(nn.Module):
    """Tilt of 8 where a transition ends inside a box (2, 2), soft at its edges."""

    def __init__(self, box: Tensor) -> None:
        super().__init__()
        self.box = box

    def forward(self, x: Tensor) -> Tensor:
        end = x[..., :2] + x[..., 2:] * STEP
        depth = torch.minimum(end - self.box[0], self.box[1] - end).amin(dim=-1, keepdim=True)
        return 8 * torch.sigmoid(depth / 0.02)


class Band(nn.Module):
    """Tilt of 8 where an angle of period 2 is within 0.25 of 0, seen as y, sine and cosine."""

    def forward(self, x: Tensor) -> Tensor:
        return 8 * (x[..., 2:3] > 0.707).float()


def energy_of(tilt: nn.Module, layout: TrajectoryLayout = LAYOUT) -> TransitionEnergy:
    return TransitionEnergy(layout, tilt, base=GaussianBase(2, 1.2), displacement_scale=STEP)


def sight(box: Tensor = PILLAR) -> LineOfSight:
    return LineOfSight(energy_of(Solid(box)), 1.0)


def turning_sight() -> LineOfSight:
    return LineOfSight(energy_of(Band(), TrajectoryLayout(2, periods=(2.0, 0.0))), 1.0)


def fine_planner(sees: LineOfSight, costs: list[GoalCost] | None = None) -> Planner:
    """Four steps ahead, none longer than 0.05 a coordinate."""
    goals = [GoalCost(LAYOUT, (0, 1), smooth=0.02)] if costs is None else costs
    terms = [*(20 * goal for goal in goals), 1e4 * SpeedCost(LAYOUT, STEP / 2)]
    sampler = Langevin(15, 0.05, noise=0.0, adapt="rms", scale=(0.2, 0.2))
    return Planner(sees.energy, sampler, 4, terms, layout=LAYOUT, chains=2, spread=0.05)


def free_nodes(sees: LineOfSight, count: int = 500, seed: int = 0) -> Tensor:
    """Random points of the square that the energy finds likely."""
    points = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return points[sees(points, points)]


def crosses(points: Tensor, box: Tensor = WALL) -> bool:
    """Whether a polyline (R, 2) enters a box (2, 2)."""
    share = torch.linspace(0, 1, 200)[:, None, None]
    dense = (points[:-1] + share * (points[1:] - points[:-1])).flatten(0, 1)
    return bool(((dense > box[0]) & (dense < box[1])).all(dim=1).any())
