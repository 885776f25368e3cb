"""Guides fitted to rollouts: an energy of where the data were, and routes along lines that it allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import InputError, require, require_number, require_seed
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.energies.layout import require_index
from ebm_control.energies.rescaled import Rescaled
from ebm_control.energies.trajectory import TransitionEnergy
from ebm_control.models.trajectory import ModelSettings, TrajectoryModel
from ebm_control.models.trajectory_fit import TrainSettings, fit_model
from ebm_control.planning.guided import Guided
from ebm_control.planning.planner import Planner
from ebm_control.planning.roadmap import LineOfSight, Roadmap

CANDIDATES = 6000  # states of the data among which nodes are chosen
APART = 0.1  # stds of the data that the states of a pair are apart, by default


def _pairs() -> TrainSettings:
    model = ModelSettings(
        hidden=(64, 64),
        base="gaussian",
        base_std=1.2,
        states_only=True,
        joint=True,
        frequencies=128,
        bandwidth=12.0,
    )
    return TrainSettings(
        model, updates=800, loss="softplus", energy_l2=0.003, learning_rate=1e-3, langevin_steps=10
    )


@dataclass(frozen=True)
class GuideSettings:
    """Settings of `fit_guide`.

    Args:
        nodes: number of states of the data through which routes may pass, spread over all of them.
        quantile: fraction of the nodes that count as inside, see `LineOfSight.of_data`.
        gap: steps between the states of a pair; None for the least power of two in which states move by a tenth of
            their std, within half of a typical episode.
        reached: see `Guided`.
        patience: see `Guided`.
        training: settings of the joint energy of pairs of states.

    """

    nodes: int = 800
    quantile: float = 0.9
    gap: int | None = None
    reached: float = 1.0
    patience: int | None = 30
    training: TrainSettings = field(default_factory=_pairs)

    def __post_init__(self) -> None:
        require_number("nodes", self.nodes, 2, whole=True)
        require_number("quantile", self.quantile, 0, 1, above=True)
        if self.gap is not None:
            require_number("gap", self.gap, 1, whole=True)
        require_number("reached", self.reached, 0, above=True)
        if self.patience is not None:
            require_number("patience", self.patience, 1, whole=True)
        model = self.training.model
        fits = model.kind == "transition" and model.window == 2 and model.joint and model.states_only
        require(
            fits,
            "training.model",
            given=f"kind {model.kind}, window {model.window}, joint={model.joint}, "
            f"states_only={model.states_only}",
            expected="a joint energy of pairs of states without actions",
        )


@dataclass(frozen=True, eq=False)
class FittedGuide:
    """Where data were, and routes between such places: `fit_guide` makes it, `make_agent(guide=)` takes it.

    Attributes:
        model: joint energy of pairs of states, of the coordinates `index` alone.
        index: `G` observation coordinates, in this order.
        nodes: `(M, G)` states of the data through which routes may pass, in the environment's units.
        settings: see `GuideSettings`.

    """

    model: TrajectoryModel
    index: tuple[int, ...]
    nodes: NDArray[np.float64]
    settings: GuideSettings = field(default_factory=GuideSettings)

    def line_of_sight(self, normalizer: Normalizer) -> LineOfSight:
        """Which straight lines stay where data were, in the units of a normaliser of whole observations."""
        scale, shift = self._units(normalizer)
        assert isinstance(self.model.energy, TransitionEnergy)
        energy = Rescaled(self.model.energy, scale, shift)
        return LineOfSight.of_data(energy, self._nodes(normalizer), self.settings.quantile)

    def roadmap(self, line_of_sight: LineOfSight, normalizer: Normalizer) -> Roadmap:
        """Shortest paths over the nodes along clear lines, in the units of a normaliser of whole observations."""
        return Roadmap(line_of_sight, self._nodes(normalizer))

    def around(self, planner: Planner, normalizer: Normalizer) -> Guided:
        """A planner that follows the guide's routes.

        Args:
            planner: plans with a goal whose coordinates are among `index`.
            normalizer: units of the planner.

        Raises:
            InputError: the planner's goal has other coordinates, or too few nodes are clear.

        """
        sight = self.line_of_sight(normalizer)
        return Guided(
            planner,
            self.roadmap(sight, normalizer),
            sight,
            self.settings.reached,
            index=self.index,
            patience=self.settings.patience,
        )

    def _units(self, normalizer: Normalizer) -> tuple[Tensor, Tensor]:
        """Scale and shift `(G,)` from the units of a normaliser of whole observations to those of the energy."""
        pick, own = list(self.index), self.model.normalizer
        require_index("index", self.index, normalizer.layout.obs_dim)
        scale = normalizer.obs_std[pick] / own.obs_std
        shift = (normalizer.obs_mean[pick] - own.obs_mean) / own.obs_std
        return scale.float(), shift.float()

    def _nodes(self, normalizer: Normalizer) -> Tensor:
        whole = torch.zeros(len(self.nodes), normalizer.layout.obs_dim, dtype=torch.float64)
        whole[:, list(self.index)] = torch.from_numpy(self.nodes)
        return normalizer.normalize_observations(whole)[:, list(self.index)].float()


def fit_guide(
    rollouts: RolloutBuffer,
    index: Sequence[int],
    settings: GuideSettings | None = None,
    *,
    seed: int = 0,
    progress: bool = True,
) -> FittedGuide:
    """Fit a guide to rollouts: learn where states were, and choose some of them as nodes of routes.

    A joint energy of pairs of states, a few steps apart, is the collision checker of a roadmap. It covers the
    coordinates `index` alone, because walls depend on positions and not on velocities.

    Args:
        rollouts: episodes that went wherever routes may lead.
        index: coordinates that the guide covers, those of the goal among them.
        settings: see `GuideSettings`.
        seed: seed of the energy's training and of the choice of nodes.
        progress: show progress bars.

    Returns:
        A guide for `make_agent(..., guide=)` and `FittedGuide.around`.

    Raises:
        InputError: a setting or the index is invalid, or `fit_model` refuses the data.

    """
    settings = GuideSettings() if settings is None else settings
    index = tuple(index)
    if not isinstance(rollouts, RolloutBuffer):
        raise InputError(f"rollouts: expected a RolloutBuffer, got {type(rollouts).__name__}")
    require(len(rollouts) > 0, "rollouts", given="no transitions", expected="some")
    require_index("index", index, rollouts.obs_dim)
    require_seed("seed", seed)
    part = _part(rollouts, index)
    gap = _gap(part) if settings.gap is None else settings.gap
    training = replace(settings.training, model=replace(settings.training.model, gaps=(gap,)), seed=seed)
    model = fit_model(part, training, progress=progress)
    return FittedGuide(model, index, _spread(model, part, settings.nodes, seed), settings)


def _part(rollouts: RolloutBuffer, index: tuple[int, ...]) -> RolloutBuffer:
    """The same episodes with the observation coordinates `index` alone."""
    periods = tuple(rollouts.periods[i] for i in index) if rollouts.periods else ()
    part = RolloutBuffer(len(index), rollouts.act_dim, periods=periods)
    for episode in rollouts.episodes():
        part.add_episode(episode.observations[:, index], episode.actions, None, episode.terminated)
    return part


def _gap(data: RolloutBuffer) -> int:
    """The least power of two in which states move by `APART`; at most half of the median episode's length."""
    units, gap = data.normalizer(), 1
    most = max(1, int(np.median([len(episode) for episode in data.episodes()])) // 2)
    states = units.normalize_observations(torch.from_numpy(np.array(data.observations)))
    while 2 * gap <= most:
        rows = data.window_starts(2, gap)
        moved = units.layout.difference(states[rows + gap], states[rows])
        if float(moved.square().mean().sqrt()) >= APART:
            break
        gap *= 2
    return gap


def _spread(model: TrajectoryModel, data: RolloutBuffer, count: int, seed: int) -> NDArray[np.float64]:
    """States `(M, G)` of the data, each as far from those before it as possible, in the environment's units."""
    rng = np.random.default_rng(seed)
    total = len(data.observations)
    states = data.observations[rng.choice(total, min(total, CANDIDATES), replace=False)]
    x = model.normalizer.normalize_observations(torch.from_numpy(states))
    chosen, away = [0], torch.full((len(x),), torch.inf, dtype=x.dtype)
    while len(chosen) < min(count, len(x)):
        last = x[chosen[-1]].expand_as(x)
        away = torch.minimum(away, model.layout.difference(x, last).square().sum(dim=1))
        chosen.append(int(away.argmax()))
    return states[chosen]
