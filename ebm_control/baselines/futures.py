"""Futures of a baseline; the counterpart of `predict` for an energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ebm_control.baselines.models import Ensemble
from ebm_control.baselines.recurrent import Recurrent
from ebm_control.checks import require, require_finite, require_number, require_shape
from ebm_control.energies.layout import TrajectoryLayout

if TYPE_CHECKING:
    from ebm_control.baselines.baseline import Baseline


@torch.no_grad()
def futures(
    baseline: Baseline,
    history: Tensor,
    actions: Tensor | None = None,
    *,
    horizon: int,
    samples: int = 1,
    generator: torch.Generator | None = None,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Predict futures of given histories, in the same form as `predict`.

    A feed-forward or recurrent model has one future, which is repeated (a view, not a copy). In an ensemble,
    future `k` follows member `k mod members` to its end, with independent noise for every history and future
    (TS∞ of PETS, Chua et al. 2018). Periodic coordinates are not wrapped.

    Args:
        baseline: fitted baseline.
        history: `(N, h, D)` observed time steps, in normalised units and with the coordinates of `baseline.layout`; the
            last one's action is ignored. A recurrent model reads all time steps, the others the last one.
        actions: `(N, horizon, act_dim)` beginning at the last observed state; None for a model of states only.
        horizon: states to predict, `H`.
        samples: futures per history, `K`; any number, which need not be a multiple of an ensemble's members.
        generator: source of an ensemble's noise; None takes a seed from the system.
        bounds: low and high `(obs_dim,)` to which each predicted state is clamped; None for no bounds.

    Returns:
        States `(N, K, H, obs_dim)`, in normalised units.

    Raises:
        InputError: a shape does not fit, a value is not finite, or actions are missing or not supported.

    """
    layout, dynamics = baseline.layout, baseline.dynamics
    require_number("horizon", horizon, 1, whole=True)
    require_number("samples", samples, 1, whole=True)
    layout.check("history", history)
    known = history.shape[1]
    require(known >= 1, "history", given="no rows", expected="at least 1")
    require_finite("history", history)
    _check_actions(layout, actions, len(history), horizon)
    x = _rows(layout, history, actions, horizon)
    dynamics.bounds = bounds
    try:
        if isinstance(dynamics, Ensemble):
            return _particles(dynamics, x[:, known - 1 :], samples, generator)
        if isinstance(dynamics, Recurrent):
            path = dynamics.follow(x, known)[:, known:]
        else:
            path = dynamics.rollout(x[:, known - 1 :])[:, 0, 1:]
    finally:
        dynamics.bounds = None
    return layout.states(path)[:, None].expand(-1, samples, -1, -1)


def _check_actions(layout: TrajectoryLayout, actions: Tensor | None, count: int, horizon: int) -> None:
    """Raise `InputError` unless actions are finite and have the right shape, or are None for a model of states."""
    shape = (count, horizon, layout.act_dim)
    if actions is None:
        require(layout.act_dim == 0, "actions", given=None, expected=f"shape {shape}: the model has actions")
        return
    require(
        layout.act_dim > 0,
        "actions",
        given=f"shape {tuple(actions.shape)}",
        expected="None: the model has no actions",
    )
    require_shape("actions", actions, shape)
    require_finite("actions", actions)


def _rows(layout: TrajectoryLayout, history: Tensor, actions: Tensor | None, horizon: int) -> Tensor:
    """History and future `(N, h + horizon, D)`, with the actions of both; future states are 0."""
    unknown = history.new_zeros(len(history), horizon, layout.obs_dim)
    states = torch.cat([layout.states(history), unknown], dim=1)
    if actions is None:
        return states
    return layout.join(states, torch.cat([layout.actions(history)[:, :-1], actions], dim=1))


def _particles(ensemble: Ensemble, x: Tensor, samples: int, generator: torch.Generator | None) -> Tensor:
    """Futures `(N, samples, T-1, obs_dim)` of trajectories `(N, T, D)` after their first time step."""
    if generator is None:
        generator = torch.Generator(x.device)
        generator.seed()
    members, layout = ensemble.members, ensemble.layout
    per_member = -(-samples // members)  # rounded up
    shape = (x.shape[1] - 1, members, per_member, len(x), layout.obs_dim)
    noise = torch.randn(shape, generator=generator, device=generator.device, dtype=x.dtype)
    paths = layout.states(ensemble.follow(x, noise.to(x.device)))[:, :, 1:]
    # Reorder so that futures alternate between members; any first few then use the members equally.
    return paths.unflatten(1, (members, per_member)).transpose(1, 2).flatten(1, 2)[:, :samples]
