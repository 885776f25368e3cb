"""The methods: one loop, one planner over costs, three models; and what is compared with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ebm_control.energies import Energy
from ebm_control.online import Learner, learner_for, planner_of
from ebm_control.online.learner import Model
from ebm_control.planning import Planner
from experiments.planning.jobs import kept_inside
from experiments.planning.methods import Trained
from experiments.planning.problems import ARM, Problem

HORIZON = 12


@dataclass(frozen=True)
class Method:
    """A row of a table.

    Attributes:
        name: of the row.
        model: that learns; None for SAC and for random actions.
        shooting: whether an energy plans over actions alone, as all other models do.
        effort: times the sampler's steps of a plan, at most, where the energy gap calls for them.
        memory: transitions that training draws from, the last ones; None for all.
        regimes: whether a change of dynamics is looked for and answered with another model.
        base: whether an energy has a regression as its base measure.
        explores: where it heads when it explores: next to where it has been, or where an ensemble disagrees.
        model_free: whether it is SAC.

    """

    name: str
    model: Literal["energy", "feed-forward", "ensemble"] | None
    shooting: bool = False
    effort: float = 1.0
    memory: int | None = None
    regimes: bool = False
    base: bool = True
    explores: Literal["frontier", "disagreement"] | None = None
    model_free: bool = False


ENERGY = Method("EBM", "energy")
ENERGY_OVER_ACTIONS = Method("EBM, actions", "energy", shooting=True)
FEED_FORWARD = Method("feed-forward", "feed-forward")
ENSEMBLE = Method("ensemble of 5", "ensemble")
MODELS = (ENERGY, FEED_FORWARD, ENSEMBLE)
SAC = Method("SAC", None, model_free=True)


def learner_of(method: Method, seed: int, steps: int) -> Learner:
    """An untrained model; widths are those of the planning table."""
    assert method.model is not None
    return learner_for(method.model, steps + 1000, seed)


def costs_of(problem: Problem, model: Model) -> Energy:
    """What a plan is for; on Arm7 with the costs that keep joints inside their limits, as in the planning table."""
    inside = kept_inside(Trained(model, 0.0)) if problem.env == ARM.env else problem
    return inside.goal_cost(model.layout)


def planners(
    problem: Problem, space: Any, horizon: int = HORIZON, *, shooting: bool = False
) -> Callable[[Model, int], Planner]:
    """How the model as it is now plans: an energy over states too unless `shooting`, all others over actions."""

    def plan(model: Model, step: int) -> Planner:
        return planner_of(
            model, costs_of(problem, model), horizon, action_space=space, shooting=shooting, seed=step
        )

    return plan
