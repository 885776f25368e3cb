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
        rounds: rounds of training, each with as many updates as the preset has for a round of a run. A resumed run
            (`folder=`, `resume=True`) goes on with those that are left, on the data that it has.
        report: called after every round with the transitions so far and the run; True ends it.
        options: further arguments of `prepare_online`; `preset` is "offline" unless it is given.

    Returns:
        The finished run, which holds the model and the data.

    Raises:
        InputError: the data have no rewards or other coordinates than the environment, or see `prepare_online`.

    """
    _check(data, rounds, report)
    run = prepare_online(env, len(data), **{"preset": "offline"} | options)
    done = rounds * run.progress.step // len(data)
    if done == 0:
        pretrain(run, data, rounds, report)
    else:
        _learn(run, 0, len(data), range(done + 1, rounds + 1), report)
    return run


def pretrain(run: OnlineLearning, data: RolloutBuffer, rounds: int, report: Report | None = None) -> None:
    """Learn from recorded rollouts in a run, for example before it acts; their transitions count as its steps.

    Args:
        run: the run, which may go on acting later.
        data: see `learn_offline`.
        rounds: see `learn_offline`.
        report: see `learn_offline`.

    Raises:
        InputError: see `learn_offline`.

    """
    _check(data, rounds, report)
    held, first = run.experience.data, run.progress.step
    words = "{} and {} coordinates of observations and actions, periods {}"
    given, wanted = (words.format(b.obs_dim, b.act_dim, b.periods) for b in (data, held))
    require(given == wanted, "data", given=given, expected=f"{wanted}, as the environment has")
    planner: Any = run.planner
    rated = getattr(planner, "reward", None) is None or all(e.rewards is not None for e in data.episodes())
    require(rated, "data", given="episodes without rewards", expected="rollouts with rewards")
    enough, least = run.settings.steps >= first + len(data), f"at least {first + len(data)}"
    expected = f"{least}, the steps of the run and the transitions of the data"
    require(enough, "steps", given=run.settings.steps, expected=expected)
    run.experience.extend(data)
    _learn(run, first, len(data), range(1, rounds + 1), report)


def _check(data: RolloutBuffer, rounds: int, report: Report | None) -> None:
    require(isinstance(data, RolloutBuffer), "data", given=shown(data), expected="a RolloutBuffer")
    require(len(data) > 0, "data", given="no transitions", expected="at least 1")
    require_number("rounds", rounds, 1, whole=True)
    require(report is None or callable(report), "report", given=shown(report), expected="a function")


def _learn(run: OnlineLearning, first: int, count: int, rounds: range, report: Report | None) -> None:
    """The rounds of training, of which the last one ends at step `first + count`."""
    with run.session(first + count, "learning from data"):
        for done in rounds:
            run.progress.step = first + count * done // (rounds.stop - 1)
            with uninterrupted():
                run.learn()
            if report is not None and report(run.progress.step, run):
                return
