"""Plans over choices take one of them, and models see the action that is taken."""

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary

from ebm_control import CEM, MPPI, GoalCost
from ebm_control.data import Normalizer
from ebm_control.data.actions import as_actions
from ebm_control.data.spaces import flat_actions
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.planning import Planner
from ebm_control.planning.choices import ChosenActions
from ebm_control.planning.shooting import unroll
from tests.helpers import normal, seeded

SPACE = flat_actions(Dict({"a": Discrete(3), "b": Box(-1, 1, (1,)), "c": MultiBinary(1)}))
NORMALIZER = Normalizer(
    torch.zeros(1), torch.ones(1), torch.tensor([0.3, 0.2, 0.5, 0.1, 0.6]), torch.tensor([0.5, 0.4, 0.5, 0.6, 0.5]),
    torch.ones(1),
)  # fmt: skip
MOVES = torch.tensor([-1.0, 0.0, 1.0, 0.5, 0.25])


class Linear:
    """s' = s + moves · a, of raw actions."""

    layout = TrajectoryLayout(1, 5)

    def rollout(self, x):
        def step(row, t):
            return (
                self.layout.states(row)
                + (NORMALIZER.denormalize_actions(self.layout.actions(row)) @ MOVES)[..., None]
            )

        return unroll(x, self.layout, step)[:, None]


def test_states_are_those_of_the_actions_that_are_taken():
    x = normal(20, 6, 6, dtype=torch.float32)
    found = ChosenActions(Linear(), NORMALIZER, SPACE).rollout(x)[:, 0]
    raw = NORMALIZER.denormalize_actions(x[..., 1:])
    taken = NORMALIZER.denormalize_actions(found[..., 1:])
    clipped = torch.from_numpy(as_actions(raw.numpy(), SPACE))
    inside = (raw[..., 3] >= -1) & (raw[..., 3] <= 1)
    torch.testing.assert_close(taken[inside], clipped[inside].float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, 1:, 0] - found[:, :-1, 0], (taken @ MOVES)[:, :-1], atol=1e-5, rtol=0)


def test_gradients_pass_through_a_choice():
    x = normal(4, 3, 6, dtype=torch.float32).requires_grad_()
    ChosenActions(Linear(), NORMALIZER, SPACE).rollout(x)[:, 0, -1, 0].sum().backward()
    expected = (NORMALIZER.act_std * MOVES).expand(4, 2, 5)
    torch.testing.assert_close(x.grad[:, :-1, 1:], expected)


def test_searches_reach_what_choices_reach():
    space = flat_actions(Discrete(3))
    third = torch.full((3,), 1 / 3)
    normalizer = Normalizer(torch.zeros(1), torch.ones(1), third, torch.full((3,), 0.47), torch.ones(1))

    class Walk(Linear):
        layout = TrajectoryLayout(1, 3)

        def rollout(self, x):
            def step(row, t):
                raw = normalizer.denormalize_actions(self.layout.actions(row))
                return self.layout.states(row) + 0.1 * (raw[..., 2:3] - raw[..., :1])

            return unroll(x, self.layout, step)[:, None]

    dynamics = ChosenActions(Walk(), normalizer, space)
    cost = GoalCost(Walk.layout, (0,), smooth=0.01)
    for sampler in (CEM(6, 64, 8, noise=1.0, smooth=False), MPPI(8, 64, noise=1.0, smooth=False)):
        planner = Planner(None, sampler, 6, cost, layout=Walk.layout, chains=2, dynamics=dynamics)
        plan = planner.plan([[0.0], [0.0]], [[0.3], [-0.2]], generator=seeded())
        actions = as_actions(normalizer.denormalize_actions(plan.actions).numpy(), space)
        ends = 0.1 * (actions[..., 2] - actions[..., 0]).cumsum(axis=1)
        np.testing.assert_allclose(plan.states[:, 1:, 0].numpy(), ends, atol=1e-5)
        np.testing.assert_allclose(ends[:, 2:], np.repeat([[0.3], [-0.2]], 4, axis=1), atol=0.101)
