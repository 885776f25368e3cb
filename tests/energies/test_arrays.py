"""Energies as functions of NumPy arrays: the same figures as by torch, and none where they would not be the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ebm_control.checks import InputError
from ebm_control.energies import (
    MLP,
    BoundCost,
    Energy,
    FourierMLP,
    GoalCost,
    RegressionBase,
    RewardCost,
    SmoothnessCost,
    TrajectoryLayout,
    TransitionEnergy,
)
from ebm_control.energies.arrays import ArrayEnergy, ArrayQuadratic
from ebm_control.energies.curvature import Quadratic
from ebm_control.energies.jacobians import outputs_and_jacobian, outputs_of
from ebm_control.energies.pullbacks import forms_kept
from tests.energies.test_quadratic import dense
from tests.energies.written_out import PLAIN, ROUND, aimed, drawn, reward, transition

APART = TrajectoryLayout(3, 2, periods=(2.0, 0.0, 0.7))
NO_ACTIONS = TrajectoryLayout(3, periods=(0.0, 2.0, 0.0))


def with_weight(energy: TransitionEnergy, weight: float) -> TransitionEnergy:
    return energy.with_std(torch.tensor([0.2, 0.5, 1.5]), weight)


FORMS: dict[str, Callable[[], Energy]] = {
    "plain": lambda: transition(PLAIN, base="regression"),
    "periodic": lambda: transition(ROUND, base="regression"),
    "periodic apart": lambda: transition(APART, base="regression"),
    "small tilt": lambda: with_weight(transition(ROUND, base="regression"), 0.3),
    "no tilt": lambda: with_weight(transition(ROUND, base="regression"), 0.0),
    "linear tilt": lambda: transition(ROUND, base="regression", make=lambda n: MLP(n, ())),
    "spectral tilt": lambda: transition(ROUND, base="regression", make=lambda n: MLP(n, (8,), spectral=True)).eval(),
    "goal": aimed,
    "goal l2": lambda: aimed(norm="l2", smooth=0.1),
    "goal sharp l2": lambda: aimed(norm="l2"),
    "goal squared": lambda: aimed(norm="squared", last_only=True),
    "goal smooth": lambda: aimed(smooth=0.3),
    "one goal": lambda: GoalCost(PLAIN, (0, 1), smooth=0.02),
    "bound": lambda: BoundCost([-0.5, -torch.inf], [0.5, 0.0], (4, 1)),
    "bounds beside each other": lambda: BoundCost([-0.5, -0.1], [0.5, 0.1], (3, 4)),
    "scaled": lambda: -0.5 * transition(ROUND, base="regression"),
    "sum": lambda: 2 * transition(ROUND, base="regression") + 20 * aimed(smooth=0.02) + BoundCost([0.0], [0.1], (3,)),
    "sum of costs": lambda: aimed() - 0.5 * BoundCost([0.0], [0.1], (3,)),
    "with a reward": lambda: transition(PLAIN, base="regression") + RewardCost(PLAIN, reward),
    "with three bands": lambda: SmoothnessCost(PLAIN, order=2) + transition(PLAIN, base="regression"),
}  # fmt: skip
"""Energies of trajectories `(6, 5, 5)` that have a form in arrays."""


def trajectories(count: int = 6, length: int = 5, seed: int = 0) -> Tensor:
    return drawn(count, length, 5, seed=seed).float()


def made(name: str) -> Energy:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return FORMS[name]()


def form_of(energy: Energy, x: Tensor, context: Tensor | None = None) -> ArrayEnergy:
    form = energy.on_arrays(x, context)
    assert form is not None
    return form


def as_quadratic(found: ArrayQuadratic, x: Tensor) -> Quadratic:
    bands = [torch.from_numpy(band) for band in found.bands] or [x.new_zeros(*x.shape, x.shape[-1])]
    if found.diagonal is not None:
        bands[0] = bands[0] + torch.diag_embed(torch.from_numpy(found.diagonal))
    return Quadratic(torch.from_numpy(found.energy), torch.from_numpy(found.gradient), tuple(bands))


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype == torch.float32
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=2e-5 * scale + 1e-6)


def assert_same(energy: Energy, x: Tensor, context: Tensor | None = None) -> None:
    with torch.no_grad():
        form = form_of(energy, x, context)
        found, expected = as_quadratic(form.quadratic(x.numpy()), x), energy.quadratic(x, context)
        assert_close(torch.from_numpy(form.value(x.numpy())), energy(x, context))
    assert_close(found.energy, expected.energy)
    assert_close(found.gradient, expected.gradient)
    assert_close(dense(found.bands), dense(expected.bands))


@pytest.mark.parametrize("name", FORMS)
def test_arrays_give_the_figures_of_torch(name: str) -> None:
    for seed in range(3):
        assert_same(made(name), trajectories(seed=seed))
    assert_same(made(name), trajectories(length=3))


@pytest.mark.parametrize("name", ["plain", "periodic", "small tilt", "sum"])
def test_chains_that_hold_still_have_the_figures_of_torch(name: str) -> None:
    x = trajectories()
    x[1:4] = x[1:4, :1]  # all windows of three chains are equal within a chain
    x[3] = x[2]  # and of two chains with each other
    x[5, 2:] = x[5, 2]
    assert_same(made(name), x)


@pytest.mark.parametrize("layout", [PLAIN, ROUND, NO_ACTIONS])
def test_contexts_count(layout: TrajectoryLayout) -> None:
    energy, x = transition(layout, base="regression", context=2), trajectories()[..., : layout.dim]
    context = drawn(6, 2, seed=1).float()
    assert_same(energy, x, context)
    with torch.no_grad():
        found = form_of(energy, x[::2], context[::2]).value(x.numpy())  # two candidates each
        assert_close(torch.from_numpy(found), energy(x, context[::2].repeat_interleave(2, dim=0)))


def test_candidates_of_several_problems_keep_their_goals_and_contexts() -> None:
    x, cost = trajectories(12), aimed() + Shifted(PLAIN, (1,))
    found = form_of(cost, x[:6]).value(x.numpy())
    assert_close(torch.from_numpy(found), cost(x))


@pytest.mark.parametrize("hidden", [(), (7,), (9, 8), (6, 5, 7)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_jacobians_are_those_of_automatic_differentiation(hidden: tuple[int, ...], outputs: int) -> None:
    network, x = MLP(4, hidden, outputs).double(), drawn(5, 4)
    layers = network.plain()
    assert layers is not None
    with torch.no_grad():
        found, slopes = outputs_and_jacobian(layers, x)
        torch.testing.assert_close(outputs_of(layers, x), network(x))
    torch.testing.assert_close(found, network(x).detach())
    expected = torch.func.vmap(torch.func.jacrev(network))(x).transpose(0, 1)
    torch.testing.assert_close(slopes, expected.detach())


class Shifted(GoalCost):
    """A cost of a user: another value than its parent's."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(x, context) + x[:, 0, 0]


class Steeper(GoalCost):
    """A cost of a user: another curvature than its parent's."""

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        return tuple(2 * band for band in super().curvature(x, context))

    def quadratic(self, x: Tensor, context: Tensor | None = None) -> Quadratic:
        model = super().quadratic(x, context)
        return Quadratic(model.energy, model.gradient, tuple(2 * band for band in model.bands))


class Curved(RegressionBase):
    """A base of a user."""

    def mean(self, inputs: Tensor) -> Tensor:
        return super().mean(inputs).tanh()


def hooked(place: str) -> Energy:
    energy = transition(PLAIN, base="regression")
    assert isinstance(energy.base, RegressionBase)
    network: Any = energy.network
    parts: dict[str, nn.Module] = {
        "energy": energy, "tilt": network, "layer": network.layers[0],
        "base": energy.base, "network of the base": energy.base.network,
    }  # fmt: skip
    parts[place].register_forward_hook(lambda module, given, outputs: 2 * outputs)
    return energy


def replaced(name: str) -> Energy:
    energy = transition(PLAIN, base="regression")
    method = getattr(energy, name)
    setattr(energy, name, lambda *given: method(*given))
    return energy


OTHERS: dict[str, Callable[[], Energy]] = {
    "no base": lambda: transition(PLAIN),
    "gaussian base": lambda: transition(PLAIN, base="gaussian"),
    "three states": lambda: transition(PLAIN, 3, "regression"),
    "noise": lambda: transition(PLAIN, base="regression", noise=True),
    "fourier": lambda: transition(
        PLAIN, base="regression", make=lambda n: FourierMLP(n, (8,), features=3, frequencies=4)
    ),
    "double": lambda: transition(PLAIN, base="regression").double(),
    "own base": lambda: TransitionEnergy(PLAIN, MLP(8, (4,)), base=Curved(MLP(5, (4,), 3), 3)),
    "own value": lambda: Shifted(PLAIN, (0,)),
    "own curvature": lambda: Steeper(PLAIN, (0,)),
    "sum of others": lambda: SmoothnessCost(PLAIN) + RewardCost(PLAIN, reward),
    "scaled other": lambda: 2 * SmoothnessCost(PLAIN),
    **{f"hook on {place}": lambda place=place: hooked(place)
       for place in ("energy", "tilt", "layer", "base", "network of the base")},
    **{f"replaced {name}": lambda name=name: replaced(name)
       for name in ("forward", "split", "windows", "quadratic", "curvature", "value_and_gradient")},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_energies_that_differ_have_no_form_in_arrays(name: str) -> None:
    assert OTHERS[name]().on_arrays(trajectories()) is None


def test_other_samples_have_no_form_in_arrays() -> None:
    energy, x = made("plain"), trajectories()
    context = torch.zeros(6, 1)
    for given in (
        (x.double(),),
        (x[:0],),
        (x[:, :1],),
        (x[..., :4],),
        (x[0],),
        (x, context),
        (x.to("meta"),),
    ):
        assert energy.on_arrays(*given) is None
    assert transition(PLAIN, base="regression", context=2).on_arrays(x) is None
    assert aimed().on_arrays(x[:4]) is None  # not a multiple of three goals
    with torch.autocast("cpu"):
        assert energy.on_arrays(x) is None


def test_weights_may_change_in_any_way_between_calls() -> None:
    energy, x = made("sum"), trajectories()
    inner: Any = next(part for part in energy.modules() if isinstance(part, TransitionEnergy))
    for change in (
        lambda: inner.network.layers[0].weight.data.mul_(2),
        lambda: inner.base.std.mul_(3),
        lambda: setattr(inner.base.network.layers[0], "bias", nn.Parameter(drawn(5, seed=6).float())),
        lambda: setattr(inner, "network", MLP(10, (4, 4))),
        lambda: setattr(inner, "tilt_weight", 0.1),
    ):
        change()
        assert_same(energy, x)


def test_forms_are_found_once_where_nothing_changes() -> None:
    energy, x = made("plain"), trajectories()
    with forms_kept():
        first = energy.on_arrays(x)
        assert energy.on_arrays(x[:2]) is first
        assert energy.on_arrays(x.double()) is None
        with forms_kept():
            assert energy.on_arrays(x) is not first
    assert energy.on_arrays(x) is not energy.on_arrays(x)


def test_own_terms_of_a_wrong_shape_are_refused() -> None:
    class Whole(Energy):
        def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
            return x.sum(dim=2)

        def quadratic(self, x: Tensor, context: Tensor | None = None) -> Quadratic:
            return Quadratic(self(x), x, (x[..., None] * x[..., None, :],))

    form = form_of(made("goal") + Whole(), trajectories())
    for call in (form.value, form.quadratic):
        with pytest.raises(InputError, match=r"energy\(x\): expected shape \(6\), got shape \(6, 5\)"):
            call(trajectories().numpy())


def test_arrays_do_not_change_what_they_are_given() -> None:
    x = trajectories().numpy()
    before = x.copy()
    with torch.no_grad():
        form = form_of(made("sum"), torch.from_numpy(x))
        form.value(x)
        form.quadratic(x)
    assert np.array_equal(x, before)
