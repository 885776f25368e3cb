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
    """What the models share: what they see of a row, and the units of what they predict.

    Args:
        layout: meaning of the coordinates; without actions the model sees states alone, and cannot be planned with.
        displacement_scale: `(obs_dim,)` the data's deviation of one displacement, in the units of `x`.
        hidden: widths of the hidden layers.
        frequencies: random Fourier features of the state, as of an energy (`FourierMLP`); 0 for none.
        bandwidth: of their directions.

    """

    displacement_scale: Tensor
    directions: Tensor  # `(feature_dim, frequencies)`
    members = 1  # networks that learn from windows of their own
    bounds: tuple[Tensor, Tensor] | None = None  # that predicted states are held within, `(obs_dim,)` each

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
        # Checkpoints of models without are those from before there were any.
        self.register_buffer("directions", directions, persistent=frequencies > 0)
        self.register_buffer("displacement_scale", displacement_scale.detach().float().clone())

    @property
    def sizes(self) -> tuple[int, int]:
        """Inputs and outputs of a network that predicts one displacement."""
        inputs = self.layout.feature_dim + 2 * self.directions.shape[1] + self.layout.act_dim
        return inputs, self.layout.obs_dim

    @property
    def settings(self) -> dict[str, Any]:
        """JSON-safe arguments that it is made of, beside layout and scale."""
        waves = {"frequencies": self.directions.shape[1], "bandwidth": self.bandwidth}
        return {"hidden": list(self.hidden)} | waves

    def inputs(self, rows: Tensor) -> Tensor:
        """What a network sees of rows `(..., D)`: features of the state, and the action."""
        seen = self.layout.features(self.layout.states(rows))
        parts = [seen, self.layout.actions(rows)]
        if self.directions.shape[1]:
            parts.append(waves(seen, self.directions))
        return torch.cat(parts, dim=-1).to(self.displacement_scale.dtype)

    def displacement(self, x: Tensor) -> Tensor:
        """From the first to the second state of windows `(..., 2, D)`, in units of the data's: `(..., obs_dim)`."""
        states = self.layout.states(x)
        return self.layout.difference(states[..., 1, :], states[..., 0, :]) / self.displacement_scale

    def move(self, rows: Tensor, displacement: Tensor) -> Tensor:
        """States that rows `(..., D)` lead to by a displacement `(..., obs_dim)` in units of the data's."""
        states = self.layout.states(rows) + self.displacement_scale * displacement
        return states if self.bounds is None else states.clamp(*self.bounds)


class FeedForward(DisplacementModel):
    """`s' = s + scale * f(s, a)`, deterministic: one particle.

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
        """Mean squared residual of windows `(B, 2, D)`, a scalar; `counts` are an ensemble's."""
        return self.residual(batch.x).square().mean()

    def rollout(self, x: Tensor) -> Tensor:
        """`(B, T, D) -> (B, 1, T, D)`, see `Dynamics`."""
        self.layout.check("x", x)
        return unroll(x, self.layout, lambda row, _: self.move(row, self.network(self.inputs(row))))[:, None]


class Ensemble(DisplacementModel):
    """Probabilistic ensemble (PETS, Chua et al. 2018): each member a Gaussian `p(Δs | s, a)`.

    Members are batched: a layer is one `bmm` with weights `(members, in, out)`. A log variance is kept softly
    between two learned bounds, so that it says nothing absurd away from the data.

    As a `Dynamics` it is one particle a member, each following its member's mean; `TrajectorySampling` adds the
    members' noise.

    Args:
        layout: see `DisplacementModel`.
        displacement_scale: see `DisplacementModel`.
        hidden: widths of each member.
        members: networks.
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
        """See `DisplacementModel.settings`."""
        return super().settings | {"members": self.members}

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance `(members, N, obs_dim)` of the displacement, of `inputs` `(members, N, inputs)`."""
        h = inputs
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, silu(h) if i else h, weight)
        mean, log_variance = h.chunk(2, dim=-1)
        log_variance = self.log_variance_high - softplus(self.log_variance_high - log_variance)
        return mean, self.log_variance_low + softplus(log_variance - self.log_variance_low)

    def negative_log_likelihood(self, x: Tensor) -> Tensor:
        """Mean over `i` of `(Δs_i - μ_i)² / σ_i² + log σ_i²`, as in PETS.

        Of windows `(members, B, 2, D)`, each member its own: `(members, B)`.
        """
        mean, log_variance = self(self.inputs(x[..., 0, :]))
        error = self.displacement(x) - mean
        return (error.square() * (-log_variance).exp() + log_variance).mean(dim=-1)

    def slack(self) -> Tensor:
        """Distance of the log variance's bounds, summed: PETS adds 0.01 of it to the loss."""
        return (self.log_variance_high - self.log_variance_low).sum()

    def loss(self, batch: Batch, counts: Tensor | None = None) -> Tensor:
        """Negative log likelihood of each member's windows, summed over members, a scalar.

        Summed, as members have weights of their own: each learns as fast as it would alone.

        Args:
            batch: `(members * B, 2, D)` windows, B for each member, with their indices where there are counts.
            counts: `(members, windows)` how often each member's bootstrap holds each window: its weight in the member's
                loss; None for 1.

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
        """`(B, T, D) -> (B, members, T, D)`, noiseless; see `Dynamics`."""
        return self.follow(x, x.new_zeros(x.shape[1] - 1, self.members, 1, 1, self.layout.obs_dim))

    def follow(self, x: Tensor, noise: Tensor) -> Tensor:
        """Trajectories under given standard normal noise, each particle keeping its member.

        Args:
            x: `(B, T, D)`.
            noise: `(T-1 or more, members, K, B or 1, obs_dim)`, K particles a member; 1 shares it among trajectories.

        Returns:
            `(B, members * K, T, D)`.

        """
        self.layout.check("x", x)
        per_member = noise.shape[2]

        def step(rows: Tensor, t: int) -> Tensor:
            mean, log_variance = self(self.inputs(rows).flatten(1, 2))
            shift = (0.5 * log_variance).exp().unflatten(1, (per_member, -1)) * noise[t]
            return self.move(rows, mean.unflatten(1, (per_member, -1)) + shift)

        paths = unroll(x.expand(self.members, per_member, -1, -1, -1), self.layout, step)
        return paths.flatten(0, 1).transpose(0, 1)


class TrajectorySampling(nn.Module):
    """Particles of an ensemble that keep their member for the whole plan (TS∞ of PETS), with its noise.

    The noise is drawn once, here, and shared by all trajectories (common random numbers): candidates are
    compared in the same weather, and a sampler sees one deterministic energy.

    Args:
        ensemble: the model.
        particles: a multiple of its members.
        horizon: most steps of a trajectory.
        generator: source of the noise; None seeds from the system.

    Raises:
        InputError: particles are no multiple of the members, or a trajectory is longer than the horizon.

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
        """The ensemble's."""
        return self.ensemble.layout

    def rollout(self, x: Tensor) -> Tensor:
        """`(B, T, D) -> (B, particles, T, D)`, see `Dynamics`."""
        steps, most = x.shape[1] - 1, len(self.noise)
        require(steps <= most, "x", given=f"{steps} steps", expected=f"at most horizon = {most}")
        return self.ensemble.follow(x, self.noise)


def _uniform(shape: tuple[int, ...], inputs: int) -> nn.Parameter:
    """First weights as those of `nn.Linear`."""
    return nn.Parameter(torch.empty(shape).uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs)))
