from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ebm_control.checks import InputError
from ebm_control.energies import (
    Energy,
    GaussianBase,
    OnStates,
    RegressionBase,
    TemporalConvolution,
    TrajectoryLayout,
    TransitionEnergy,
    WindowEnergy,
)
from tests.energies.helpers import gradient, network
from tests.helpers import normal

PERIODS = (2.0, 0.0)
SCALE = torch.tensor([0.5, 2.0])
X, CONTEXT = normal(3, 6, 3), normal(3, 1, seed=1)


def transition(
    window: int = 2, act_dim: int = 1, context_dim: int = 0, base: str = "none", periods: Any = PERIODS
) -> TransitionEnergy:
    layout = TrajectoryLayout(2, act_dim, periods)
    inputs = TransitionEnergy.inputs_of(layout, window, context_dim)
    measures = {
        "none": lambda: None,
        "gaussian": lambda: GaussianBase(2, torch.tensor([1.5, 0.5])),
        "regression": lambda: regression(inputs),
    }
    energy = TransitionEnergy(
        layout,
        network(inputs),
        window=window,
        base=measures[base](),
        displacement_scale=SCALE,
        context_dim=context_dim,
    )
    return energy.double()


def regression(inputs: int) -> RegressionBase:
    base = RegressionBase(network(inputs - 2, 2, seed=5), 2)
    base.set_std(torch.tensor([0.3, 0.7]))
    return base


def features(state: Tensor, periods: Any) -> Tensor:
    if not periods:
        return state
    angle = state[0] * torch.pi
    return torch.stack([state[1], angle.sin(), angle.cos()])


def displacement(later: Tensor, earlier: Tensor, periods: Any) -> Tensor:
    delta = later - earlier
    if periods:
        delta = torch.stack([(delta[0] + 1) % 2 - 1, delta[1]])
    return delta / SCALE


def by_hand(energy: TransitionEnergy, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """Base and tilt of one trajectory `(T, D)`, window by window."""
    w, periods, base, tilt = energy.window, energy.layout.periods, torch.zeros(()), torch.zeros(())
    for t in range(len(x) - w + 1):
        states, actions = x[t : t + w, :2], x[t : t + w - 1, 2:]
        steps = [displacement(states[i + 1], states[i], periods) for i in range(w - 1)]
        seen = [features(states[0], periods), *actions, *steps[:-1]]
        seen += [] if context is None else [context]
        last = steps[-1]
        if isinstance(energy.base, GaussianBase):
            last = last / energy.base.std
        elif isinstance(energy.base, RegressionBase):
            last = (last - energy.base.network(torch.cat(seen))) / energy.base.std
        if energy.base is not None:
            base = base + 0.5 * (last @ last)
            last = last.asinh()
        tilt = tilt + energy.network(torch.cat([*seen, last])).squeeze()
    return base, tilt


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("act_dim", [0, 1])
@pytest.mark.parametrize("context_dim", [0, 1])
@pytest.mark.parametrize("base", ["none", "gaussian", "regression"])
@pytest.mark.parametrize("periods", [(), PERIODS], ids=["plain", "periodic"])
def test_transition_energy_is_the_sum_of_its_windows(
    window: int, act_dim: int, context_dim: int, base: str, periods: Any
) -> None:
    energy = transition(window, act_dim, context_dim, base, periods)
    x = X[..., : 2 + act_dim]
    context = CONTEXT if context_dim else None
    parts = [by_hand(energy, row, None if context is None else context[i]) for i, row in enumerate(x)]
    bases, tilts = (torch.stack(part).double() for part in zip(*parts, strict=True))
    torch.testing.assert_close(energy.split(x, context), (bases, tilts))
    torch.testing.assert_close(energy(x, context), bases + tilts)


def test_transition_energy_does_not_see_the_last_rows_action() -> None:
    changed = X.clone()
    changed[:, -1, 2] += 1
    assert torch.equal(transition()(changed), transition()(X))
    changed[:, -2, 2] += 1
    assert (transition()(changed) != transition()(X)).all()


def window_energy() -> WindowEnergy:
    layout = TrajectoryLayout(2, 1, PERIODS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WindowEnergy(layout, displacement_scale=SCALE, context_dim=1).double()


ENERGIES: dict[str, Energy] = {
    "transition": transition(3, context_dim=1, base="regression"),
    "window": window_energy(),
}
every_energy = pytest.mark.parametrize("energy", ENERGIES.values(), ids=ENERGIES)


@every_energy
@pytest.mark.parametrize("turns", [1, -3])
def test_whole_turns_change_neither_energy_nor_gradient(energy: Energy, turns: int) -> None:
    for rows in (slice(0, 6), slice(2, 3), slice(5, 6)):
        turned = X.clone()
        turned[:, rows, 0] += turns * 2.0
        torch.testing.assert_close(energy(turned, CONTEXT), energy(X, CONTEXT), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            gradient(energy, turned, CONTEXT), gradient(energy, X, CONTEXT), rtol=1e-8, atol=1e-8
        )


@every_energy
def test_shifts_of_a_plain_coordinate_are_seen(energy: Energy) -> None:
    shifted = X.clone()
    shifted[:, :, 1] += 2.0
    assert not torch.allclose(energy(shifted, CONTEXT), energy(X, CONTEXT))


@every_energy
def test_gradient_is_right(energy: Energy) -> None:
    assert torch.autograd.gradcheck(lambda x: energy(x, CONTEXT), X.clone().requires_grad_())


@every_energy
def test_each_sample_has_an_energy_of_its_own(energy: Energy) -> None:
    alone = torch.cat([energy(X[i : i + 1], CONTEXT[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(energy(X, CONTEXT), alone)
    assert not torch.allclose(energy(X, CONTEXT + 1), alone)


@every_energy
@pytest.mark.parametrize(
    ("x", "context", "message"),
    [
        (X[0], CONTEXT, r"x: expected shape \(any, any, 3\), got shape \(6, 3\)"),
        (X[..., :2], CONTEXT, r"x: expected shape \(any, any, 3\), got shape \(3, 6, 2\)"),
        (X, None, r"context: expected .*\(3, 1\), got None"),
        (X, CONTEXT[:2], r"context: expected shape \(3, 1\), got shape \(2, 1\)"),
        (X, CONTEXT[:, 0], r"context: expected shape \(3, 1\), got shape \(3,\)"),
        (X, CONTEXT.expand(3, 2), r"context: expected shape \(3, 1\), got shape \(3, 2\)"),
    ],
    ids=["flat", "narrow", "no context", "few contexts", "flat context", "wide context"],
)
def test_wrong_inputs_are_named(energy: Energy, x: Tensor, context: Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        energy(x, context)


def test_trajectory_shorter_than_a_window_is_named() -> None:
    with pytest.raises(InputError, match=re.escape("x: expected >= 3 rows, got 2 rows")):
        transition(3)(X[:, :2])


@pytest.mark.parametrize("kind", [TransitionEnergy, WindowEnergy])
@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (torch.ones(3), r"displacement_scale: expected shape \(2\), got shape \(3,\)"),
        (torch.tensor([1.0, 0.0]), r"displacement_scale: expected positive numbers, got \[1.0, 0.0\]"),
    ],
)
def test_bad_displacement_scales_are_named(kind: type, scale: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(TrajectoryLayout(2, 1), displacement_scale=scale)


def test_window_of_one_state_is_named() -> None:
    with pytest.raises(InputError, match="window: expected a whole number of at least 2, got 1"):
        TransitionEnergy(TrajectoryLayout(2), window=1)


def test_displacement_scale_belongs_to_the_energy_alone() -> None:
    given = torch.ones(2)
    energy = TransitionEnergy(TrajectoryLayout(2), displacement_scale=given)
    given.mul_(5)
    assert torch.equal(energy.displacement_scale, torch.ones(2))
    assert "displacement_scale" in energy.state_dict()


@pytest.mark.parametrize("window", [2, 3])
def test_expected_next_state_has_no_base_energy(window: int) -> None:
    """The base's own prediction, appended, costs nothing in its window."""
    energy = transition(window, context_dim=1, base="regression")
    past = X[:, : window - 1]
    following = energy.expected_next(past, CONTEXT)
    row = torch.cat([following, torch.zeros(3, 1)], dim=-1)[:, None]
    base, _ = energy.split(torch.cat([past, row], dim=1), CONTEXT)
    torch.testing.assert_close(base, torch.zeros(3).double(), rtol=0, atol=1e-12)
    off = row.clone()
    off[..., :2] += energy.next_std()
    moved, _ = energy.split(torch.cat([past, off], dim=1), CONTEXT)
    torch.testing.assert_close(moved, torch.ones(3).double())  # two coordinates, one deviation each: 2 * ½


def test_expected_next_state_without_a_base_is_the_last_one() -> None:
    assert torch.equal(transition().expected_next(X[:, :1]), X[:, 0, :2])
    torch.testing.assert_close(transition().next_std(), SCALE.double())


def test_window_energy_sees_features_actions_and_displacements_of_every_row() -> None:
    class Seen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.x = x
            return x.sum(dim=(1, 2))[:, None]

    layout, seen = TrajectoryLayout(2, 1, PERIODS), Seen()
    energy = WindowEnergy(layout, seen, displacement_scale=SCALE, context_dim=1).double()
    energy(X, CONTEXT)
    steps = [torch.zeros(2).double()] + [
        displacement(X[0, t, :2], X[0, t - 1, :2], PERIODS) for t in range(1, 6)
    ]
    rows = [torch.cat([features(X[0, t, :2], PERIODS), X[0, t, 2:], steps[t], CONTEXT[0]]) for t in range(6)]
    torch.testing.assert_close(seen.x[0], torch.stack(rows))
    assert seen.x.shape == (3, 6, WindowEnergy.channels_of(layout, 1))


def test_default_networks_fit_their_layouts() -> None:
    layout = TrajectoryLayout(3, 2, (0.0, 2.0, 0.0))
    x, context = torch.zeros(4, 7, 5), torch.zeros(4, 2)
    assert TransitionEnergy(layout, window=3, context_dim=2)(x, context).shape == (4,)
    assert isinstance(WindowEnergy(layout).network, TemporalConvolution)
    assert WindowEnergy(layout, context_dim=2)(x, context).shape == (4,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianBase(2, -1.0), "std: expected a number above 0, got -1.0"),
        (
            lambda: RegressionBase(network(3, 2), 2).set_std(torch.ones(3)),
            "std: expected shape (2), got shape (3,)",
        ),
        (
            lambda: RegressionBase(network(3, 2), 2).set_std(torch.zeros(2)),
            "std: expected positive numbers, got [0.0, 0.0]",
        ),
    ],
)
def test_bad_base_measures_are_named(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()


def test_base_measures_are_negative_log_gaussians() -> None:
    for base in (GaussianBase(2, torch.tensor([1.5, 0.5])), regression(5)):
        base = base.double()
        inputs, delta = normal(4, 3), normal(4, 2, seed=1)
        law = torch.distributions.Normal(base.mean(inputs), base.std)
        constant = law.log_prob(base.mean(inputs)).sum(dim=-1)
        torch.testing.assert_close(base(inputs, delta), constant - law.log_prob(delta).sum(dim=-1))


def test_energy_on_states_hands_its_context_on_and_does_not_see_actions() -> None:
    energy = transition(act_dim=0, context_dim=1)
    on_states = OnStates(energy, TrajectoryLayout(2, 1, PERIODS))
    assert torch.equal(on_states(X, CONTEXT), energy(X[..., :2], CONTEXT))
    actions = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(on_states(actions, CONTEXT).sum(), actions)
    assert (slope[..., 2] == 0).all()
    assert (slope[..., :2] != 0).any()


def test_energy_on_states_refuses_trajectories_of_another_layout() -> None:
    with pytest.raises(InputError, match="x: expected shape"):
        OnStates(transition(act_dim=0), TrajectoryLayout(2, 3, PERIODS))(X)
