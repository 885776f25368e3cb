"""Tested settings of planners, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ebm_control.samplers.langevin import Langevin
from ebm_control.samplers.population import CEM, MPPI
from ebm_control.samplers.schedules import Linear
from ebm_control.samplers.second_order import GaussNewton

PlanSampler = Langevin | MPPI | CEM | GaussNewton


@dataclass(frozen=True)
class Preset:
    """Tested planner settings.

    Attributes:
        samplers: samplers by name.
        over_actions: the sampler "langevin" for an energy with plans over actions only.
        chains: chains per problem with first-order samplers: of an energy and of a baseline.
        weight: weight of an energy relative to the costs with first-order samplers.
        second_order: the sampler "gauss-newton".
        second_chains: its chains per problem: the warm plan, one that holds still, rollouts of random actions.
        second_weight: weight of an energy with it.
        default: name of the sampler of an energy that second-order steps suit.

    """

    samplers: Mapping[str, PlanSampler]
    over_actions: PlanSampler
    chains: tuple[int, int]
    weight: float
    second_order: GaussNewton
    second_chains: int
    second_weight: float
    default: str = "gauss-newton"


# RMS-preconditioned descent: a plan is a mode, not a sample; step sizes decrease so that it converges.
_DESCENT = Langevin(80, Linear(0.1, 0.01), noise=0.0, adapt="rms")
_SHORT_DESCENT = Langevin(20, Linear(0.2, 0.01), noise=0.0, adapt="rms")

# Better than clamped white noise where the best actions lie at their bounds, and on Reacher. Wider noise is better for
# the former but not exact enough for the latter.
_MPPI = MPPI(8, 128, noise=1.0, temperature=0.2, elites=12, adapt=0.5, smooth=False, colour=1.0, free=True)

PRESETS = {
    "offline": Preset(
        {
            "langevin": _DESCENT,
            "mppi": _MPPI,
            "cem": CEM(8, candidates=128, elites=12, noise=1.0, smooth=False),
        },
        over_actions=_DESCENT,
        chains=(4, 1),
        weight=10.0,
        second_order=GaussNewton(1, damping=0.3),
        second_chains=2,
        second_weight=30.0,
    ),
    # Half the weight: the more accurately a base predicts all coordinates, the more of them are as stiff as the
    # stiffest one, and 80 steps no longer converge.
    "online": Preset(
        {
            "langevin": _DESCENT,
            "mppi": MPPI(5, candidates=100, noise=1.0, temperature=0.5),
            "cem": CEM(5, candidates=100, elites=10, noise=1.0),
        },
        over_actions=_SHORT_DESCENT,
        chains=(2, 2),
        weight=5.0,
        second_order=GaussNewton(1, damping=0.3),
        second_chains=2,
        second_weight=30.0,
        default="langevin",
    ),
}
# Rewards have many optima, and a gain in reward must not pay for a violation of the dynamics.
PRESETS["reward"] = replace(
    PRESETS["online"],
    second_order=GaussNewton(2, damping=0.1),
    second_chains=4,
    second_weight=10_000.0,
    default="gauss-newton",
)
SAMPLERS = ("gauss-newton", *PRESETS["offline"].samplers)
