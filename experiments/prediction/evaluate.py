"""Metrics of one fitted method on held-out episodes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebm_control.data import RolloutBuffer
from ebm_control.prediction import metrics
from ebm_envs.fork import mode_of, mode_probabilities
from experiments.prediction.methods import Fitted, Setting

Row = dict[str, Any]
HISTORY = 10  # time steps of the history, of which only a recurrent network uses more than the last
SEGMENT = 3  # states
TRUTH = 4000  # true futures that predicted distributions are compared with
FORK_HORIZON, FORK_CASES = 14, 4


@dataclass(frozen=True)
class Case:
    """A dataset with the settings of its evaluation.

    Attributes:
        dataset: name in `data.DATASETS`.
        horizons: horizons at which futures are scored.
        setting: settings of the networks, and whether predictions are conditioned on actions.
        histories: number N of histories.
        samples: number K of futures per history.
        modes: futures per action sequence for estimating mode probabilities (Fork); 0 if the true ones are unknown.

    """

    dataset: str
    horizons: tuple[int, ...]
    setting: Setting = field(default_factory=Setting)
    histories: int = 512
    samples: int = 4
    modes: int = 0

    @property
    def name(self) -> str:
        """Name in the table."""
        return f"{self.dataset}, {'states alone' if self.setting.free else 'actions given'}"


def scored(case: Case, fitted: Fitted, train: RolloutBuffer, held: RolloutBuffer, seed: int) -> list[Row]:
    """Scores of a fitted method, one row per horizon."""
    longest = max(case.horizons)
    past, truth, given = _windows(case, fitted, held, case.histories, longest, seed)
    generator = torch.Generator().manual_seed(seed)
    began = time.perf_counter()
    low, high = _range(fitted, train)
    futures = fitted.futures(
        past, given, horizon=longest, samples=case.samples, generator=generator, bounds=(low, high)
    )
    milliseconds = (time.perf_counter() - began) * 1e3 / longest
    _, others, _ = _windows(case, fitted, held, TRUTH, longest, seed + 1)
    _, fresh, _ = _windows(case, fitted, train, case.histories * case.samples, longest, seed + 2)
    layout, unit = fitted.layout, fitted.normalizer.state_std.float()
    known = fitted.layout.states(past)[:, -1:]
    paths = torch.cat([known[:, None].expand(-1, case.samples, -1, -1), futures], dim=2)
    usual = _greatest_energy(fitted, train, seed)
    rows = []
    for horizon in case.horizons:
        row: Row = {"horizon": horizon, "at_bounds": _at_bounds(futures[:, :, horizon - 1], low, high)}
        part, true = futures[:, :, :horizon], truth[:, :horizon]
        finite, inside = metrics.finite_and_in_range(part.flatten(0, 1), low, high)
        row |= {"finite": finite, "in_range": inside}
        if finite == 1.0:
            row |= _laws(fitted, past, futures, others, fresh, horizon)
            row["rmse_mean"] = float(metrics.rmse_of_mean(part, true, layout, unit)[-1])
            row["rmse_of_sample"] = float(metrics.rmse_of_sample(part, true, layout, unit)[-1])
            row["rmse_min_of_k"] = float(metrics.rmse_best_of(part, true, layout, unit)[-1])
            moved = layout.difference(part, known[:, None]), layout.difference(true, known)
            ranks = metrics.rank_histogram(*moved, horizon - 1, generator)
            row["calibration_error"] = metrics.calibration_error(ranks)
        if usual is not None:
            action = None if given is None else given[:, horizon - 1]
            energies = _energies(fitted, paths[:, :, horizon - 1 : horizon + 1], action)
            row["energy_in_range"] = float((energies <= usual).double().mean())
        row |= {"ms_per_step": milliseconds, "chains": case.histories * case.samples}
        rows.append(row)
    if case.modes:
        rows[-1] |= modes(fitted, case.modes, seed)
    return rows


def _at_bounds(states: Tensor, low: Tensor, high: Tensor) -> float:
    """Share of coordinates that were clipped to the range of the data."""
    return float(((states <= low) | (states >= high)).double().mean())


def _greatest_energy(fitted: Fitted, train: RolloutBuffer, seed: int) -> Tensor | None:
    """The 99.9 % quantile of the energies of `TRUTH` transitions of the data; None without an energy."""
    if fitted.energy is None:
        return None
    observations, actions = train.sample_windows(TRUTH, 2, rng=np.random.default_rng(seed))
    x = fitted.normalizer.normalize(torch.from_numpy(observations), torch.from_numpy(actions)).float()
    return fitted.energy(x[..., : fitted.layout.dim]).quantile(0.999)


def _energies(fitted: Fitted, states: Tensor, action: Tensor | None) -> Tensor:
    """Energies of transitions: `states` `(N, K, 2, obs_dim)`, `action` `(N, act_dim)` or None."""
    assert fitted.energy is not None
    told = None if action is None else action[:, None, None].expand(-1, states.shape[1], -1, -1).flatten(0, 1)
    return fitted.energy(fitted.layout.join(states.flatten(0, 1), told))


def _laws(
    fitted: Fitted, past: Tensor, futures: Tensor, truth: Tensor, fresh: Tensor, horizon: int
) -> dict[str, float]:
    """Distances between the distributions of predicted and true segments; `floor` is that of other true ones."""
    units = {
        "state_unit": fitted.normalizer.state_std.float(),
        "displacement_unit": fitted.displacement_scale.float(),
    }
    last = fitted.layout.states(past)[:, -SEGMENT:]

    def features(states: Tensor, before: Tensor | None) -> Tensor:
        # Segments that begin before the first predicted state start with the last states of the history.
        if before is None:
            return metrics.segment_features(
                states, fitted.layout, end=SEGMENT + horizon, length=SEGMENT, **units
            )
        whole = torch.cat([before[:, None].expand(-1, states.shape[1], -1, -1), states], dim=2)
        return metrics.segment_features(whole, fitted.layout, end=SEGMENT + horizon, length=SEGMENT, **units)

    predicted, true, other = features(futures, last), features(truth, None), features(fresh, None)
    return {
        "frechet": metrics.frechet_distance(predicted, true),
        "frechet_floor": metrics.frechet_distance(other, true),
        "energy_distance": metrics.energy_distance(predicted, true, most=2000),
    }


def _windows(
    case: Case, fitted: Fitted, buffer: RolloutBuffer, count: int, horizon: int, seed: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Histories `(N, h, D)`, the true states after them and the actions that led there.

    If `count` is not that of the histories, true states begin `SEGMENT` time steps early, for complete segments.
    """
    rows = HISTORY + horizon
    observations, actions = buffer.sample_windows(count, rows, rng=np.random.default_rng(seed))
    x = fitted.normalizer.normalize(torch.from_numpy(observations), torch.from_numpy(actions)).float()
    known = HISTORY
    begin = known if count == case.histories else known - SEGMENT
    layout = fitted.layout
    given = None if layout.act_dim == 0 else fitted.normalizer.layout.actions(x)[:, known - 1 : -1]
    return x[:, :known, : layout.dim], layout.states(x)[:, begin:], given


def _range(fitted: Fitted, train: RolloutBuffer) -> tuple[Tensor, Tensor]:
    """Corners of the box of all training states, to which futures are clipped; infinite for periodic coordinates."""
    states = fitted.normalizer.normalize_observations(torch.from_numpy(train.observations)).float()
    low, high = states.amin(dim=0), states.amax(dim=0)
    for i in fitted.layout.periodic:
        low[i], high[i] = -torch.inf, torch.inf
    return low, high


def modes(fitted: Fitted, samples: int, seed: int) -> Row:
    """Errors of mode probabilities on Fork, over several action sequences with many futures each from the start."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (FORK_CASES, FORK_HORIZON, 1))
    start = torch.tensor([[[-1.0, 0.0]]], dtype=torch.float64).expand(FORK_CASES, 1, 2)
    history = fitted.normalizer.normalize(start, torch.zeros(FORK_CASES, 1, 1, dtype=torch.float64)).float()
    given = fitted.normalizer.normalize_actions(torch.from_numpy(actions)).float()
    generator = torch.Generator().manual_seed(seed)
    futures = fitted.futures(history, given, horizon=FORK_HORIZON, samples=samples, generator=generator)
    last = fitted.normalizer.denormalize_observations(futures[:, :, -1]).double().numpy()
    labels, chances = torch.from_numpy(mode_of(last)), torch.from_numpy(mode_probabilities(actions))
    found = metrics.mode_coverage(labels, chances)
    true = torch.multinomial(chances, samples, replacement=True, generator=generator)
    return {
        "coverage": found.covered,
        "total_variation": found.total_variation,
        "total_variation_floor": metrics.mode_coverage(true, chances).total_variation,
        "off_mode": found.off_mode,
    }
