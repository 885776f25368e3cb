"""Dynamics models that predict displacements: a feed-forward network, and an ensemble of Gaussian ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from ebm_control.checks import require, require_number, require_shape, require_widths
from ebm_control.data.batch import Batch
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.networks import MLP, random_directions, waves
from ebm_control.planning.shooting import unroll
from ebm_control.tensors import ordinary_tensors


class DisplacementModel(nn.Module):
    """Common base of the models: the inputs of their networks and the units of their predictions.

    Args:
        layout: meaning of the coordinates; without actions the model cannot be used for planning.
        displacement_scale: `(obs_dim,)` root mean square of one displacement in the data, in the units of `x`.
        hidden: widths of the hidden layers.
        frequencies: random Fourier features of the state (see `FourierMLP`); 0 for none.
        bandwidth: std of their frequencies.

    """

    displacement_scale: Tensor
    directions: Tensor  # `(feature_dim, frequencies)`
    members = 1  # networks that are trained on different windows
    bounds: tuple[Tensor, Tensor] | None = None  # range of predicted states, `(obs_dim,)` each

    @ordinary_tensors()
    def __init__(
        self,
        layout: TrajectoryLayout,
        displacement_scale: Tensor,
        hidden: Sequence[int],
        frequencies: int = 0,
        bandwidth: float = 2.0,
    ) -> None:
        super().__init__()
        require_widths("hidden", hidden, least=1)
        require_number("frequencies", frequencies, 0, whole=True)
        require_shape("displacement_scale", displacement_scale, (layout.obs_dim,))
        self.layout, self.hidden, self.bandwidth = layout, tuple(hidden), bandwidth
        directions = random_directions(layout.feature_dim, frequencies, bandwidth)
        # Without Fourier features this is not stored, to match checkpoints that predate them.
        self.register_buffer("directions", directions, persistent=frequencies > 0)
        self.register_buffer("displacement_scale", displacement_scale.detach().float().clone())

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of inputs and outputs of a network that predicts one displacement."""
        inputs = self.layout.feature_dim + 2 * self.directions.shape[1] + self.layout.act_dim
        return inputs, self.layout.obs_dim

    @property
    def settings(self) -> dict[str, Any]:
        """JSON-safe constructor arguments, except layout and scale."""
        waves = {"frequencies": self.directions.shape[1], "bandwidth": self.bandwidth}
        return {"hidden": list(self.hidden)} | waves

    def inputs(self, x: Tensor) -> Tensor:
        """Network inputs for time steps `(..., D)`: features of the state, and the action."""
        seen = self.layout.features(self.layout.states(x))
        parts = [seen, self.layout.actions(x)]
        if self.directions.shape[1]:
            parts.append(waves(seen, self.directions))
        return torch.cat(parts, dim=-1).to(self.displacement_scale.dtype)

    def displacement(self, x: Tensor) -> Tensor:
        """Displacement `(..., obs_dim)` of windows `(..., 2, D)`, in units of the data's displacements."""
        states = self.layout.states(x)
        return self.layout.difference(states[..., 1, :], states[..., 0, :]) / self.displacement_scale

    def move(self, x: Tensor, displacement: Tensor) -> Tensor:
        """Next states of time steps `(..., D)` after a displacement `(..., obs_dim)` in units of the data's."""
        states = self.layout.states(x) + self.displacement_scale * displacement
        return states if self.bounds is None else states.clamp(*self.bounds)


class FeedForward(DisplacementModel):
    """Deterministic model `s' = s + scale * f(s, a)`: one particle.

    Args:
        layout: see `DisplacementModel`.
        displacement_scale: see `DisplacementModel`.
        hidden: widths of `f`, an `MLP`.
        frequencies: see `DisplacementModel`.
        bandwidth: see `DisplacementModel`.

    """

    def __init__(
        self,
        layout: TrajectoryLayout,
        displacement_scale: Tensor,
        hidden: Sequence[int] = (256, 256),
        frequencies: int = 0,
        bandwidth: float = 2.0,
    ) -> None:
        super().__init__(layout, displacement_scale, hidden, frequencies, bandwidth)
        inputs, outputs = self.sizes
        self.network = MLP(inputs, self.hidden, outputs)

    def residual(self, x: Tensor) -> Tensor:
        """Error of the prediction on windows `(B, 2, D)`, in units of the data's displacements: `(B, obs_dim)`."""
        return self.displacement(x) - self.network(self.inputs(x[..., 0, :]))

    def loss(self, batch: Batch, counts: Tensor | None = None) -> Tensor:
        """Mean squared residual of windows `(B, 2, D)`, a scalar; `counts` is used by ensembles only."""
        return self.residual(batch.x).square().mean()

    def rollout(self, x: Tensor) -> Tensor:
        """Predicted trajectories, `(B, T, D) -> (B, 1, T, D)`; see `Dynamics`."""
        self.layout.check("x", x)
        return unroll(x, self.layout, lambda row, _: self.move(row, self.network(self.inputs(row))))[:, None]


class Ensemble(DisplacementModel):
    """Probabilistic ensemble (PETS, Chua et al. 2018): each member is a Gaussian `p(Δs | s, a)`.

    Members are batched: a layer is one `bmm` with weights `(members, in, out)`. A log variance is softly limited
    to a range between two learned bounds, so that it remains plausible away from the data.

    As a `Dynamics` it has one particle per member, which follows the member's mean; `TrajectorySampling` adds the
    members' noise.

    Args:
        layout: see `DisplacementModel`.
        displacement_scale: see `DisplacementModel`.
        hidden: widths of each member.
        members: number of networks.
        frequencies: see `DisplacementModel`.
        bandwidth: see `DisplacementModel`.

    """

    @ordinary_tensors()
    def __init__(
        self,
        layout: TrajectoryLayout,
        displacement_scale: Tensor,
        hidden: Sequence[int] = (200, 200, 200),
        members: int = 5,
        frequencies: int = 0,
        bandwidth: float = 2.0,
    ) -> None:
        super().__init__(layout, displacement_scale, hidden, frequencies, bandwidth)
        require_number("members", members, 1, whole=True)
        self.members = members
        inputs, outputs = self.sizes
        shapes = list(pairwise([inputs, *self.hidden, 2 * outputs]))
        self.weights = nn.ParameterList(_uniform((members, i, o), i) for i, o in shapes)
        self.biases = nn.ParameterList(_uniform((members, 1, o), i) for i, o in shapes)
        self.log_variance_low = nn.Parameter(torch.full((outputs,), -10.0))
        self.log_variance_high = nn.Parameter(torch.full((outputs,), 0.5))

    @property
    def settings(self) -> dict[str, Any]:
        """JSON-safe constructor arguments, see `DisplacementModel.settings`."""
        return super().settings | {"members": self.members}

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance `(members, N, obs_dim)` of the displacement, from `inputs` `(members, N, inputs)`."""
        h = inputs
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, silu(h) if i else h, weight)
        mean, log_variance = h.chunk(2, dim=-1)
        log_variance = self.log_variance_high - softplus(self.log_variance_high - log_variance)
        return mean, self.log_variance_low + softplus(log_variance - self.log_variance_low)

    def negative_log_likelihood(self, x: Tensor) -> Tensor:
        """Mean over `i` of `(Δs_i - μ_i)² / σ_i² + log σ_i²`, as in PETS (without constants).

        For windows `(members, B, 2, D)`, B different ones per member, the result is `(members, B)`.
        """
        mean, log_variance = self(self.inputs(x[..., 0, :]))
        error = self.displacement(x) - mean
        return (error.square() * (-log_variance).exp() + log_variance).mean(dim=-1)

    def slack(self) -> Tensor:
        """Distance between the log variance's bounds, summed; the loss adds 0.01 times this, as in PETS."""
        return (self.log_variance_high - self.log_variance_low).sum()

    def loss(self, batch: Batch, counts: Tensor | None = None) -> Tensor:
        """Negative log likelihood of each member's windows, summed over members, a scalar.

        The sum gives each member, which has its own weights, the same gradients as if it were trained alone.

        Args:
            batch: `(members * B, 2, D)` windows, B for each member, with their indices if `counts` is set.
            counts: `(members, windows)` how often each member's bootstrap contains each window, which is the window's
                weight in the member's loss; None for 1.

        """
        each = self.negative_log_likelihood(batch.x.unflatten(0, (self.members, -1)))
        if counts is not None:
            assert batch.index is not None
            each = each * counts.gather(1, batch.index.unflatten(0, (self.members, -1)))
        return each.sum() / each.shape[1] + 0.01 * self.slack()

    def residual(self, x: Tensor) -> Tensor:
        """Error of the members' mean prediction on windows `(B, 2, D)`, in units of the data's: `(B, obs_dim)`."""
        inputs = self.inputs(x[..., 0, :]).expand(self.members, -1, -1)
        return self.displacement(x) - self(inputs)[0].mean(dim=0)

    def rollout(self, x: Tensor) -> Tensor:
        """Trajectories without noise, `(B, T, D) -> (B, members, T, D)`; see `Dynamics`."""
        return self.follow(x, x.new_zeros(x.shape[1] - 1, self.members, 1, 1, self.layout.obs_dim))

    def follow(self, x: Tensor, noise: Tensor) -> Tensor:
        """Trajectories for given standard normal noise; each particle uses one member throughout.

        Args:
            x: `(B, T, D)`.
            noise: `(T-1 or more, members, K, B or 1, obs_dim)`, K particles per member; 1 shares it among trajectories.

        Returns:
            `(B, members * K, T, D)`.

        """
        self.layout.check("x", x)
        per_member = noise.shape[2]

        def step(now: Tensor, t: int) -> Tensor:
            mean, log_variance = self(self.inputs(now).flatten(1, 2))
            shift = (0.5 * log_variance).exp().unflatten(1, (per_member, -1)) * noise[t]
            return self.move(now, mean.unflatten(1, (per_member, -1)) + shift)

        paths = unroll(x.expand(self.members, per_member, -1, -1, -1), self.layout, step)
        return paths.flatten(0, 1).transpose(0, 1)


class TrajectorySampling(nn.Module):
    """Particles of an ensemble that use one member for the whole plan (TS∞ of PETS), with its noise.

    The noise is drawn once, at construction, and shared by all trajectories (common random numbers). So candidates
    are compared under the same noise, and a sampler evaluates one deterministic energy.

    Args:
        ensemble: the model.
        particles: number of particles, a multiple of the members.
        horizon: largest number of steps of a trajectory.
        generator: source of the noise; None takes a seed from the system.

    Raises:
        InputError: `particles` is not a multiple of the members, or a trajectory is longer than the horizon.

    """

    noise: Tensor

    def __init__(
        self,
        ensemble: Ensemble,
        particles: int,
        horizon: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        require_number("particles", particles, 1, whole=True)
        require(
            particles % ensemble.members == 0,
            "particles",
            given=particles,
            expected=f"a multiple of the {ensemble.members} members",
        )
        require_number("horizon", horizon, 1, whole=True)
        self.ensemble = ensemble
        device = ensemble.displacement_scale.device
        if generator is None:
            generator = torch.Generator(device)
            generator.seed()
        shape = (horizon, ensemble.members, particles // ensemble.members, 1, self.layout.obs_dim)
        noise = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)
        self.register_buffer("noise", noise.to(device))

    @property
    def layout(self) -> TrajectoryLayout:
        """Layout of the ensemble's trajectories."""
        return self.ensemble.layout

    def rollout(self, x: Tensor) -> Tensor:
        """Predicted trajectories, `(B, T, D) -> (B, particles, T, D)`; see `Dynamics`."""
        steps, most = x.shape[1] - 1, len(self.noise)
        require(steps <= most, "x", given=f"{steps} steps", expected=f"at most horizon = {most}")
        return self.ensemble.follow(x, self.noise)


def _uniform(shape: tuple[int, ...], inputs: int) -> nn.Parameter:
    """Initial weights from the distribution that `nn.Linear` uses."""
    return nn.Parameter(torch.empty(shape).uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs)))
