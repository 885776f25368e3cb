"""The prediction experiment: what is compared, in which units, and with what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm_control.data import RolloutBuffer
from ebm_control.energies import TrajectoryLayout
from ebm_envs.fork import transition
from experiments.prediction.evaluate import Case, modes, scored
from experiments.prediction.jobs import CASES, COMPARED, QUICK_CASES, jobs_of
from experiments.prediction.methods import METHODS, REGRESSIONS, Fitted, Setting
from experiments.prediction.report import cases, summarised
from experiments.prediction.report import modes as modes_table


def walk(episodes: int, seed: int) -> RolloutBuffer:
    """A random walk that its actions drive."""
    rng, buffer = np.random.default_rng(seed), RolloutBuffer(2, 1)
    for _ in range(episodes):
        actions = rng.uniform(-1, 1, (40, 1))
        noise = 0.1 * rng.standard_normal((41, 2))
        states = np.cumsum(noise, axis=0) + np.concatenate([np.zeros((1, 1)), np.cumsum(actions, axis=0)])
        buffer.add_episode(states, actions, np.zeros(40), False)
    return buffer


def fitted(data: RolloutBuffer, deviation: float, free: bool = False) -> Fitted:
    """What knows the walk but for the deviation of its noise; without actions it has to draw them."""
    normalizer = data.normalizer()
    layout = normalizer.layout
    unit = normalizer.obs_std.float()

    def futures(
        history: Tensor,
        actions: Tensor | None,
        *,
        horizon: int,
        samples: int,
        generator: torch.Generator,
        bounds: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        shape = (len(history), samples, horizon, 2)
        steps = deviation * torch.randn(shape, generator=generator)
        if actions is None:
            steps = steps + (2 * torch.rand((*shape[:3], 1), generator=generator) - 1)
        else:
            steps = steps + normalizer.denormalize_actions(actions).float()[:, None]
        return history[:, None, -1:, :2] + (steps / unit).cumsum(dim=2)

    seen = TrajectoryLayout(2, 0, layout.periods) if free else layout
    return Fitted(futures, seen, normalizer, 0.58 / unit, 1.0, 1)


@pytest.mark.parametrize("free", [False, True])
def test_the_true_law_scores_at_its_floor_and_a_false_one_above(free):
    train, held = walk(300, 0), walk(300, 1)
    case = Case("walk", (1, 20), Setting(free=free), histories=400, samples=4)
    right = scored(case, fitted(train, 0.1, free), train, held, 0)
    wrong = scored(case, fitted(train, 0.4, free), train, held, 0)
    assert [row["horizon"] for row in right] == [1, 20]
    for good, bad in zip(right, wrong, strict=True):
        assert good["finite"] == 1.0
        assert good["frechet"] < 3 * good["frechet_floor"] + 0.02
        assert bad["frechet"] > 2 * good["frechet"]
        assert bad["energy_distance"] > good["energy_distance"]
        assert good["calibration_error"] < 0.06
        assert good["rmse_min_of_k"] < good["rmse_of_sample"]
        assert good["rmse_mean"] < good["rmse_of_sample"]
    if not free:
        # One step ahead only noise is unknown: its deviation, and a quarter of its variance from the mean of four.
        unit = np.asarray(train.normalizer().obs_std)
        assert right[0]["rmse_mean"] == pytest.approx(0.1 * 1.25**0.5 / np.sqrt(np.mean(unit**2)), rel=0.15)
        assert wrong[0]["calibration_error"] > 0.1


def test_futures_that_are_not_finite_have_no_scores():
    train = walk(50, 0)

    def nowhere(h: Tensor, a: Tensor | None, *, horizon: int, samples: int, **_: Any) -> Tensor:
        return torch.full((len(h), samples, horizon, 2), torch.nan)

    broken = replace(fitted(train, 0.1), futures=nowhere)
    (row,) = scored(Case("walk", (5,), histories=20, samples=2), broken, train, walk(50, 1), 0)
    assert row["finite"] == 0.0
    assert "frechet" not in row


def test_the_true_fork_covers_its_modes_and_its_mean_does_not():
    rng, buffer = np.random.default_rng(0), RolloutBuffer(2, 1)
    states = [np.stack([np.full(50, -1.0), np.zeros(50)], axis=1)]
    actions = rng.uniform(-1, 1, (20, 50, 1))
    for action in actions:
        states.append(transition(states[-1], action, rng))
    for i in range(50):
        buffer.add_episode(np.stack(states)[:, i], actions[:, i], np.zeros(20), False)
    made = fitted(buffer, 0.1)
    normalizer = buffer.normalizer()

    def simulate(mean: bool) -> Any:
        def futures(h: Tensor, a: Tensor, *, horizon: int, samples: int, **_: Any) -> Tensor:
            raw = normalizer.denormalize_observations(h[:, -1, :2]).double().numpy()
            now = np.repeat(raw, samples, axis=0)
            told = np.repeat(normalizer.denormalize_actions(a).double().numpy(), samples, axis=0)
            path = []
            for t in range(horizon):
                now = transition(now, told[:, t], rng)
                path.append(now)
            found = normalizer.normalize_observations(torch.from_numpy(np.stack(path, axis=1))).float()
            found = found.unflatten(0, (len(h), samples))
            return found.mean(dim=1, keepdim=True).expand_as(found) if mean else found

        return futures

    true = modes(replace(made, futures=simulate(False)), 1500, 0)
    assert true["coverage"] == 1.0
    assert true["total_variation"] < 0.05
    assert true["off_mode"] < 0.001
    mean = modes(replace(made, futures=simulate(True)), 200, 0)
    assert mean["total_variation"] > 0.5


def test_quick_runs_need_no_trained_policy_and_all_methods_are_compared_somewhere(tmp_path):
    quick = list(jobs_of(CASES, range(1), True, tmp_path))
    assert {job.case for job in quick} == set(QUICK_CASES)
    whole = list(jobs_of(CASES, range(2), False, tmp_path))
    assert {job.method for job in whole} == set(METHODS)
    assert len({(job.name, job.seed) for job in whole}) == len(whole)
    for case in CASES:
        methods = {job.method for job in whole if job.case == case}
        assert methods == (set(METHODS) if case in COMPARED else {"EBM, dsm", *REGRESSIONS})


def test_tables_have_means_and_intervals_over_seeds():
    rows = [
        {
            "case": "fork, actions given",
            "env": "ebm/Fork-v0",
            "policy": "random",
            "actions": "given",
            "method": "EBM",
        }
        | {"objective": "dsm", "horizon": 10, "seed": seed, "frechet": 1.0 + seed, "frechet_floor": 0.5}
        | {"coverage": 1.0, "total_variation": 0.04, "train_seconds": 60.0}
        for seed in range(3)
    ]
    (row,) = summarised(rows)
    assert row["frechet"] == 2.0
    assert row["frechet_ci95"] == pytest.approx(2.484, abs=0.01)
    text = cases([row])
    assert "| 10 | EBM | dsm | 2 ± 2.5 |" in text
    assert (
        "### fork, actions given\n\nFréchet distance of other true segments: 0.5 at 10. **Intervals are"
        in text
    )
    assert "| EBM | dsm | 1 ± 0 | 0.04 ± 0 | – | – | 3 |" in modes_table([row])
