"""Blocks cover every row once, and files written by them are those of numpy."""

import os

import numpy as np
import pytest

from bigstep.errors import DataError
from data.files import blocks
from data.files.blocks import ArrayFile


@pytest.mark.parametrize(("n", "limit", "expected"), [(5, 24, [(0, 2), (2, 4), (4, 5)]), (2, 1, [(0, 1), (1, 2)])])
def test_blocks_cover_every_row_once(n, limit, expected, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", limit)
    assert [(rows.start, rows.stop) for rows in blocks.blocks((n, 2, 2, 3))] == expected


def test_blocks_have_no_more_images_than_asked_for():
    assert [(rows.start, rows.stop) for rows in blocks.blocks((5, 2, 2, 3), 3)] == [(0, 3), (3, 5)]


def test_no_images_are_no_blocks():
    assert list(blocks.blocks((0, 2, 2, 3))) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
@pytest.mark.parametrize("shape", [(5, 3, 2), (0, 4)])
def test_a_file_written_in_any_order_has_the_bytes_of_numpy(tmp_path, dtype, shape):
    array = (np.arange(np.prod(shape)).reshape(shape) % 3).astype(dtype)
    np.save(tmp_path / "whole.npy", array)
    file = ArrayFile(tmp_path / "blocks.npy", dtype, shape)
    assert file.bytes == (tmp_path / "whole.npy").stat().st_size
    for rows in (slice(3, 5), slice(0, 3)) if shape[0] else ():
        assert file.write(rows, array[rows], before=7) == file.checksum(rows, before=7)
    file.close()
    assert (tmp_path / "blocks.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_file_is_gone_on_with_if_it_is_of_the_same_shape(tmp_path):
    for shape, kept in [((4, 2), False), ((4, 2), True), ((2, 4), False)]:
        file = ArrayFile(tmp_path / "x.npy", np.uint8, shape)
        rows = slice(0, shape[0])
        full = np.full(shape, 7, np.uint8)
        empty = file.checksum(rows)
        file.write(rows, full)
        assert (empty == file.checksum(rows)) == kept
        file.close()
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    file = ArrayFile(tmp_path / "x.npy", np.uint8, (2, 4))
    file.close()
    assert (np.load(tmp_path / "x.npy") == 0).all()


def test_a_checksum_sees_every_byte_and_what_came_before(tmp_path):
    file = ArrayFile(tmp_path / "x.npy", np.uint8, (3, 4))
    file.write(slice(0, 3), np.arange(12, dtype=np.uint8))
    before = file.checksum(slice(1, 3))
    assert before != file.checksum(slice(1, 3), before=1) and before != file.checksum(slice(0, 2))
    file.write(slice(2, 3), np.array([8, 9, 10, 12], np.uint8))
    assert file.checksum(slice(1, 3)) != before
    file.close()


def test_a_new_file_takes_no_room_until_it_is_written(tmp_path):
    file = ArrayFile(tmp_path / "x.npy", np.uint8, (2**12, 2**12))
    assert file.missing_bytes > 2**23
    file.close()


def test_a_file_that_is_cut_off_while_it_is_written_is_an_error(tmp_path):
    file = ArrayFile(tmp_path / "x.npy", np.uint8, (4, 8))
    os.truncate(tmp_path / "x.npy", 140)
    with pytest.raises(DataError, match="was cut off while it was written"):
        file.finish()
    file.close()
