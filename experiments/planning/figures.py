"""Figures for the documentation: plans in the maze and round a box, returns, and return by planning time.

`python -m experiments.planning.figures [--results DIR] [--out docs/figures] [--only NAME ...]` trains for the first
two and reads `DIR/planning.json`, `DIR/reinforcement.json` and `DIR/budget.json` for the others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image

from ebm_control.energies import Energy
from ebm_control.planning import Guided, run_episodes
from ebm_envs.maze import MazeEnv
from experiments.planning import methods as m
from experiments.planning.budget import summarised, timed
from experiments.planning.diversity import box_of, round_boxes, sides
from experiments.planning.problems import MAZES, PARTICLE, START, data_of, obstacle
from experiments.planning.report import table_rows
from experiments.planning.rows import Row

matplotlib.use("Agg")  # figures are written to files; no display is needed
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, StrMethodFormatter

from experiments.processes import as_program
from experiments.records import read
from experiments.runs import chosen

Array = NDArray[np.float64]

# Okabe and Ito's colours, which colour-blind readers can distinguish too.
BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
YELLOW, BLUE, RED, PINK = "#f0e442", "#0072b2", "#d55e00", "#cc79a7"
METHODS = {
    "EBM": (BLUE, "o"),
    "feed-forward": (ORANGE, "s"),
    "ensemble of 5": (GREEN, "D"),
    "PPO": (RED, "^"),
    "SAC": (PINK, "v"),
}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 110,
}
SMALL: dict[str, Any] = {"fontsize": 8, "color": "#444444"}
LINES = {  # by method, planner and engine
    ("EBM", "Langevin, states and actions", "eager"): ("EBM, Langevin", BLUE, "o", "-"),
    ("EBM", "Langevin, states and actions", "compile"): ("EBM, Langevin, compiled", SKY, "o", "--"),
    ("EBM", "MPPI, actions", "eager"): ("EBM, MPPI", GREEN, "D", "-"),
    ("feed-forward", "MPPI, actions", "eager"): ("feed-forward, MPPI", RED, "s", "-"),
    ("feed-forward", "CEM, actions", "eager"): ("feed-forward, CEM", ORANGE, "^", "-"),
}


def saved(figure: Any, path: Path) -> Path:
    """Write the figure to `path` in 256 colours, a third of the size with the same look, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    return path


def minus(value: float) -> str:
    """Text of a value with one decimal and a true minus sign."""
    return f"{value:.1f}".replace("-", "−")


def plane(count: int = 161) -> tuple[Array, Array]:
    """A grid over [-1, 1]²: its axis `(count,)` and its points `(count², 2)`, with y as the slower coordinate."""
    axis = np.linspace(-1, 1, count)
    return axis, np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


@torch.no_grad()
def at_rest(energy: Energy, rows: torch.Tensor) -> Array:
    """Energy `(n,)` of staying in each state `(n, D)` for one step, relative to the median."""
    rated = energy(torch.stack([rows, rows], dim=1)).double()
    return (rated - rated.median()).numpy()


def draw_plane(axis: Any, title: str) -> None:
    """Set limits, labels and title of a panel of the plane."""
    axis.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="x", ylabel="y", title=title, aspect="equal")
    axis.set_xticks([-1, -0.5, 0, 0.5, 1])
    axis.set_yticks([-1, -0.5, 0, 0.5, 1])
    axis.grid(False)
    axis.spines[["top", "right"]].set_visible(True)


def draw_ends(axis: Any, start: Sequence[float], goal: Sequence[float]) -> None:
    axis.plot(*start, "o", color="white", markeredgecolor="black", markersize=8, label="start", zorder=6)
    axis.plot(*goal, "*", color=YELLOW, markeredgecolor="black", markersize=14, label="goal", zorder=6)


@dataclass(frozen=True)
class MazePlans:
    """Data of `maze_plans`: energy `(n, n)`, the roadmap's threshold, and a route and a path for each pair."""

    energy: Array
    threshold: float
    routes: list[Array]
    paths: list[Array]
    returns: list[float]
    oracles: list[float]


def plan_maze(seed: int = 0) -> MazePlans:
    """Train both energies on random data of the maze and run an episode of each fixed pair."""
    data = data_of(MAZES[0].env, seed)
    fine, coarse = m.fine_and_coarse(data, seed)
    normalizer = coarse.model.normalizer

    def scaled(places: Any) -> torch.Tensor:
        return normalizer.normalize_observations(torch.as_tensor(np.atleast_2d(places))).float()

    routes, paths, returns, oracles, threshold = [], [], [], [], 0.0
    for problem in MAZES:
        agent = m.guided_method(problem, fine, coarse, data, seed=seed).agent
        assert isinstance(agent.planner, Guided)
        goal = problem.arguments["goal"]
        route = agent.planner.guide.routes(scaled(START), scaled(goal), torch.Generator())
        routes.append(normalizer.denormalize_observations(route[0]).double().numpy())
        found = run_episodes(agent, [problem.make()], seed=10_000 + 1000 * seed)
        paths.append(found.observations[:, 0])
        returns.append(found.mean)
        oracles.append(problem.oracle(found.observations[0, 0], np.asarray(goal), {}))
        threshold = agent.planner.line_of_sight.threshold
    axis, points = plane()
    rated = at_rest(coarse.model.energy, scaled(points))
    with torch.no_grad():
        middle = float(coarse.model.energy(scaled(points)[:, None].expand(-1, 2, -1)).median())
    return MazePlans(rated.reshape(len(axis), -1), threshold - middle, routes, paths, returns, oracles)


def maze_plans(path: Path, plans: MazePlans) -> Path:
    """Plot the coarse energy at rest, the roadmap's route and the executed path, one panel per pair."""
    axis, _ = plane(len(plans.energy))
    top = float(np.quantile(plans.energy, 0.97))
    levels = np.linspace(plans.energy.min(), top, 24)
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 4.6), sharey=True)
    drawn = zip(axes, MAZES, plans.routes, plans.paths, plans.returns, plans.oracles, strict=True)
    for panel, problem, route, driven, value, best in drawn:
        shade = panel.contourf(axis, axis, plans.energy, levels=levels, cmap="Blues", extend="max")
        panel.contour(axis, axis, plans.energy, levels=[plans.threshold], colors=BLACK, linewidths=0.8)
        panel.plot([], [], color=BLACK, lw=0.8, label="limit of the roadmap's lines")
        for low, high in MazeEnv.walls[:2]:
            style: dict[str, Any] = {"hatch": "///", "edgecolor": "#555555", "lw": 1.2, "label": "wall"}
            panel.add_patch(Rectangle(low, *(high - low), fill=False, **style))
        panel.plot(*route.T, "--", color=ORANGE, lw=1.6, marker=".", label="route of the roadmap")
        panel.plot(*driven.T, color=RED, lw=2.2, label="path driven")
        draw_ends(panel, START, problem.arguments["goal"])
        draw_plane(panel, f"{problem.name}: return {minus(value)} (oracle {minus(best)})")
    axes[1].set_ylabel("")
    bar = figure.colorbar(shade, ax=axes, label="coarse energy at rest, above its median", shrink=0.9)
    bar.set_ticks(range(math.ceil(plans.energy.min()), math.floor(top) + 1))
    entries = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))  # each label once
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=6, columnspacing=1.4)
    return saved(figure, path)


@dataclass(frozen=True)
class BoxPlans:
    """Data of `obstacle_plans`: energy `(n, n)`, the problem, plans `(K, T, 2)` and the `side` of each.

    `side` is 1 if the true path passes the box anticlockwise, -1 if clockwise, and 0 for plans that are invalid in
    the true environment.
    """

    energy: Array
    problem: dict[str, Any]
    plans: Array
    side: NDArray[np.int64]


def plan_round_box(seed: int = 0, problem: int = 5) -> BoxPlans:
    """Train on the open plane, and plan round a box that is not in the data, starting from many random curves."""
    model = m.energy(data_of(PARTICLE.env, seed), seed, base_updates=3000).model
    env: Any = gym.make(PARTICLE.env).unwrapped
    normalizer, layout, posed = model.normalizer, model.layout, obstacle(problem)
    (chains,) = round_boxes(model, [posed], env.action_space, seed)
    plans = normalizer.denormalize_observations(layout.states(chains)).double().numpy()
    axis, points = plane()
    places = normalizer.normalize_observations(torch.as_tensor(points)).float()
    rows = layout.join(places, torch.zeros(len(points), layout.act_dim))
    weight = 10 * float(model.energy.base.std.square().amin())
    rated = at_rest(weight * model.energy + box_of(model, [posed]), rows)
    return BoxPlans(rated.reshape(len(axis), -1), posed, plans, sides(model, chains, posed, env))


def obstacle_plans(path: Path, found: BoxPlans) -> Path:
    """Plot energy and box over the plane, and every chain's plan, coloured by the side on which it passes the box."""
    axis, _ = plane(len(found.energy))
    figure, panel = plt.subplots(figsize=(6.6, 5.2))
    levels = np.append(found.energy.min(), np.arange(25, found.energy.max() + 50, 50))
    shade = panel.contourf(axis, axis, found.energy, levels=levels, cmap="Greys")
    for low, high in found.problem["obstacles"]:
        panel.add_patch(Rectangle(low, *(high - low), fill=False, edgecolor=BLACK, lw=1.4, zorder=3))
    for side, colour, name in (
        (1, BLUE, "anticlockwise"),
        (-1, RED, "clockwise"),
        (0, "#b4b4b4", "not valid"),
    ):
        group = found.plans[found.side == side]
        for k, plan in enumerate(group):
            label = f"{name}, {len(group)} plans" if k == 0 else None
            panel.plot(*plan.T, color=colour, lw=1.3 if side else 0.8, label=label, zorder=4 if side else 2)
    draw_ends(panel, found.problem["start"], found.problem["goal"])
    valid = int((found.side != 0).sum())
    draw_plane(panel, f"Plans round a box that no data knew of: {valid} of {len(found.plans)} chains work")
    bar = figure.colorbar(shade, ax=panel, label="energy + box cost at rest, above their median")
    bar.set_ticks(range(0, int(levels[-1]) + 1, 100))
    figure.legend(loc="outside lower center", ncols=3)
    return saved(figure, path)


def label_of(row: Row) -> str:
    """A row's method and planner, short enough for a label next to its mark."""
    if row["method"] in ("PPO", "SAC"):
        return f"{row['method']}, {round(row['env_steps'], -4):,.0f} steps of its own"
    return f"{row['method']}: {row['planner']}"


def loss_axis(axis: Any, low: float, high: float, ticks: Sequence[float]) -> None:
    """Set up an axis (`panel.xaxis` or `panel.yaxis`) of the return lost: linear up to 1 %, then logarithmic."""
    panel, which = axis.axes, axis.axis_name
    getattr(panel, f"set_{which}scale")("symlog", linthresh=0.01, linscale=0.5)
    getattr(panel, f"set_{which}lim")(low, high)
    axis.set_major_locator(FixedLocator([tick for tick in ticks if tick <= high]))
    axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_minor_locator(NullLocator())


def lost(row: Row) -> tuple[float, float]:
    """Return lost as a share of the oracle's return, and the half-width of its interval (0 without one)."""
    half = row["return_ci95"] or 0.0
    return row["return"] / row["oracle"] - 1, half / abs(row["oracle"])


def draw_returns(panel: Any, name: str, rows: Iterable[Row]) -> None:
    """Draw the return lost in each row, best on top, with its interval and success rate."""
    ordered, beside = sorted(rows, key=lambda row: row["return"]), ("axes fraction", "data")
    for y, row in enumerate(ordered):
        colour, marker = METHODS.get(row["method"], (BLACK, "x"))
        mean, half = lost(row)
        panel.plot([mean - half, mean + half], [y, y], color=colour, lw=1.6)
        panel.plot(mean, y, marker, color=colour, markersize=6)
        panel.annotate(f"{row['success']:.0%}", (1.02, y), xycoords=beside, va="center", **SMALL)
    panel.annotate("success", (1.03, len(ordered) - 0.4), xycoords=beside, va="bottom", **SMALL)
    panel.axvline(0, color=BLACK, lw=1, ls=":")
    panel.set_yticks(range(len(ordered)), [label_of(row) for row in ordered], fontsize=8)
    panel.set_ylim(-0.6, len(ordered) - 0.4)
    loss_axis(panel.xaxis, -0.012, 20, (0, 0.01, 0.1, 1, 10))
    panel.set_title(
        f"{name} (oracle {minus(max(ordered, key=lambda row: row.get('seeds', 1))['oracle'])})", loc="left"
    )
    panel.grid(axis="y", visible=False)


def returns(path: Path, rows: list[Row], columns: int = 2) -> Path:
    """Plot the return lost against the oracle for all methods, one panel per problem that has an oracle."""
    rated = [row for row in rows if row.get("oracle") is not None]
    panels = {
        name: [row for row in rated if row["env"] == name] for name in sorted({r["env"] for r in rated})
    }
    names = sorted(panels, key=lambda name: -len(panels[name]))
    lines = [names[i : i + columns] for i in range(0, len(names), columns)]
    heights = [len(panels[line[0]]) + 2.4 for line in lines]
    figure, axes = plt.subplots(
        len(lines), columns, figsize=(12, 0.23 * sum(heights)), height_ratios=heights, squeeze=False
    )
    for panel, name in zip(axes.flat, names, strict=False):
        draw_returns(panel, name, panels[name])
    for panel in axes.flat[len(names) :]:
        panel.remove()
    caption = (
        "return lost against the oracle, with 95 % interval over seeds where there are several (0 % = oracle)"
    )
    figure.supxlabel(caption, fontsize=9)
    return saved(figure, path)


def budget(path: Path, rows: list[Row]) -> Path:
    """Plot the return lost by planning time, one panel per problem, one line per method and engine."""
    names = list(dict.fromkeys(row["env"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 4.4), sharey=True, squeeze=False)
    worst = max(sum(lost(row)) for row in rows)
    for panel, name in zip(axes[0], names, strict=True):
        here = [row for row in rows if row["env"] == name]
        for kind, (label, colour, marker, dash) in LINES.items():
            line = [row for row in here if (row["method"], row["planner"], row["engine"]) == kind]
            line.sort(key=lambda row: row["updates"])
            means, halves = np.array([lost(row) for row in line]).reshape(-1, 2).T
            panel.errorbar(
                [row["plan_ms_p50"] for row in line],
                means,
                halves,
                color=colour,
                marker=marker,
                linestyle=dash,
                markersize=5,
                elinewidth=1,
                label=label,
            )
        panel.axhline(0, color=BLACK, lw=1, ls=":")
        panel.set(xscale="log", xlabel="median time of a plan from one start, ms (one thread)")
        panel.set_title(f"{name} (oracle {minus(here[0]['oracle'])})")
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        loss_axis(panel.yaxis, -0.012, 1.3 * worst, (0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10))
    axes[0][0].set_ylabel("return lost against the oracle")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return saved(figure, path)


def budget_rows(folder: Path) -> list[Row]:
    """Rows of the budget table with their times."""
    results = read(folder / "budget.json", "record")["results"]
    return timed(summarised(results["by_seed"]), results["timing"])


PICTURES: dict[str, Callable[[Path, Path], Path]] = {
    "maze_plans": lambda path, _: maze_plans(path, plan_maze()),
    "obstacle_plans": lambda path, _: obstacle_plans(path, plan_round_box()),
    "returns": lambda path, results: returns(path, table_rows(results)),
    "budget": lambda path, results: budget(path, budget_rows(results)),
}


@dataclass
class Figures:
    """Figures for the documentation."""

    results: Path = Path("experiments/results")
    """Folder of the records."""
    out: Path = Path("docs/figures")
    """Folder of the figures."""
    only: tuple[str, ...] = tuple(PICTURES)
    """Names of the figures to draw."""


def main() -> None:
    settings = tyro.cli(Figures)
    torch.set_num_threads(1)
    with plt.rc_context(STYLE):
        for name in chosen("only", settings.only, PICTURES):
            began = time.perf_counter()
            made = PICTURES[name](settings.out / f"{name}.png", settings.results)
            took = time.perf_counter() - began
            print(f"{made}: {made.stat().st_size / 1000:.0f} kB, {took:.0f} s", flush=True)


if __name__ == "__main__":
    as_program(main)
