"""Learners by their names are what they are said to be."""

import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.continual import (
    METHODS,
    ClassEnergies,
    Consolidation,
    Contrastive,
    Discriminant,
    Distillation,
    Divergence,
    Dreams,
    GatedEnergy,
    Generative,
    Intelligence,
    LearnerSettings,
    Paired,
    Softmax,
    make_learner,
)
from ebm_control.continual.methods import HIDING, NEED_BOUNDARIES, SUM_WEIGHT, UNUSED
from ebm_control.data.streams import StreamBatch

SHAPE = (1, 8, 8)


def made(method, **given):
    return make_learner(method, LearnerSettings(SHAPE, 10, width=50, **given))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_tells_classes_that_it_saw(method):
    learner = made(method, seed=3)
    x = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 2 + 4
    for _ in range(3):
        learner.observe(StreamBatch(x, labels, 0))
    learner.finish_task(x, labels)
    learner.observe(StreamBatch(x, labels + 2, 1))
    assert set(learner.predict(x).tolist()) <= {4, 5, 6, 7}
    assert learner.parameters > 1000


@pytest.mark.parametrize(
    ("method", "among", "penalty"),
    [
        ("softmax", "all", None),
        ("softmax-seen", "seen", None),
        ("softmax-batch", "batch", None),
        ("ewc", "seen", Consolidation),
        ("online-ewc", "seen", Consolidation),
        ("si", "seen", Intelligence),
        ("lwf", "seen", Distillation),
        ("lwf-mean", "seen", Distillation),
    ],
)
def test_classifiers_are_over_the_classes_and_with_the_penalty_of_their_name(method, among, penalty):
    kept = 0 if penalty is Distillation else 30
    learner = made(method, memory_size=kept)
    assert isinstance(learner, Softmax)
    assert learner.among == among
    assert [type(one) for one in learner.penalties] == ([] if penalty is None else [penalty])
    assert learner.optimizer.param_groups[0]["lr"] == 1e-3
    assert learner.memory is None if kept == 0 else learner.memory.capacity == 30


def test_distillation_is_over_classes_as_the_name_says():
    assert made("lwf").penalties[0].over_classes == "sum"
    assert made("lwf-mean").penalties[0].over_classes == "mean"


@pytest.mark.parametrize("method", ["ebm", "softmax-seen", "summed"])
def test_discriminative_learners_hide_pixels_and_average_weights(method):
    learner = made(method, memory_size=30, dropout=0.3, averaging=0.99)
    inner = learner.learner if method == "summed" else learner
    assert inner.dropout == 0.3
    assert inner.average is not None


@pytest.mark.parametrize(
    ("name", "given", "none"),
    [
        ("memory_size", 5, 0),
        ("dropout", 0.5, 0),
        ("averaging", 0.5, 0),
        ("learning_rate", 0.1, None),
        ("penalty", 1.0, None),
    ],
)
def test_what_a_method_has_no_use_for_it_refuses(name, given, none):
    default, why = UNUSED[name]
    methods = [method for method in METHODS if name not in METHODS[method].uses]
    assert default == none
    assert methods
    for method in methods:
        with pytest.raises(InputError, match=rf"^{name}: expected {none}: '{method}' {why}, got {given}"):
            made(method, **{name: given})
    made(next(method for method in METHODS if method not in methods), **{name: given})


def test_penalties_weigh_as_asked_for():
    assert made("ewc", penalty=7.0).penalties[0].weight == 7
    assert made("online-ewc").penalties[0].weight == 5000
    assert made("si").penalties[0].weight == 0.1
    assert made("si", penalty=0.0).penalties[0].weight == 0


def test_online_consolidation_has_one_term_and_the_other_one_a_task():
    assert made("ewc").penalties[0].decay is None
    assert made("online-ewc").penalties[0].decay == 1.0


@pytest.mark.parametrize(("free", "layers"), [(False, 1), (True, 2)])
def test_the_discriminative_energy_is_slow_where_it_has_nothing_to_replay(free, layers):
    learner, replaying = made("ebm", boundaries=not free), made("ebm", boundaries=not free, memory_size=30)
    assert isinstance(learner, Contrastive)
    assert (learner.energy.second is not None) == (layers == 2)
    assert learner.optimizer.param_groups[0]["lr"] == 1e-4
    assert replaying.optimizer.param_groups[0]["lr"] == 1e-3
    assert made("ebm", memory_size=30, learning_rate=1e-2).optimizer.param_groups[0]["lr"] == 1e-2


def test_energies_by_contrastive_divergence_share_a_network_or_not():
    apart, shared = made("generative-cd"), made("generative-cd-shared")
    assert isinstance(apart, Divergence)
    assert isinstance(apart.energy, ClassEnergies)
    assert isinstance(shared.energy, GatedEnergy)
    assert isinstance(made("generative"), Generative)
    assert isinstance(made("slda"), Discriminant)


def test_pairs_replay_draws_or_add_up():
    replaying, summed = made("generative-replay"), made("summed", memory_size=30)
    assert isinstance(replaying, Paired)
    assert isinstance(replaying.learner.memory, Dreams)
    assert replaying.learner.memory.source is replaying.source
    assert replaying.weight == 0
    assert summed.weight == SUM_WEIGHT
    assert summed.learner.memory.capacity == 30


@pytest.mark.parametrize("method", NEED_BOUNDARIES)
def test_methods_that_need_boundaries_say_so(method):
    with pytest.raises(InputError, match=r"^method: expected one that does not need boundaries"):
        made(method, boundaries=False)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", -1.0),
        ("memory_size", -1),
        ("width", 0),
        ("classes", 1),
        ("seed", -1),
        ("penalty", -1.0),
        ("dropout", 1.0),
        ("averaging", -0.1),
    ],
)
def test_figures_out_of_their_range_are_named(name, given):
    with pytest.raises(InputError, match=f"^{name}: expected"):
        LearnerSettings(**{"shape": SHAPE, "classes": 10, name: given})


def test_seeds_of_one_learner_differ_by_purpose():
    kind = LearnerSettings(SHAPE, 10, seed=4)
    assert len({kind.seed, *(kind.seed_of(purpose) for purpose in range(HIDING + 1))}) == HIDING + 2
    assert kind.seed_of(2) != LearnerSettings(SHAPE, 10, seed=5).seed_of(2)


@pytest.mark.parametrize("method", [["ebm"], None, 0, b"ebm", "", float("nan"), {}])
def test_methods_that_are_none_are_refused(method):
    with pytest.raises(InputError, match=r"^method: expected one of"):
        make_learner(method, LearnerSettings(SHAPE, 10))
