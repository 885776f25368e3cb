from dataclasses import replace

import pytest
import torch

from ebm_control.baselines import Baseline, Ensemble, FeedForward, Recurrent, futures
from ebm_control.checks import InputError
from ebm_control.data import Normalizer
from ebm_control.training.fitting import Training
from tests.baselines.helpers import cut, fitted, swings
from tests.helpers import assert_equal_up_to_rounding, seeded

FITS = {
    "feed-forward": {"hidden": (32, 32), "updates": 400},
    "ensemble": {"hidden": (32, 32), "members": 3, "updates": 400},
    "recurrent": {"hidden": 32, "window": 10, "updates": 400, "learning_rate": 5e-3},
}
NORMALIZER = Normalizer.identity(2, 1, (2.0, 0.0))
SCALE = torch.tensor([0.5, 0.3])


def untrained(kind, states_only=False):
    torch.manual_seed(0)
    layout = replace(NORMALIZER.layout, act_dim=0) if states_only else NORMALIZER.layout
    dynamics = {
        "feed-forward": lambda: FeedForward(layout, SCALE, (16,)),
        "ensemble": lambda: Ensemble(layout, SCALE, (16,), members=3),
        "recurrent": lambda: Recurrent(layout, SCALE, 16),
    }[kind]()
    return Baseline(dynamics.requires_grad_(False), NORMALIZER, Training(1), torch.ones(2))


def given(count=4, rows=3, horizon=5):
    x = torch.randn(count, rows + horizon, 3, generator=seeded())
    return x[:, :rows], x[:, rows:, 2:]


@pytest.mark.slow
@pytest.mark.parametrize("states_only", [False, True], ids=["actions", "states only"])
@pytest.mark.parametrize("kind", FITS)
def test_futures_of_a_linear_system_are_those_that_come(kind, states_only):
    model = fitted(swings(pushed=not states_only), kind, states_only=states_only, **FITS[kind])
    history, actions, truth = cut(model, swings(pushed=not states_only, seed=9), known=4, horizon=6)
    found = futures(model, history, actions, horizon=6, samples=3, generator=seeded())
    assert (found.mean(dim=1) - truth).square().mean().sqrt() < 0.1
    assert (history[:, -1:, :2] - truth).square().mean().sqrt() > 0.8  # of predicting no change
    assert model.held_out_error.max() < 0.1


@pytest.mark.parametrize("states_only", [False, True], ids=["actions", "states only"])
@pytest.mark.parametrize("kind", FITS)
def test_there_are_as_many_futures_as_asked_for(kind, states_only):
    model, (history, actions) = untrained(kind, states_only), given()
    if states_only:
        history, actions = history[..., :2], None
    for samples in (1, 4):
        found = futures(model, history, actions, horizon=5, samples=samples, generator=seeded())
        assert found.shape == (4, samples, 5, 2)
    assert torch.equal(found[:, 1:], found[:, :-1]) == (kind != "ensemble")


@pytest.mark.parametrize("kind", ["feed-forward", "recurrent"])
def test_a_single_future_is_the_rollout_and_does_not_wrap(kind):
    model, (history, actions) = untrained(kind), given(rows=1)
    x = torch.cat([history, torch.zeros(4, 5, 3)], dim=1)
    x[:, :5, 2:] = actions
    x[:, 0, 0] += 5.0  # over the seam of the ring, whose period is 2
    found = futures(model, x[:, :1], actions, horizon=5)
    assert_equal_up_to_rounding(found, model.dynamics.rollout(x)[:, :, 1:, :2])
    assert (found[..., 0] > 1).all()


@pytest.mark.parametrize("kind", FITS)
def test_last_action_known_is_replaced_by_the_first_that_is_given(kind):
    model, (history, actions) = untrained(kind), given()
    found = futures(model, history, actions, horizon=5, generator=seeded())
    other, pushed = history.clone(), actions.clone()
    other[:, -1, 2] += 3.0
    pushed[:, 0] += 3.0
    assert torch.equal(futures(model, other, actions, horizon=5, generator=seeded()), found)
    changed = futures(model, history, pushed, horizon=5, generator=seeded())
    assert ((changed - found).abs().amax(dim=-1) > 1e-4).all()
    pushed = actions.clone()
    pushed[:, 3] += 3.0
    changed = (futures(model, history, pushed, horizon=5, generator=seeded()) - found).abs().amax(dim=(1, 3))
    assert torch.equal(changed > 1e-4, (torch.arange(5) >= 3).expand(4, -1))


@pytest.mark.parametrize("kind", FITS)
def test_only_a_recurrent_model_reads_the_rows_before_the_last(kind):
    model, (history, actions) = untrained(kind), given()
    found = futures(model, history, actions, horizon=5, generator=seeded())
    for coordinate in range(3):
        other = history.clone()
        other[:, -2, coordinate] += 0.5
        changed = futures(model, other, actions, horizon=5, generator=seeded())
        assert torch.equal(changed, found) == (kind != "recurrent")


def test_recurrent_futures_go_on_from_what_the_history_left():
    model, (history, actions) = untrained("recurrent"), given()
    x = torch.cat([history, torch.zeros(4, 5, 3)], dim=1)
    x[:, 2:7, 2:] = actions
    found = futures(model, history, actions, horizon=5)[:, 0]
    assert_equal_up_to_rounding(found, model.dynamics.follow(x, 3)[:, 3:, :2])


def test_particles_of_an_ensemble_keep_their_member_in_turn():
    """With variances of nothing future k is the path of member k mod members."""
    model, (history, actions) = untrained("ensemble"), given(rows=1)
    model.dynamics.log_variance_low.fill_(-60.0)
    model.dynamics.log_variance_high.fill_(-50.0)
    x = torch.cat([history, torch.zeros(4, 5, 3)], dim=1)
    x[:, :5, 2:] = actions
    walked = model.dynamics.rollout(x)[:, :, 1:, :2]
    found = futures(model, history, actions, horizon=5, samples=7, generator=seeded())
    assert torch.allclose(found, walked[:, [0, 1, 2, 0, 1, 2, 0]], atol=1e-5)
    assert walked[..., -1, :].std(dim=1).min() > 1e-3


def test_noise_of_each_future_is_its_own_and_as_large_as_its_member_says():
    model = untrained("ensemble")
    history, actions = (part.expand(8000, -1, -1) for part in given(1, 1, 1))
    found = futures(model, history, actions, horizon=1, samples=5, generator=seeded())[:, :, 0]
    row = torch.cat([history[:1, 0, :2], actions[:1, 0]], dim=-1)
    mean, log_variance = (part[:, 0] for part in model.dynamics(model.dynamics.inputs(row).expand(3, 1, -1)))
    of = [0, 1, 2, 0, 1]
    drawn, sigma = (found - history[0, 0, :2]) / SCALE, (0.5 * log_variance).exp()
    assert torch.allclose(drawn.std(dim=0), sigma[of], rtol=0.04)
    assert ((drawn.mean(dim=0) - mean[of]).abs() < 4.5 * sigma[of] / 8000**0.5).all()
    correlation = torch.corrcoef(drawn.flatten(1).T) - torch.eye(10)
    assert correlation.abs().max() < 4.5 / 8000**0.5


def test_equal_generators_give_equal_futures_and_other_ones_do_not():
    model, (history, actions) = untrained("ensemble"), given()
    state = torch.get_rng_state()

    def drawn(samples, generator):
        return futures(model, history, actions, horizon=5, samples=samples, generator=generator)

    found = drawn(6, seeded())
    assert torch.equal(drawn(6, seeded()), found)
    assert torch.equal(drawn(4, seeded()), found[:, :4])  # the first of as many as fill the members
    assert not torch.allclose(drawn(6, seeded(1)), found, atol=1e-3)
    assert not torch.allclose(drawn(6, None), drawn(6, None), atol=1e-3)
    assert torch.equal(torch.get_rng_state(), state)
    apart = (found[:, :, None] - found[:, None]).abs().amax(dim=(0, 3, 4)) + torch.eye(6)
    assert apart.min() > 1e-2


@pytest.mark.parametrize("states_only", [False, True], ids=["actions", "states only"])
@pytest.mark.parametrize("kind", FITS)
def test_a_saved_model_has_the_futures_it_had(kind, states_only, tmp_path):
    model, (history, actions) = untrained(kind, states_only), given()
    if states_only:
        history, actions = history[..., :2], None
    model.save(tmp_path)
    back = Baseline.load(tmp_path)
    assert type(back.dynamics) is type(model.dynamics)
    assert back.layout == model.layout
    assert back.normalizer.to_dict() == NORMALIZER.to_dict()
    found, expected = (
        futures(m, history, actions, horizon=5, samples=4, generator=seeded()) for m in (back, model)
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"history": torch.zeros(4, 3)}, r"history: expected shape \(any, any, 3\), got shape \(4, 3\)"),
        ({"history": torch.zeros(3)}, r"history: expected shape \(any, any, 3\), got shape \(3,\)"),
        (
            {"history": torch.zeros(4, 3, 2)},
            r"history: expected shape \(any, any, 3\), got shape \(4, 3, 2\)",
        ),
        ({"history": torch.zeros(4, 0, 3)}, "history: expected at least 1, got no rows"),
        ({"history": torch.full((4, 3, 3), torch.nan)}, "history: expected finite values only, got 36"),
        ({"actions": None}, r"actions: expected shape \(4, 5, 1\): the model has actions, got None"),
        ({"actions": torch.zeros(4, 4, 1)}, r"actions: expected shape \(4, 5, 1\), got shape \(4, 4, 1\)"),
        ({"actions": torch.full((4, 5, 1), torch.inf)}, "actions: expected finite values only, got 20"),
        ({"horizon": 0}, "horizon: expected a whole number of at least 1, got 0"),
        ({"samples": 0}, "samples: expected a whole number of at least 1, got 0"),
    ],
)
@pytest.mark.parametrize("kind", FITS)
def test_bad_input_is_named(kind, changed, message):
    history, actions = given()
    settings = {"history": history, "actions": actions, "horizon": 5, "samples": 2} | changed
    with pytest.raises(InputError, match=message):
        futures(untrained(kind), **settings)


def test_actions_for_a_model_that_sees_none_are_refused():
    history, actions = given()
    model = untrained("ensemble", states_only=True)
    with pytest.raises(
        InputError, match=r"actions: expected None: the model has no actions, got shape \(4, 5"
    ):
        futures(model, history[..., :2], actions, horizon=5)
    with pytest.raises(InputError, match=r"history: expected shape \(any, any, 2\), got shape \(4, 3, 3\)"):
        futures(model, history, horizon=5)
