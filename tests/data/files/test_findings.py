"""Findings: what concerns nothing is not said, and what is said names a few."""

import numpy as np
import pytest

from bigstep.errors import DataError
from data.files.findings import Finding, empty_cells, present, refuse_errors, report, shortened

NOTE, ERROR = Finding("note", "hidden files", ["a"]), Finding("error", "no image", ["b\n"], "add one")


def test_findings_that_concern_nothing_are_left_out():
    assert present(NOTE, Finding("error", "links", []), ERROR) == [NOTE, ERROR]


def test_a_report_begins_with_the_worst_and_spells_out_what_cannot_be_printed():
    assert report([NOTE, ERROR]) == ["error: no image (1): 'b\\n'; add one", "note: hidden files (1): a"]


@pytest.mark.parametrize(
    ("names", "count", "text"),
    [
        ("abc", None, "a, b, c"),
        ("abcde", None, "a, b, c, d, e"),
        ("abcdefg", None, "a, b, c, d, e and 2 more"),
        ("abcde", 2005, "a, b, c, d, e and 2,000 more"),
    ],
)
def test_long_lists_of_names_are_shortened(names, count, text):
    assert shortened(list(names), count) == text


def test_errors_alone_are_refused():
    assert refuse_errors("photos", [NOTE]) is None
    with pytest.raises(DataError, match=r"(?s)photos cannot be trained on.*- error: no image.*- note: hidden"):
        refuse_errors("photos", [NOTE, ERROR])


def test_cells_without_images_are_named_each_attribute_by_itself():
    columns = {"label": ["cat", "dog"], "place": ["sea", "land"], "light": ["day"]}
    bias = np.array([[0, 0], [1, 0], [1, 0]])
    assert empty_cells(columns, np.array([0, 0, 1]), bias) == ["label=dog,place=sea"]
