"""Hashes of image files: read once, noted, read again when a file changed, and copies numbered."""

import hashlib
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.files import hashing
from data.files.hashing import UNREAD, forget, hash_files, number_copies

NAMES = [f"{k}.png" for k in range(7)]


def write(folder):
    for name in NAMES:
        (folder / name).write_bytes(name.encode())


def digests(sources):
    return [row.tobytes() for row in sources.sha256]


def expected(folder):
    return [hashlib.sha256((folder / name).read_bytes()).digest() for name in NAMES]


def test_every_file_is_hashed_in_the_order_given(tmp_path):
    write(tmp_path)
    sources = hash_files(tmp_path, NAMES, None)
    assert digests(sources) == expected(tmp_path) and sources.paths == NAMES and sources.root == tmp_path


def test_a_second_pass_reads_what_is_new_or_changed_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(hashing, "NOTED_AT_ONCE", 3)
    (tmp_path / "work").mkdir()
    write(tmp_path)
    hash_files(tmp_path, NAMES[:6], tmp_path / "work")
    (tmp_path / NAMES[1]).write_bytes(b"longer than before")
    found = (tmp_path / NAMES[2]).stat()
    (tmp_path / NAMES[2]).write_bytes(NAMES[3].encode())  # as long as it was
    os.utime(tmp_path / NAMES[2], ns=(found.st_atime_ns, found.st_mtime_ns))
    right, read, take = expected(tmp_path), [], os.read

    def noted(*given):
        if content := take(*given):
            read.append(content)
        return content

    monkeypatch.setattr(hashing.os, "read", noted)
    assert digests(hash_files(tmp_path, NAMES, tmp_path / "work")) == right
    assert sorted(read) == sorted([b"longer than before", NAMES[3].encode(), NAMES[6].encode()])
    read.clear()
    hash_files(tmp_path, NAMES, tmp_path / "work")
    assert read == []
    forget(tmp_path / "work")
    hash_files(tmp_path, NAMES, tmp_path / "work")
    assert len(read) == 7


@pytest.mark.parametrize("time_ns", [-(10**18), 0, 10**19])
def test_dates_that_a_broken_clock_wrote_are_no_obstacle(tmp_path, monkeypatch, time_ns):
    """10**19 ns is the year 2286, which an int64 does not hold; inodes take all 64 bits on overlays."""
    write(tmp_path)
    for name in NAMES:
        os.utime(tmp_path / name, ns=(time_ns, time_ns))
    real = hashing.stamp
    monkeypatch.setattr(hashing, "stamp", lambda found: (*real(found)[:3], real(found)[3] + 2**63))
    first = hash_files(tmp_path, NAMES, tmp_path / "work")
    monkeypatch.setattr(hashing.os, "read", None)  # nothing is read again
    assert digests(hash_files(tmp_path, NAMES, tmp_path / "work")) == digests(first) == expected(tmp_path)


def test_a_file_that_cannot_be_read_is_zero_and_tried_again(tmp_path):
    write(tmp_path)
    (tmp_path / NAMES[4]).rename(tmp_path / "away")
    assert digests(hash_files(tmp_path, NAMES, tmp_path / "work"))[4] == UNREAD
    (tmp_path / "away").rename(tmp_path / NAMES[4])
    assert digests(hash_files(tmp_path, NAMES, tmp_path / "work")) == expected(tmp_path)


@given(st.lists(st.integers(min_value=0, max_value=5), min_size=1))
def test_copies_are_numbered_in_the_order_of_their_first_files(contents):
    hashes = np.array([list(hashlib.sha256(bytes([c])).digest()) for c in contents], dtype=np.uint8)
    numbers = {}
    assert number_copies(hashes).tolist() == [numbers.setdefault(c, len(numbers)) for c in contents]
