"""How stiff an energy is for plans: which coordinates decide how closely a plan keeps to the dynamics."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.trajectory import TransitionEnergy

_PROBES = 256  # random states and actions at which a base is asked what moves what
_MOVES = 0.05  # above what a base errs by where it has learned that nothing moves


def tempered(energy: TransitionEnergy, context: Tensor | None = None) -> tuple[TransitionEnergy, float]:
    """The energy as plans take it, and the std of its stiffest coordinate.

    Without a `RegressionBase` it is the energy itself, and 1.
    """
    base = energy.base
    if not isinstance(base, RegressionBase):
        return energy, 1.0
    counted = moved_by_actions(energy, context) & ~energy.steady
    if not bool(counted.any()):
        counted = ~energy.steady if bool((~energy.steady).any()) else torch.ones_like(energy.steady)
    stiffest = base.std[counted].amin()
    if bool((base.std >= stiffest).all()):
        return energy, float(stiffest)
    return energy.with_std(base.std.clamp_min(float(stiffest))), float(stiffest)


def moved_by_actions(energy: TransitionEnergy, context: Tensor | None = None) -> Tensor:
    """Which observation coordinates `(obs_dim,)` actions move under the base, directly or through others.

    By the derivatives of the base's expectation where the data may be: a coordinate counts as moved by another if one
    deviation of that moves it by a twentieth of its typical displacement.
    """
    layout, base = energy.layout, energy.base
    assert base is not None
    generator = torch.Generator().manual_seed(0)
    scale = energy.displacement_scale
    x = torch.randn(_PROBES, energy.window, layout.dim, generator=generator).to(scale)
    x[..., : layout.obs_dim] = torch.where(energy.steady, 0.0, x[:, :1, : layout.obs_dim])
    known = None if context is None else context.to(scale).expand(len(x), -1)
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()
        expected = base.mean(energy.windows(x, known)[0])[:, 0]
        rows = [
            torch.autograd.grad(expected[:, i].sum(), x, retain_graph=True)[0].sum(dim=1).square().mean(dim=0)
            for i in range(layout.obs_dim)
        ]
    moves = torch.stack(rows).sqrt() > _MOVES
    found: Tensor = moves[:, layout.obs_dim :].any(dim=1)
    for _ in range(layout.obs_dim):
        found = found | (moves[:, : layout.obs_dim] & found).any(dim=1)
    return found
