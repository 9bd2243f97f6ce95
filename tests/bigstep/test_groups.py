"""Group masks and group accuracies, by hand and by property."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigstep.groups import accuracies, aligned_members, cells_present, members, over_represented

VALUES = {"label": ["cat", "dog"], "colour": ["red", "green"], "size": ["small", "large", "huge"]}
LABELS = np.array([0, 0, 0, 1, 1, 1])
BIAS = np.array([[0, 0], [1, 1], [0, 2], [1, 0], [0, 1], [1, 2]])
ALIGNED = np.array([True, False, True, True, False, True])


def chosen(name, aligned=ALIGNED):
    return np.flatnonzero(members(name, LABELS, BIAS, aligned, VALUES)).tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aligned", [0, 2, 3, 5]),
        ("conflicting", [1, 4]),
        ("label=cat", [0, 1, 2]),
        ("colour=green", [1, 3, 5]),
        ("size=huge", [2, 5]),
        ("label=cat,colour=red", [0, 2]),
        ("label=dog,colour=green,size=huge", [5]),
        (" label = cat , size = large ", [1]),
        ("label=cat,label=dog", []),
    ],
)
def test_grammar_of_groups(name, expected):
    assert chosen(name) == expected


@pytest.mark.parametrize(
    "name", ["", "label", "label=", "=cat", "label=bird", "shape=round", "Aligned", "label=cat,", "label==cat"]
)
def test_unknown_group_has_no_members(name):
    assert chosen(name) == []


@pytest.mark.parametrize("name", ["aligned", "conflicting"])
def test_without_a_bias_attribute_neither_side_has_members(name):
    assert chosen(name, aligned=None) == []


def test_label_named_like_an_attribute_is_found_by_its_key():
    values = {"label": ["red", "green"], "colour": ["green", "red"]}
    labels, bias = np.array([0, 1]), np.array([[0], [1]])
    assert members("label=red", labels, bias, None, values).tolist() == [True, False]
    assert members("colour=red", labels, bias, None, values).tolist() == [False, True]


def test_over_represented_is_a_share_above_the_average():
    labels = np.repeat([0, 1], 10)
    bias = np.array([0] * 8 + [1] * 2 + [0] * 1 + [1] * 9)
    assert over_represented(labels, bias, 2, 2).tolist() == [[True, False], [False, True]]


def test_independent_bias_is_over_represented_nowhere():
    labels, bias = np.repeat([0, 1], 10), np.tile([0, 1], 10)
    assert not over_represented(labels, bias, 2, 2).any()


def test_absent_class_and_value_are_over_represented_nowhere():
    table = over_represented(np.array([0, 0]), np.array([0, 0]), 2, 3)
    assert table.shape == (2, 3)
    assert not table.any()


def test_aligned_means_aligned_in_every_attribute():
    tables = [np.array([[True, False], [False, True]]), np.array([[True, False, True], [False, False, True]])]
    assert aligned_members(LABELS, BIAS, tables).tolist() == [True, False, True, False, False, True]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=50))
def test_aligned_and_conflicting_split_the_images(pairs):
    labels, bias = np.array(pairs).T
    aligned = aligned_members(labels, bias[:, None], [over_represented(labels, bias, 4, 3)])
    sides = [members(name, labels, bias[:, None], aligned, {"label": []}) for name in ("aligned", "conflicting")]
    assert (sides[0] ^ sides[1]).all()


def test_accuracies_by_hand():
    correct = np.array([True, True, False, True])
    labels, bias = np.array([0, 0, 0, 1]), np.array([[0], [0], [1], [1]])
    found = accuracies(correct, labels, bias, np.array([True, True, False, True]))
    assert found.unbiased == pytest.approx((1 + 0 + 1) / 3)  # cells, not images: 3 of 4 images are right
    assert (found.aligned, found.conflicting) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"label": ["a", "b"], "colour": ["x", "y"]}, (3, 4)),
        ({"label": ["a", "b", "c"], "colour": ["x", "y"]}, (3, 6)),
        ({"label": ["a", "b"], "colour": ["x", "y", "z"]}, (3, 6)),
    ],
)
def test_cells_without_an_image_are_counted_as_declared(names, expected):
    labels, bias = np.array([0, 0, 0, 1]), np.array([[0], [0], [1], [1]])
    assert cells_present(labels, bias, names) == expected
    assert cells_present(labels, bias[:, :0], {"label": names["label"]}) == (2, len(names["label"]))


def test_group_without_images_has_no_accuracy():
    correct, labels, bias = np.array([True]), np.array([0]), np.array([[0]])
    assert np.isnan(accuracies(correct, labels, bias, np.array([True])).conflicting)
    assert np.isnan(accuracies(correct, labels, bias, None).aligned)


def test_without_attributes_unbiased_is_the_mean_over_labels():
    correct, labels = np.array([True, True, True, False]), np.array([0, 0, 0, 1])
    assert accuracies(correct, labels, np.zeros((4, 0), int), None).unbiased == 0.5


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_unbiased_does_not_change_when_a_cell_is_repeated(rows):
    correct, labels, bias = (np.array(column) for column in zip(*rows, strict=True))
    once = accuracies(correct.astype(bool), labels, bias[:, None], None).unbiased
    cell = (labels == labels[0]) & (bias == bias[0])
    more = [np.concatenate([column, column[cell]]) for column in (correct.astype(bool), labels, bias[:, None])]
    assert accuracies(*more, None).unbiased == pytest.approx(once)
