"""Drawn shapes: whose attributes are what they say, independent and uniform, and seen in the image."""

import itertools
import math

import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import draw_shapes
from ebm_control.data.shapes import ATTRIBUTES, SIDE
from tests.helpers import seeded


@pytest.fixture(scope="module")
def drawn():
    return draw_shapes(2400, seeded())


def where(drawn, **values):
    chosen = torch.ones(len(drawn.images), dtype=torch.bool)
    for name, value in values.items():
        chosen &= drawn.attributes[name] == value
    return drawn.images[chosen].float() / 255


def test_images_are_bytes_with_a_shape_each(drawn):
    assert drawn.images.shape == (2400, 1, SIDE, SIDE)
    assert drawn.images.dtype == torch.uint8
    assert (drawn.images.flatten(1).max(dim=1).values > 100).all()


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_values_of_an_attribute_are_equally_frequent(drawn, name):
    count = ATTRIBUTES[name]
    shares = drawn.attributes[name].bincount(minlength=count) / 2400
    assert len(shares) == count
    assert (shares - 1 / count).abs().max() < 4 * math.sqrt((1 / count) * (1 - 1 / count) / 2400)


@pytest.mark.parametrize("pair", itertools.combinations(ATTRIBUTES, 2), ids="-".join)
def test_attributes_are_independent(drawn, pair):
    a, b = (drawn.attributes[name] for name in pair)
    cells = ATTRIBUTES[pair[0]] * ATTRIBUTES[pair[1]]
    counts = (a * ATTRIBUTES[pair[1]] + b).bincount(minlength=cells)
    chi = (counts - 2400 / cells).square().sum() / (2400 / cells)
    assert chi < cells - 1 + 4 * math.sqrt(2 * (cells - 1))


def test_light_is_in_the_quarter_that_is_named(drawn):
    half = SIDE // 2
    for position, (row, column) in enumerate([(0, 0), (0, half), (half, 0), (half, half)]):
        x = where(drawn, position=position)
        inside = x[:, :, row : row + half, column : column + half].sum(dim=(1, 2, 3))
        assert (inside / x.sum(dim=(1, 2, 3))).min() > 0.85


def area(images):
    """Pixels covered, of images whose tone does not matter."""
    return (images / images.amax(dim=(2, 3), keepdim=True)).sum(dim=(1, 2, 3))


@pytest.mark.parametrize("shape", range(ATTRIBUTES["shape"]))
def test_large_shapes_cover_more_than_small_ones(drawn, shape):
    small, large = (area(where(drawn, shape=shape, size=size)) for size in (0, 1))
    assert large.min() > 1.5 * small.max()


def test_discs_and_squares_cover_their_area_and_are_of_the_same():
    drawn = draw_shapes(1200, seeded(1))
    for size, radius in ((0, 2.8), (1, 5.4)):
        disc, square = (area(where(drawn, shape=shape, size=size)).mean() for shape in (0, 1))
        assert float(disc) == pytest.approx(math.pi * radius**2, rel=0.05)
        assert float(square) == pytest.approx(float(disc), rel=0.05)


def test_white_is_brighter_than_grey(drawn):
    grey, white = (where(drawn, tone=tone).amax(dim=(1, 2, 3)) for tone in (0, 1))
    assert grey.max() <= 0.56
    assert grey.min() > 0.4
    assert white.min() > 0.85


def test_outlines_tell_shapes_apart(drawn):
    """At the corner of its bounding box a square is full, a disc is not and a cross is empty."""
    levels = []
    for shape in range(3):
        x = where(drawn, shape=shape, size=1, tone=1)[:, 0]
        lit = x > 0.4 * x.amax(dim=(1, 2), keepdim=True)
        rows, columns = lit.any(dim=2).int().argmax(dim=1), lit.any(dim=1).int().argmax(dim=1)
        levels.append(x[torch.arange(len(x)), rows + 1, columns + 1])
    disc, square, cross = levels
    assert square.min() > 0.8
    assert cross.max() == 0
    assert disc.mean() < 0.3


def test_images_of_equal_attributes_are_jittered(drawn):
    same = where(drawn, shape=0, position=0, size=0, tone=1)
    assert len(same.flatten(1).unique(dim=0)) == len(same) > 10


def test_equal_seeds_draw_equal_images():
    a, b, c = (draw_shapes(50, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(a.images, b.images)
    assert all(torch.equal(a.attributes[name], b.attributes[name]) for name in ATTRIBUTES)
    assert not torch.equal(a.images, c.images)


def test_withheld_combinations_never_occur_and_the_others_as_often():
    drawn = draw_shapes(
        2200, seeded(), without=[{"shape": 1, "position": 2}, {"tone": 0, "size": 1, "shape": 0}]
    )
    shape, position, size, tone = (drawn.attributes[name] for name in ATTRIBUTES)
    assert len(shape) == len(drawn.images) == 2200
    assert not ((shape == 1) & (position == 2)).any()
    assert not ((tone == 0) & (size == 1) & (shape == 0)).any()
    cells = ((shape * 4 + position) * 2 + size) * 2 + tone
    counts = cells.bincount(minlength=48)
    assert int((counts > 0).sum()) == 48 - 4 - 4
    expected = 2200 / 40
    assert (counts[counts > 0] - expected).abs().max() < 4.5 * math.sqrt(expected)


def test_only_what_is_left_is_drawn_where_almost_all_is_withheld():
    without = [{"shape": s} for s in (0, 1)] + [{"position": p} for p in (0, 1, 3)] + [{"size": 0}]
    drawn = draw_shapes(60, seeded(), without=without)
    assert {name: set(values.tolist()) for name, values in drawn.attributes.items()} == {
        "shape": {2},
        "position": {2},
        "size": {1},
        "tone": {0, 1},
    }


def test_a_set_by_one_attribute_has_its_values_as_classes(drawn):
    for name, count in ATTRIBUTES.items():
        data = drawn.labelled(name, test=400)
        assert data.classes == count
        assert data.shape == (1, SIDE, SIDE)
        assert torch.equal(torch.cat([data.labels, data.test_labels]), drawn.attributes[name])
        assert torch.equal(torch.cat([data.images, data.test_images]), drawn.images)
        assert len(data.test_images) == 400
        assert name in data.name


def test_what_cannot_be_drawn_is_named(drawn):
    with pytest.raises(InputError, match=r"^without: expected attributes of .*, got \{'colour': 1\}"):
        draw_shapes(5, seeded(), without=[{"colour": 1}])
    with pytest.raises(InputError, match=r"^without: expected attributes of .*, got \{'tone': 2\}"):
        draw_shapes(5, seeded(), without=[{"shape": 0, "tone": 2}])
    with pytest.raises(InputError, match=r"^without: expected combinations that leave some"):
        draw_shapes(5, seeded(), without=[{"tone": 0}, {"tone": 1}])
    with pytest.raises(InputError, match=r"^attribute: expected one of .*, got colour"):
        drawn.labelled("colour")
    with pytest.raises(InputError, match=r"^test: expected less than 2400"):
        drawn.labelled("tone", test=2400)
