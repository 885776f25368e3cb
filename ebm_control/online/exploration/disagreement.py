"""Exploration by model uncertainty: a cost that is low where the members of an ensemble disagree."""

from __future__ import annotations

from torch import Tensor

from ebm_control.baselines.models import Ensemble
from ebm_control.checks import require
from ebm_control.energies.base import Energy


class DisagreementCost(Energy):
    """Negative variance among the members' predictions of each next state, summed along the trajectory.

    `E(τ) = -Σ_{t < T-1} Σ_d var_m μ_m(s_t, a_t)_d`, in squared units of the data's displacements (Pathak, Gandhi &
    Gupta 2019; used for planning as in Plan2Explore, Sekar et al. 2020). Noise that all members predict alike does not
    count, so randomness is not attractive. Away from the data the cost is unbounded: restrict plans to the space with
    a `BoundCost`, or plan over actions.

    Args:
        ensemble: the model, which is shared and not copied: further training changes the cost.

    Raises:
        InputError: the ensemble has only one member.

    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        members = ensemble.members
        require(members >= 2, "ensemble", given=f"{members} member", expected="at least 2 members")
        self.ensemble = ensemble

    def disagreement(self, x: Tensor) -> Tensor:
        """Variance across members of each step's displacement: `(B, T, D) -> (B, T-1)`."""
        self.ensemble.layout.check("x", x)
        inputs = self.ensemble.inputs(x[:, :-1])
        mean, _ = self.ensemble(inputs.flatten(0, 1).expand(self.ensemble.members, -1, -1))
        return mean.var(dim=0, correction=0).sum(dim=-1).unflatten(0, inputs.shape[:2])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        return -self.disagreement(x).sum(dim=1)
