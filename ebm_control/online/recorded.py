"""Learning from recorded rollouts, with the models, the planner and the policies of online learning."""

from __future__ import annotations

from typing import Any

from ebm_control.checks import require, require_number, shown
from ebm_control.data import RolloutBuffer
from ebm_control.data.environments import EnvLike
from ebm_control.interrupts import uninterrupted
from ebm_control.online.loop import OnlineLearning, Report
from ebm_control.online.presets import prepare_online


def learn_offline(
    env: EnvLike, data: RolloutBuffer, *, rounds: int = 20, report: Report | None = None, **options: Any
) -> OnlineLearning:
    """Learn to control an environment from recorded rollouts alone: `learn_offline(env, data).agent()` is the agent.

    The dynamics, the reward, termination, and the policy and value of the data are learned; plans are a search around
    that policy. Nothing acts in the environment, of which only the spaces are used.

    Args:
        env: id, function or environment, see `learn_online`.
        data: rollouts with rewards, for example of `read`.
        rounds: rounds of training, each with as many updates as the preset has for a round of a run.
        report: called after every round with the transitions so far and the run; True ends it.
        options: further arguments of `prepare_online`; `preset` is "recorded" unless it is given.

    Returns:
        The finished run, which holds the model and the data.

    Raises:
        InputError: the data have no rewards or other coordinates than the environment, or see `prepare_online`.

    """
    require(isinstance(data, RolloutBuffer), "data", given=shown(data), expected="a RolloutBuffer")
    require(len(data) > 0, "data", given="no transitions", expected="at least 1")
    run = prepare_online(env, len(data), **{"preset": "recorded"} | options)
    take_in(run, data, rounds, report)
    return run


def take_in(run: OnlineLearning, data: RolloutBuffer, rounds: int, report: Report | None = None) -> None:
    """Learn from recorded rollouts in a run; their transitions count as its steps.

    Args:
        run: the run, which may go on acting later.
        data: see `learn_offline`.
        rounds: see `learn_offline`.
        report: see `learn_offline`.

    Raises:
        InputError: see `learn_offline`.

    """
    require_number("rounds", rounds, 1, whole=True)
    held = run.experience.data
    given, wanted = f"{data.obs_dim} and {data.act_dim}", f"{held.obs_dim} and {held.act_dim}"
    expected = f"{wanted} coordinates of observations and actions, as the environment has"
    require(given == wanted, "data", given=given, expected=expected)
    require(
        all(episode.rewards is not None for episode in data.episodes()),
        "data",
        given="episodes without rewards",
        expected="rollouts with rewards",
    )
    run.experience.extend(data)
    first = run.progress.step
    with run.session(first + len(data), "learning from data"):
        for done in range(1, rounds + 1):
            run.progress.step = first + len(data) * done // rounds
            with uninterrupted():
                run.learn()
            if report is not None and report(run.progress.step, run):
                return
