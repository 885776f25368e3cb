"""Energies whose gradients are written out, and the check of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ebm_control.energies import (
    MLP,
    AtNoise,
    BoundCost,
    BoxObstacle,
    Energy,
    FourierMLP,
    GaussianBase,
    Given,
    GoalCost,
    OnStates,
    RegressionBase,
    RewardCost,
    SmoothnessCost,
    SpeedCost,
    TemporalConvolution,
    TrajectoryLayout,
    Transformer,
    TransitionEnergy,
    WindowEnergy,
    mixture,
)

PLAIN, ROUND = TrajectoryLayout(3, 2), TrajectoryLayout(3, 2, periods=(0.0, 1.5, 6.0))
STATES = TrajectoryLayout(3)
BATCH = 6
NOISE = (0.1, 5.0)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def transition(
    layout: TrajectoryLayout = PLAIN,
    window: int = 2,
    base: str = "none",
    context: int = 0,
    noise: bool = False,
    make: Callable[[int], nn.Module] = lambda inputs: MLP(inputs, (8, 7)),
) -> TransitionEnergy:
    inputs = TransitionEnergy.inputs_of(layout, window, context, noisy=noise)
    bases = {
        "none": lambda: None,
        "gaussian": lambda: GaussianBase(layout.obs_dim, 0.7),
        "regression": lambda: RegressionBase(MLP(inputs - noise - layout.obs_dim, (5,), layout.obs_dim), 3),
    }
    held = bases[base]()
    if base == "regression":
        held.set_std(torch.tensor([0.3, 1.0, 2.0]))
    scale = torch.tensor([0.5, 1.0, 2.0])
    options = {"context_dim": context, "noise": NOISE if noise else None, "displacement_scale": scale}
    return TransitionEnergy(layout, make(inputs), window=window, base=held, **options)


def window(
    layout: TrajectoryLayout, base: str = "none", context: int = 0, noise: bool = False
) -> WindowEnergy:
    rows, outputs = 5, 4 * layout.obs_dim
    network = MLP(WindowEnergy.inputs_of(layout, rows, context), (6,), outputs)
    held = {
        "none": None,
        "gaussian": GaussianBase(outputs, 0.7),
        "regression": RegressionBase(network, outputs),
    }[base]
    channels = WindowEnergy.channels_of(layout, context, base=held is not None, noisy=noise)
    tilt = TemporalConvolution(channels, 8, 1) if base != "gaussian" else Transformer(channels, 5, 8, 1)
    return WindowEnergy(layout, tilt, base=held, context_dim=context, noise=NOISE if noise else None)


def noisy(energy: Energy) -> Energy:
    return AtNoise(energy, 0.5)


def aimed(**options: object) -> GoalCost:
    cost = GoalCost(ROUND, (2, 0), **options)
    cost.set_goal(drawn(3, 2))
    return cost


def reward(states: Tensor, actions: Tensor, following: Tensor) -> Tensor:
    return (states * following).sum(dim=-1) - actions.square().sum(dim=-1)


BOXES = drawn(2, 1, 3, seed=3).abs() * torch.tensor([-1.0, 1.0])[None, :, None]
FAR = torch.tensor([[[-torch.inf, -0.5], [0.5, torch.inf]]])
# Energies of trajectories (B, 5, 5) without a context.
ENERGIES: dict[str, Callable[[], Energy]] = {
    **{
        f"transition-{len(layout.periods)}-{count}-{base}": lambda layout=layout, count=count, base=base: (
            transition(layout, count, base)
        )
        for layout in (PLAIN, ROUND)
        for count in (2, 3, 5)
        for base in ("none", "gaussian", "regression")
    },
    **{
        f"transition-noise-{base}": lambda base=base: noisy(transition(ROUND, 3, base, noise=True))
        for base in ("none", "gaussian", "regression")
    },
    **{
        f"window-{len(layout.periods)}-{base}": lambda layout=layout, base=base: window(layout, base)
        for layout in (PLAIN, ROUND)
        for base in ("none", "gaussian", "regression")
    },
    "window-noise": lambda: noisy(window(ROUND, "regression", noise=True)),
    "fourier": lambda: transition(make=lambda n: FourierMLP(n, (8,), features=3, frequencies=4)),
    "linear": lambda: transition(make=lambda n: MLP(n, ())),
    "spectral": lambda: transition(make=lambda n: MLP(n, (8,), spectral=True)),
    "other network": lambda: transition(make=lambda n: nn.Sequential(nn.Linear(n, 4), nn.Tanh(), nn.Linear(4, 1))),
    "given": lambda: Given(transition(context=2), torch.tensor([0.5, -1.0])),
    "given rows": lambda: Given(window(ROUND, "regression", context=2), drawn(BATCH, 2)),
    "given noise": lambda: noisy(Given(transition(ROUND, 2, "regression", 1, noise=True), torch.ones(1))),
    "goal": aimed,
    "goal l2": lambda: aimed(norm="l2", smooth=0.1),
    "goal sharp l2": lambda: aimed(norm="l2"),
    "goal squared": lambda: aimed(norm="squared", last_only=True),
    "goal smooth": lambda: aimed(smooth=0.3),
    "smooth": lambda: SmoothnessCost(ROUND),
    "smooth acceleration": lambda: SmoothnessCost(ROUND, order=2),
    "smooth actions": lambda: SmoothnessCost(PLAIN, of="actions"),
    "smooth jerk": lambda: SmoothnessCost(PLAIN, order=2, of="actions"),
    "box": lambda: BoxObstacle(BOXES, (0, 2, 1), margin=0.2),
    "box of problems": lambda: BoxObstacle(torch.stack([BOXES, 2 * BOXES, 0.5 * BOXES]), (0, 1, 2), between=0),
    "corridor": lambda: BoxObstacle(FAR, (1, 3)),
    "bound": lambda: BoundCost([-0.5, -torch.inf], [0.5, 0.0], (4, 1)),
    "speed": lambda: SpeedCost(ROUND, [0.1, 0.2, torch.inf]),
    "reward": lambda: RewardCost(PLAIN, reward),
    "on states": lambda: OnStates(TransitionEnergy(STATES, MLP(6, (5,))), PLAIN),
    "sum": lambda: 0.5 * transition(ROUND, 2, "regression") + aimed() - SpeedCost(PLAIN, [0.1] * 3),
    "mixture": lambda: mixture([transition(), transition(PLAIN, 3)], [1.0, 2.0]),
}  # fmt: skip


def made(name: str, dtype: torch.dtype = torch.float64) -> Energy:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return ENERGIES[name]().to(dtype).eval()


def check(energy: Energy, x: Tensor, context: Tensor | None = None, tolerance: float = 1e-11) -> None:
    expected = Energy.value_and_gradient(energy, x, context)
    found = energy.value_and_gradient(x, context)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert not one.requires_grad
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


class Doubled(TransitionEnergy):
    """Another energy than its parent's."""

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        base, tilt = super().split(x, context)
        return 2 * base, 2 * tilt
