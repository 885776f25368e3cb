"""Trajectory optimisers on the true simulator: pursuit, CEM with coloured noise, iLQR under limits, hill climbing.

Each takes a `Problem` and returns a plan (steps, m) that is never worse than the one it started from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ebm_envs.base import Array
from ebm_envs.oracles.problem import Problem

_STEP_SIZES = 0.5 ** np.arange(8)


def coloured_noise(rng: np.random.Generator, shape: tuple[int, int, int], exponent: float) -> Array:
    """Gaussian noise (b, T, m) with variance 1 and a power spectrum of `frequency^-exponent` along T.

    Exponent 0 is white noise. Larger exponents give smoother sequences, which move an arm further than white noise,
    whose values cancel. (Timmer and König, "On generating power law noise", 1995.)
    """
    count, steps, width = shape
    frequencies = np.maximum(np.fft.rfftfreq(steps), 1 / steps)
    amplitude = frequencies ** (-exponent / 2)
    real, imaginary = rng.normal(size=(2, count, len(frequencies), width))
    noise = np.fft.irfft(amplitude[:, None] * (real + 1j * imaginary), n=steps, axis=1)
    # A real transform counts each frequency twice, except the first and, for even lengths, the last.
    share = np.full(len(frequencies), 4.0)
    share[0] = share[-1 if steps % 2 == 0 else 0] = 1.0
    return noise * steps / np.sqrt((share * amplitude**2).sum())


def pursuit(
    problem: Problem, pulls: Sequence[float] = (10, 30, 100, 300), brakes: Sequence[float] = (0.3, 1, 3)
) -> Array:
    """Plan (steps, m) of saturated Jacobian-transpose control, `clip(-pull Jᵀr - brake qvel)`: the trivial baseline.

    All pairs of gains are run in parallel, and the best plan is returned. Each control must act on one joint, as
    motors of hinges do.

    Raises:
        ValueError: a model without one control for each joint.

    """
    nv = problem.model.nv
    if problem.model.nu != nv:
        raise ValueError(f"model: expected a control for each of {nv} joints, got {problem.model.nu}")
    pull, brake = (gain.reshape(-1, 1) for gain in np.meshgrid(pulls, brakes))
    states = np.repeat(problem.start[None], len(pull), axis=0)
    plans = np.empty((len(pull), problem.steps, nv))
    for t in range(problem.steps):
        positions, velocities, _ = problem.parts(states)
        force = np.einsum("bgk,bgkq->bq", problem.residual(positions), problem.jacobian(positions))
        plans[:, t] = np.clip(-pull * force - brake * velocities, *problem.bounds)
        states = problem.advance(states, plans[:, t, None])[:, 0]
    return plans[problem.returns(plans).argmax()]


def coloured_noise_cem(
    problem: Problem,
    rng: np.random.Generator,
    start: Array | None = None,
    *,
    horizon: int = 15,
    commit: int = 4,
    iterations: int = 3,
    population: int = 40,
    elites: int = 6,
    exponent: float = 2.0,
    std: float = 0.6,
    momentum: float = 0.1,
) -> Array:
    """Cross-entropy method with coloured noise, a receding horizon and reused elites (iCEM, Pinneri et al. 2020).

    Over a whole episode the search is badly conditioned: an early control changes every later state. So the next
    `horizon` controls are optimised, `commit` of them are executed, and the search continues from the state reached.

    Args:
        problem: the episode.
        rng: source of all noise.
        start: plan (steps, m) that the search is centred on; None is the idle plan.
        horizon: controls per search.
        commit: controls executed between searches.
        iterations: refits of the Gaussian in each search.
        population: plans rolled out per iteration, all in one native call.
        elites: best plans, to which the Gaussian is fitted.
        exponent: colour of the noise, see `coloured_noise`.
        std: initial std of the noise, in control units.
        momentum: weight of the old mean and std in the new.

    Returns:
        The best plan (steps, m), or `start` if that is better.

    Raises:
        ValueError: elites outside 1..population; commit outside 1..horizon; a bad start.

    """
    _require_at_most("elites", elites, "population", population)
    _require_at_most("commit", commit, "horizon", horizon)
    first = problem.idle() if start is None else problem.checked("start", start)
    plan, state = first.copy(), problem.start
    for t in range(0, problem.steps, commit):
        ahead = plan[t : t + horizon]  # a view: the next search starts from the result of this one
        mean, spread, kept = ahead.copy(), np.full_like(ahead, std), ahead[None].copy()
        for _ in range(iterations):
            noise = coloured_noise(rng, (population, *mean.shape), exponent)
            kept = np.concatenate([kept, np.clip(mean + spread * noise, *problem.bounds)])
            paths = problem.advance(state[None], kept)
            best = np.argsort(problem.cost(paths))[:elites]
            kept = kept[best]
            mean = momentum * mean + (1 - momentum) * kept.mean(0)
            spread = momentum * spread + (1 - momentum) * kept.std(0)
        ahead[:] = kept[0]
        state = paths[best[0], min(commit, len(ahead)) - 1]
    return plan if problem.score(plan) > problem.score(first) else first


def _require_at_most(name: str, value: int, limit: str, most: int) -> None:
    """Raise `ValueError` unless `value` is from 1 to `most`, the value of the argument `limit`."""
    if not 1 <= value <= most:
        raise ValueError(f"{name}: expected 1 to {limit} ({most}), got {value}")


def hill_climb(
    problem: Problem,
    rng: np.random.Generator,
    start: Array,
    *,
    rounds: int = 10,
    population: int = 32,
    std: float = 0.3,
    exponent: float = 1.0,
) -> Array:
    """Refine a plan (steps, m): each round applies the best of several random local changes if it is better.

    Changes are coloured noise in a window of random position and length, with a random std up to `std`.

    Raises:
        ValueError: a start of another shape or not finite.

    """
    plan = problem.checked("start", start)
    best, clock = problem.score(plan), np.arange(problem.steps)
    for _ in range(rounds):
        centre = rng.uniform(0, problem.steps, size=(population, 1))
        length = problem.steps ** rng.uniform(0, 1, size=(population, 1))
        window = np.exp(-0.5 * np.square((clock - centre) / length))[..., None]
        size = std * 10 ** rng.uniform(-3, 0, size=(population, 1, 1))
        change = size * window * coloured_noise(rng, (population, *plan.shape), exponent)
        proposals = np.clip(plan + change, *problem.bounds)
        returns = problem.returns(proposals)
        if returns.max() > best:
            best, plan = float(returns.max()), proposals[returns.argmax()]
    return plan


def ilqr(
    problem: Problem,
    start: Array,
    *,
    smoothing: Sequence[float] = (0.1, 0.01, 0.001),
    iterations: int = 20,
    tolerance: float = 1e-3,
) -> Array:
    """Iterative LQR under control limits (box-DDP, Tassa, Mansard and Todorov 2014) from a plan (steps, m).

    The distance is smoothed, `sqrt(|r|² + s²)`, with s annealed. Each iteration linearises the simulator along
    the path, solves backwards in time for a change of the controls inside their limits and a feedback gain, and
    rolls out all step sizes in parallel. If none lowers the smoothed cost, the regularisation grows.
    The search is local: it does not change, for instance, the initial direction of travel round a circle.

    Args:
        problem: the episode.
        start: plan to start from.
        smoothing: values of s, one stage each, in units of the residuals.
        iterations: maximum number of iterations per stage.
        tolerance: a stage ends when an iteration lowers its cost by less than this fraction of the true cost.

    Returns:
        The plan with the best true return of all iterations.

    Raises:
        ValueError: a start of another shape or not finite; a smoothing of 0 or less.

    """
    if not min(smoothing, default=1.0) > 0:
        raise ValueError(f"smoothing: expected values above 0, got {tuple(smoothing)}")
    plan = best = problem.checked("start", start)
    states, highest, damping = problem.simulate(plan), problem.score(plan), 0.1
    for s in smoothing:
        cost, damping = problem.cost(states[1:], s), float(np.clip(damping, 1e-2, 1.0))
        for _ in range(iterations):
            plans, paths = _forward(problem, states, plan, *_backward(problem, states, plan, s, damping))
            costs = problem.cost(paths[:, 1:], s)
            winner = int(costs.argmin())
            if not costs[winner] < cost:
                damping *= 30
                if damping > 1e3:
                    break
                continue
            fallen, cost = cost - costs[winner], costs[winner]
            plan, states = plans[winner], paths[winner]
            damping = max(damping / 5, 1e-7) if _STEP_SIZES[winner] >= 0.5 else damping * 4
            if (score := problem.score(plan)) > highest:
                highest, best = score, plan
            if fallen < -tolerance * score:
                break
    return best


def _backward(
    problem: Problem, states: Array, plan: Array, smoothing: float, damping: float
) -> tuple[Array, Array]:
    """Changes of the controls (T, m) and feedback gains (T, m, n) from the quadratic model of the cost to go.

    `damping` is added to the Hessian with respect to the controls, in units of the cost's weight.
    """
    A, B = problem.linearised(states[:-1], plan)
    gradient, hessian = problem.quadratic_cost(states[1:], smoothing)
    (low, high), (steps, m), n = problem.bounds, plan.shape, states.shape[1]
    open_loop, gains = np.zeros((steps, m)), np.zeros((steps, m, n))
    slope, curvature = np.zeros(n), np.zeros((n, n))
    ridge = damping * problem.weight * np.eye(m)
    for t in reversed(range(steps)):
        slope = slope + gradient[t]
        curvature = curvature + hessian[t]
        carried = curvature @ A[t]
        Q_u, Q_uu, Q_ux = B[t].T @ slope, B[t].T @ curvature @ B[t], B[t].T @ carried
        k, free = _box_qp(Q_uu + ridge, Q_u, low - plan[t], high - plan[t])
        K = np.zeros((m, n))
        if free.any():
            K[free] = -np.linalg.solve((Q_uu + ridge)[np.ix_(free, free)], Q_ux[free])
        bent = Q_uu @ K + Q_ux
        slope = A[t].T @ slope + K.T @ (Q_uu @ k + Q_u) + Q_ux.T @ k
        curvature = A[t].T @ carried + K.T @ bent + Q_ux.T @ K
        curvature = (curvature + curvature.T) / 2
        open_loop[t], gains[t] = k, K
    return open_loop, gains


def _forward(
    problem: Problem, states: Array, plan: Array, open_loop: Array, gains: Array
) -> tuple[Array, Array]:
    """Plans (b, T, m) and paths (b, T + 1, n) under feedback, one for each step size."""
    count = len(_STEP_SIZES)
    plans, paths = np.empty((count, *plan.shape)), np.empty((count, *states.shape))
    paths[:, 0] = states[0]
    wanted = plan + _STEP_SIZES[:, None, None] * open_loop
    for t in range(len(plan)):
        feedback = (paths[:, t] - states[t]) @ gains[t].T
        plans[:, t] = np.clip(wanted[:, t] + feedback, *problem.bounds)
        paths[:, t + 1] = problem.advance(paths[:, t], plans[:, t, None])[:, 0]
    return plans, paths


def _box_qp(H: Array, g: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Argmin (m,) of `½ xᵀHx + gᵀx` over `low <= x <= high`, H positive definite, and the mask of free coordinates.

    Projected Newton (Bertsekas 1982): a Newton step in the coordinates that are not at a limit, then a search along
    its projection.
    """
    x = np.clip(-np.linalg.solve(H, g), low, high)
    for _ in range(20):
        slope = H @ x + g
        free = ~(((x <= low) & (slope > 0)) | ((x >= high) & (slope < 0)))
        if not free.any() or np.abs(slope[free]).max() <= 1e-9 * (1 + np.abs(g).max()):
            break
        step = np.zeros_like(x)
        step[free] = -np.linalg.solve(H[np.ix_(free, free)], slope[free])
        trials = np.clip(x + _STEP_SIZES[:, None] * step, low, high)
        values = ((0.5 * trials @ H + g) * trials).sum(-1)
        if not values.min() < (0.5 * x @ H + g) @ x:
            break
        x = trials[values.argmin()]
    return x, free
