"""Pictures for the documentation: what they say, and that they are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from ebm_control.energies import BoxObstacle
from experiments.planning import figures as f
from experiments.planning.problems import START, obstacle


def row(method: str, planner: str, value: float, oracle: float | None = -4.0, **more: Any) -> dict[str, Any]:
    base = {"env": "Reacher", "method": method, "planner": planner, "return": value}
    return base | {"return_ci95": None, "oracle": oracle, "success": 0.5} | more


def size(path: Path) -> tuple[int, int]:
    assert path.stat().st_size < 250_000
    with Image.open(path) as image:
        return image.size


def test_the_return_lost_is_a_share_of_the_oracles() -> None:
    assert f.lost(row("EBM", "Langevin", -5.0, return_ci95=2.0)) == pytest.approx((0.25, 0.5))
    assert f.lost(row("EBM", "Langevin", -3.0)) == pytest.approx((-0.25, 0.0))  # better than the oracle found


def test_reinforcement_learning_is_labelled_with_the_steps_of_its_own() -> None:
    assert f.label_of(row("PPO", "none", -5.0, env_steps=100_352.0)) == "PPO, 100,000 steps of its own"
    assert f.label_of(row("EBM", "CEM, actions", -5.0)) == "EBM: CEM, actions"


def test_losses_below_one_percent_have_a_linear_axis() -> None:
    figure, panel = plt.subplots()
    f.loss_axis(panel.yaxis, -0.012, 2, (0, 0.01, 0.1, 1, 10))
    place = panel.transData.transform(np.array([[0, v] for v in (-0.01, 0, 0.005, 0.01, 0.1, 1)]))[:, 1]
    assert place[1] - place[0] == pytest.approx(place[3] - place[1])
    assert place[2] - place[1] == pytest.approx((place[3] - place[1]) / 2)
    assert place[4] - place[3] == pytest.approx(place[5] - place[4])
    assert [text.get_text() for text in panel.get_yticklabels()] == ["0%", "1%", "10%", "100%"]
    plt.close(figure)


def test_a_panel_of_returns_has_the_best_method_on_top() -> None:
    figure, panel = plt.subplots()
    f.draw_returns(panel, "Reacher", [row("EBM", "Langevin", -5.0), row("feed-forward", "CEM", -6.0)])
    assert [text.get_text() for text in panel.get_yticklabels()] == ["feed-forward: CEM", "EBM: Langevin"]
    assert "−4.0" in panel.get_title(loc="left")
    plt.close(figure)


def test_returns_leave_out_what_has_no_oracle(tmp_path: Path) -> None:
    rows = [row("EBM", "Langevin", -5.0), row("EBM", "CEM", -6.0)]
    alone = size(f.returns(tmp_path / "alone.png", rows))
    unknown = row("EBM", "Langevin", -7.0, None, env="Elsewhere")
    assert size(f.returns(tmp_path / "more.png", [*rows, unknown])) == alone
    known = unknown | {"oracle": -6.0, "env": "Third"}
    assert size(f.returns(tmp_path / "two.png", [*rows, known, known | {"env": "Fourth"}]))[1] > alone[1]


def test_budgets_are_drawn_for_every_method_and_engine(tmp_path: Path) -> None:
    rows = [
        row(method, planner, -5.0 - 1 / n, engine=engine, updates=n, plan_ms_p50=2.0 * n)
        for method, planner, engine in f.LINES
        for n in (1, 2, 4)
    ]
    one = size(f.budget(tmp_path / "one.png", rows))
    two = size(f.budget(tmp_path / "two.png", rows + [r | {"env": "Particle"} for r in rows]))
    assert two == (2 * one[0], one[1])


def test_energy_at_rest_is_that_of_staying_above_the_median() -> None:
    box = BoxObstacle(torch.tensor([[[-0.5, -0.5], [0.5, 0.5]]]), (0, 1), between=0)
    axis, points = f.plane(5)
    rated = f.at_rest(box, torch.from_numpy(points).float()).reshape(5, 5)
    assert np.array_equal(axis, [-1, -0.5, 0, 0.5, 1])
    assert rated[2, 2] == pytest.approx(1.0)  # two rows, each half a side deep
    assert rated.sum() == rated[2, 2]


def test_plans_are_drawn_in_the_maze_and_round_a_box(tmp_path: Path) -> None:
    _, points = f.plane(21)
    bowl = np.square(points).sum(-1).reshape(21, 21)
    line = np.linspace(START, (0.7, -0.8), 9)
    maze = f.MazePlans(bowl, 0.5, [line] * 2, [line] * 2, [-5.0, -6.0], [-4.0, -5.0])
    assert size(f.maze_plans(tmp_path / "maze.png", maze))[0] > 800
    plans = np.stack([np.linspace((-0.9, y), (0.9, y), 5) for y in (-0.5, 0.0, 0.5)])
    box = f.BoxPlans(100 * bowl, obstacle(0), plans, np.array([-1, 0, 1]))
    assert size(f.obstacle_plans(tmp_path / "box.png", box))[0] > 500
