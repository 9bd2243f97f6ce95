"""Image files decoded into the record: interrupted at any block, with changed sources, planted, and left out."""

import os
import shutil
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.images import Images
from bigstep.records.sealed import WORK, read_manifest
from data import stage
from data.bias.plant import plant
from data.bias.rebalance import rebalance
from data.files import blocks, deferred, writing
from data.sets import folder

PER_CLASS = 40
SIDE_PX = 8


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Return a CSV set of two classes with a biased column, a copy, and grey and look-alike pictures. Read-only."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    lines = ["path,label,hue,id"]
    for number in range(2 * PER_CLASS):
        label = number % 2
        pixels = rng.integers(0, 256, size=(11, 9, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).convert("L" if number % 10 == 3 else "RGB")
        image.save(root / f"{number:02}.png")
        lines.append(f"{number:02}.png,{('cat', 'dog')[label]},{('red', 'blue')[label ^ (number % 8 >= 6)]},{number}")
    shutil.copyfile(root / "05.png", root / "07.png")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 5 * SIDE_PX * SIDE_PX * 3)  # five images


def config(root, **settings):
    given = {"kind": "folder", "path": str(root), "bias": ("hue",), "size_px": SIDE_PX, **settings}
    return DataConfig.model_validate(given)


def made(settings, out):
    out.mkdir(exist_ok=True)
    return stage.run(settings, out=out)


class Stopped(Exception):
    """Stand for whatever ends a process."""


def stop_after(monkeypatch, reads):
    """Let decoding end after some pictures; return the numbers of those that were read."""
    read, numbers = deferred.read_image_file, []

    def counted(path, spec):
        if len(numbers) == reads:
            raise Stopped
        numbers.append(path.name)
        return read(path, spec)

    monkeypatch.setattr(deferred, "read_image_file", counted)
    return numbers


PLANTED = {"plant": {"kind": "background", "conflicting": 0.1}, "rebalance": True}


@pytest.mark.parametrize("settings", [{}, PLANTED])
def test_an_interrupted_build_goes_on_to_the_same_digest(photos, tmp_path, monkeypatch, small_blocks, settings):
    whole = made(config(photos, **settings), tmp_path / "whole")
    monkeypatch.setattr(writing, "in_order", lambda work, tasks: (work(task) for task in tasks))  # one at a time
    numbers = stop_after(monkeypatch, 33)
    with pytest.raises(Stopped):
        made(config(photos, **settings), tmp_path / "broken")
    monkeypatch.undo()
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 5 * SIDE_PX * SIDE_PX * 3)
    again = stop_after(monkeypatch, -1)
    record = made(config(photos, **settings), tmp_path / "broken")
    assert record.digest == whole.digest and record.info == whole.info
    assert Images.open(record.folder).digest == whole.digest  # the bytes have the hashes that were taken on the way
    assert any("greyscale" in finding for finding in record.info.findings)
    assert len(numbers) == 33 and len(again) == 2 * PER_CLASS - 30  # all but six whole blocks
    assert not (record.folder / WORK).exists()


def test_blocks_whose_bytes_were_lost_or_whose_sources_changed_are_made_again(
    photos, tmp_path, monkeypatch, small_blocks
):
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    settings = config(root)
    monkeypatch.setattr(stage, "draw", lambda *_: (_ for _ in ()).throw(Stopped()))  # when all blocks are there
    with pytest.raises(Stopped):
        made(settings, tmp_path / "broken")
    monkeypatch.undo()
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 5 * SIDE_PX * SIDE_PX * 3)
    with (tmp_path / "broken" / "train.images.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 255]))
    Image.new("RGB", (9, 9), (1, 2, 3)).save(root / "02.png")
    numbers = stop_after(monkeypatch, -1)
    record = made(settings, tmp_path / "broken")
    assert "02.png" in numbers and len(numbers) in (5, 6, 9, 10, 11)  # its block, and the last one of train
    monkeypatch.undo()
    assert record.digest == made(settings, tmp_path / "whole").digest


def test_a_file_that_changes_between_hashing_and_decoding_is_an_error_once(photos, tmp_path, monkeypatch):
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    (tmp_path / "out").mkdir()
    found = (root / "02.png").stat()
    built = folder.build(config(root), tmp_path / "out" / WORK)
    content = bytearray((root / "02.png").read_bytes())
    content[-1] ^= 1
    (root / "02.png").write_bytes(content)
    os.utime(root / "02.png", ns=(found.st_atime_ns, found.st_mtime_ns))  # as if both were in one tick of the clock
    with pytest.raises(DataError, match=r"02\.png was changed while the images were read"):
        writing.write(built.parts, tmp_path / "out", judged=True)
    record = stage.run(config(root), out=tmp_path / "out")
    assert record.digest == made(config(root), tmp_path / "new").digest


def test_a_mended_file_needs_its_block_alone(photos, tmp_path, monkeypatch, small_blocks):
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    whole = (root / "02.png").read_bytes()
    (root / "02.png").write_bytes(whole[:50])
    with pytest.raises(DataError, match=r"\(1\): 02\.png"):
        made(config(root), tmp_path / "out")
    (root / "02.png").write_bytes(whole)
    numbers = stop_after(monkeypatch, -1)
    record = made(config(root), tmp_path / "out")
    assert len(numbers) <= 5 and "02.png" in numbers
    monkeypatch.undo()
    assert record.digest == made(config(root), tmp_path / "never broken").digest


@pytest.mark.parametrize("kind", ["tint", "frame", "background", "corruption"])
def test_planting_when_decoded_is_planting_in_memory(photos, tmp_path, small_blocks, decoded, kind):
    settings = config(photos, plant={"kind": kind})
    built = folder.build(settings)
    later = decoded(plant(built, settings.plant, 0))
    now = plant(decoded(built), settings.plant, 0)
    for name, part in now.parts.items():
        np.testing.assert_array_equal(later.parts[name].images, part.images)
        np.testing.assert_array_equal(later.parts[name].bias, part.bias)
    assert sorted(later.findings) == sorted(now.findings) and later.input == now.input
    record = made(settings, tmp_path / "out")
    mask = record.mask("spurious")
    assert (mask is None) == (now.spurious is None) and record.mask("core") is None
    if mask is not None:
        np.testing.assert_array_equal(mask, now.spurious)


def test_images_that_rebalancing_leaves_out_are_looked_at_too(photos, tmp_path):
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    settings = config(root, rebalance=True)
    kept = {row for part in rebalance(folder.build(settings), 0).parts.values() for row in part.images.rows.tolist()}
    left_out = min(set(range(2 * PER_CLASS)) - kept)
    (root / f"{left_out:02}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=rf"not an image \(1\): {left_out:02}\.png"):
        made(settings, tmp_path / "out")


def test_the_record_names_the_file_of_every_image(photos, tmp_path):
    record = made(config(photos), tmp_path / "out")
    assert "files.csv" in read_manifest(record.folder).files
    for name, count in record.info.counts.items():
        files, split = record.source_files(name), record.split(name)
        assert len(files) == count and [file.id for file in files] == split.ids.tolist()
        assert [file.path for file in files] == [f"{number:02}.png" for number in split.ids]
    hashes = {file.path: file.sha256 for name in record.info.counts for file in record.source_files(name)}
    assert hashes["05.png"] == hashes["07.png"] and len(set(hashes.values())) == 2 * PER_CLASS - 1


def test_a_record_of_no_files_names_none(images):
    assert images.source_files("train") is None
    assert images.mask("core") is None and images.mask("spurious") is None


def test_a_disk_without_room_is_refused_before_anything_is_decoded(photos, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 5000))
    numbers = stop_after(monkeypatch, -1)
    with pytest.raises(DataError, match=r"(?s)do not fit on the disk.*size_px"):
        made(config(photos), tmp_path / "out")
    assert numbers == []


def test_a_file_that_is_changed_before_it_is_sealed_is_hashed_again(photos, tmp_path, monkeypatch):
    def damage(*_):
        with (tmp_path / "out" / "train.images.npy").open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"ever")

    monkeypatch.setattr(stage, "draw", damage)
    record = made(config(photos), tmp_path / "out")
    assert Images.open(record.folder).digest == record.digest
    assert (record.folder / "train.images.npy").read_bytes().endswith(b"ever")


def test_an_error_of_the_disk_while_others_decode_is_not_lost(photos, tmp_path, monkeypatch):
    def broken(self):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(blocks.ArrayFile, "flush", broken)
    with pytest.raises(OSError, match="Input/output"):
        made(config(photos), tmp_path / "out")
