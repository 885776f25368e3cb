"""How stiff an energy is for planning: which coordinates determine how exactly a plan follows the dynamics."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.trajectory import TransitionEnergy

_PROBES = 256  # random states and actions at which the derivatives of a base are evaluated
_MOVES = 0.05  # threshold above the base's errors for coordinates that do not affect each other


def tempered(energy: TransitionEnergy, context: Tensor | None = None) -> tuple[TransitionEnergy, float]:
    """The energy that plans use, and the std of its stiffest coordinate.

    Without a `RegressionBase` these are the energy itself and 1.
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
    """Boolean `(obs_dim,)`: the observation coordinates that actions move under the base, directly or indirectly.

    They follow from the derivatives of the base's mean at random inputs. One coordinate moves another if a change by
    one std moves the other by at least a twentieth of its typical displacement.
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
