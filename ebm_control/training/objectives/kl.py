"""Contrastive divergence with the KL term that it usually omits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_control.checks import require_number
from ebm_control.data.batch import Batch
from ebm_control.energies.base import Energy
from ebm_control.samplers.chain import Chain
from ebm_control.training.objectives.contrastive import ContrastiveDivergence, LossTerms, Source


@dataclass(frozen=True)
class ImprovedContrastiveDivergence(ContrastiveDivergence):
    """Contrastive divergence plus the KL divergence of short chains to the model (Du, Li, Tenenbaum & Mordatch 2021).

    When the energy changes, so do the samples of a short chain; plain contrastive divergence ignores that.
    The term is `E(x) - H(x)` over samples `x` after one more step of their chains. Its gradient passes through that
    step to the energy that moved them; `E` itself is detached. The entropy `H` is a nearest-neighbour estimate within
    the batch, over the coordinates that are not fixed. For a conditional energy it is the entropy of samples over all
    conditions together.

    Args:
        kl: weight of the energy of samples.
        entropy: weight of the entropy of samples.

    """

    kl: float = 1.0
    entropy: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("kl", self.kl, 0)
        require_number("entropy", self.entropy, 0)

    def of_batch(self, energy: Energy, batch: Batch, source: Source) -> tuple[LossTerms, Chain | None]:
        """Loss of data against one chain per datum, plus the KL term of the chains."""
        terms, chain = super().of_batch(energy, batch, source)
        assert chain is not None
        x = source.differentiable_step(chain.x)
        held = [parameter for parameter in energy.parameters() if parameter.requires_grad]
        for parameter in held:
            parameter.requires_grad_(False)
        try:
            reached = energy(x, batch.context).mean()
        finally:
            for parameter in held:
                parameter.requires_grad_(True)
        total = terms.total + self.kl * reached
        if self.entropy:
            total = total - self.entropy * entropy_of(x, chain.x, source.fixed)
        return terms._replace(total=total), chain


def entropy_of(x: Tensor, among: Tensor, fixed: Tensor | None, neighbours: int = 10) -> Tensor:
    """Mean log distance of samples `(B, *shape)` to a near one of `among` `(B, *shape)`, a scalar.

    Up to a factor and a constant this is the entropy of their distribution (Kozachenko & Leonenko 1987). The nearest
    neighbour would give heavy-tailed gradients in few dimensions, hence the `neighbours`-th nearest is used.
    """
    free = (
        torch.ones(x.shape[1:], dtype=torch.bool, device=x.device)
        if fixed is None
        else ~fixed.expand(x.shape[1:])
    )
    rows, others = x[:, free], among.detach()[:, free]
    apart = torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist")
    apart = apart + torch.diag(torch.full((len(x),), torch.inf, device=x.device, dtype=x.dtype))
    near = apart.kthvalue(min(neighbours, len(x) - 1), dim=1).values
    return near.clamp_min(1e-6).log().mean()
