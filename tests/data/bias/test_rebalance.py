"""Rebalanced test splits: equal cells, everything kept together, and refusals that name the empty cells."""

from dataclasses import replace

import numpy as np
import pytest

from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from data.bias.rebalance import rebalance
from data.files.builder import Built, Part

VALUES = {"place": ["land", "water"], "light": ["day", "night"]}


def make(cells, attributes=("place",), masks=False):
    """Return a set whose test split holds the given number of images per (label, value, ...), shuffled."""
    order = np.random.default_rng(0).permutation(sum(cells.values()))
    rows = np.repeat(np.array(list(cells)), list(cells.values()), axis=0)[order]
    n = len(rows)
    images = np.arange(n, dtype=np.uint8)[:, None, None, None].repeat(2, axis=1)
    test = Part(images, rows[:, 0], rows[:, 1:], np.arange(n) + 10, np.arange(n) + 20)
    mask = np.arange(2 * n).reshape(n, 2, 1) % 5 == 0 if masks else None
    return Built(
        name="birds",
        labels=["landbird", "waterbird"],
        attributes={name: VALUES[name] for name in attributes},
        input=InputSpec(height_px=2, width_px=1, channels=1),
        parts=dict.fromkeys(("train", "validation_biased", "validation", "test"), test),
        core=mask,
        spurious=mask,
    )


BIRDS = {(0, 0): 20, (0, 1): 6, (1, 0): 3, (1, 1): 11}


def test_every_cell_keeps_as_many_images_as_the_smallest():
    given = make(BIRDS)
    built = rebalance(given, seed=0)
    test = built.parts["test"]
    assert np.bincount(test.labels * 2 + test.bias[:, 0]).tolist() == [3] * 4
    assert built.findings == [
        "the test split was rebalanced: 3 images in each of 4 cells of label and bias; 28 of 40 images were left out"
    ]
    assert all(built.parts[name] is given.parts[name] for name in ("train", "validation_biased", "validation"))


def test_images_stay_in_order_and_with_all_that_belongs_to_them():
    given = make(BIRDS, masks=True)
    built = rebalance(given, seed=0)
    test, old = built.parts["test"], given.parts["test"]
    index = test.ids - 10
    assert (np.diff(index) > 0).all()
    for field in ("images", "labels", "bias", "ids", "sources"):
        np.testing.assert_array_equal(getattr(test, field), getattr(old, field)[index])
    np.testing.assert_array_equal(built.core, given.core[index])
    np.testing.assert_array_equal(built.spurious, given.spurious[index])


def test_the_choice_depends_on_the_seed_alone():
    chosen = [rebalance(make(BIRDS), seed).parts["test"].ids.tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_balanced_split_loses_nothing():
    built = rebalance(make(dict.fromkeys(BIRDS, 4)), seed=0)
    assert built.parts["test"].ids.tolist() == list(range(10, 26))
    assert "0 of 16 images were left out" in built.findings[0]


def test_two_attributes_are_crossed_and_empty_cells_named():
    cells = {(0, 0, 0): 5, (0, 1, 1): 4, (1, 0, 0): 3, (1, 0, 1): 2, (1, 1, 0): 6, (1, 1, 1): 9, (0, 0, 1): 7}
    built = rebalance(make(cells, ("place", "light")), seed=0)
    test = built.parts["test"]
    found = np.bincount(test.labels * 4 + test.bias @ [2, 1], minlength=8)
    assert found.tolist() == [2, 2, 0, 2, 2, 2, 2, 2]
    assert built.findings[1] == (
        "no test image has label=landbird,place=water,light=day: "
        "the attributes are not wholly independent in the test split"
    )


def test_many_attributes_are_crossed_without_counting_every_cell():
    given = make(BIRDS)
    test = given.parts["test"]
    wide = replace(test, bias=test.bias[:, [0] * 40])
    names = {f"place{k}": VALUES["place"] for k in range(40)}
    built = rebalance(replace(given, parts={**given.parts, "test": wide}, attributes=names), seed=0)
    assert len(built.parts["test"].ids) == 12
    assert f" and {2**41 - 4 - 5:,} more: the attributes are not wholly independent" in built.findings[1]


@pytest.mark.parametrize(
    ("cells", "got"),
    [
        ({(0, 0): 5, (1, 1): 5}, "no test image with label=landbird,place=water, label=waterbird,place=land"),
        ({(0, 0): 5, (1, 0): 5}, "no test image with label=landbird,place=water, label=waterbird,place=water"),
    ],
)
def test_labels_that_never_meet_a_value_are_refused_by_name(cells, got):
    with pytest.raises(DataError, match="cannot be rebalanced") as raised:
        rebalance(make(cells), seed=0)
    assert raised.value.got == got and "data.rebalance = false" in raised.value.do


def test_without_a_bias_attribute_there_is_nothing_to_balance():
    with pytest.raises(DataError, match="cannot be rebalanced") as raised:
        rebalance(make({(0,): 5, (1,): 5}, attributes=()), seed=0)
    assert raised.value.got == "no bias attribute"


def test_an_empty_test_split_is_refused():
    with pytest.raises(DataError, match="cannot be rebalanced"):
        rebalance(make({(0, 0): 0}), seed=0)
