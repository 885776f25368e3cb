"""Several trajectory optimisers on one problem; the best plan wins."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from ebm_envs.base import Array
from ebm_envs.oracles import trajopt
from ebm_envs.oracles.problem import Problem
from ebm_envs.oracles.result import OracleResult

METHODS = ("pursuit", "cem", "ilqr", "refine")
"""Names of the methods in the order in which they run: see `Contest.run`."""


def require_methods(methods: Collection[str], known: Sequence[str]) -> None:
    """Raise ValueError unless `methods` are some of the `known`, and not a bare string."""
    if isinstance(methods, str) or not methods or not set(methods) <= set(known):
        raise ValueError(f"methods: expected a collection of names among {tuple(known)}, got {methods!r}")


@dataclass
class Contest:
    """Plans for one problem, by the names of their methods.

    Attributes:
        problem: the episode.
        plans: method -> its best plan (steps, m).
        returns: method -> the true return of that plan.

    """

    problem: Problem
    plans: dict[str, Array] = field(default_factory=dict)
    returns: dict[str, float] = field(default_factory=dict)

    def enter(self, method: str, *plans: Array) -> Array:
        """Store and return the best of a method's plans, including earlier ones."""
        entered = [self.plans[method], *plans] if method in self.plans else list(plans)
        returns = self.problem.returns(entered)
        self.plans[method], self.returns[method] = entered[returns.argmax()], float(returns.max())
        return self.plans[method]

    @property
    def winner(self) -> str:
        """The method with the best return; of equal ones the first entered."""
        return max(self.returns, key=self.returns.__getitem__)

    def run(self, methods: Collection[str], rng: np.random.Generator, plans: Sequence[Array] = ()) -> None:
        """Run and enter `methods`, in the order of `METHODS`, and finally enter `plans` (steps, m) unchanged.

        - "pursuit": Jacobian-transpose control, the trivial baseline.
        - "cem": receding-horizon CEM with coloured noise from the idle plan.
        - "ilqr": iLQR from the idle plan, from the plans of the two above, and from each of `plans`.
        - "refine": hill climbing, then iLQR with less smoothing, from the best plan of all.
        """
        problem = self.problem
        if "pursuit" in methods:
            self.enter("pursuit", trajopt.pursuit(problem))
        if "cem" in methods:
            self.enter("cem", trajopt.coloured_noise_cem(problem, rng))
        if "ilqr" in methods:
            own = [self.plans[name] for name in ("pursuit", "cem") if name in self.plans]
            self.enter("ilqr", *(trajopt.ilqr(problem, start) for start in [problem.idle(), *own, *plans]))
        if "refine" in methods:
            entered = [*self.plans.values(), *plans] or [problem.idle()]
            best = entered[problem.returns(entered).argmax()]
            climbed = trajopt.hill_climb(problem, rng, best, rounds=5)
            self.enter("refine", trajopt.ilqr(problem, climbed, smoothing=(1e-3, 1e-4)))
        if plans:
            self.enter("plans", *plans)

    def result(self, observe: Callable[..., Array], began: float) -> OracleResult:
        """The winner's plan.

        Args:
            observe: maps positions, velocities and, if the model has some, activations to observations.
            began: a `perf_counter`.

        """
        plan = self.plans[self.winner]
        qpos, qvel, act = self.problem.parts(self.problem.simulate(plan))
        return OracleResult(
            return_=self.returns[self.winner],
            actions=plan,
            states=observe(qpos, qvel, act) if act.shape[-1] else observe(qpos, qvel),
            seconds=time.perf_counter() - began,
            method=self.winner,
            returns=dict(self.returns),
        )
