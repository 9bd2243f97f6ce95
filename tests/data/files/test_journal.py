"""The journal of what is done: what was written whole is read again, whatever a killed process left behind it."""

import pytest

from data.files.journal import Journal


def test_values_come_back_in_order(tmp_path):
    values = [{"start": 0}, ["a\udcff\n", 1], None]
    Journal(tmp_path / "work" / "x.jsonl").append(*values[:2])
    Journal(tmp_path / "work" / "x.jsonl").append(values[2])
    assert list(Journal(tmp_path / "work" / "x.jsonl").entries()) == values


def test_no_file_has_no_entries(tmp_path):
    assert list(Journal(tmp_path / "x.jsonl").entries()) == []


@pytest.mark.parametrize("lost", [1, 2, 5, 12])
def test_a_line_that_was_cut_short_is_passed_over_and_no_other_lost(tmp_path, lost):
    journal = Journal(tmp_path / "x.jsonl")
    journal.append([1, "first"])
    journal.append([2, "second"])
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:-lost] + b"\0")
    journal.append([3, "third"])
    assert list(journal.entries()) == [[1, "first"], [3, "third"]]
