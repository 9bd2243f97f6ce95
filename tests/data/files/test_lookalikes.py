"""Pictures that look alike: what is found, and what is not taken for it."""

import io

import numpy as np
import pytest
from PIL import Image

from data.files import lookalikes
from data.files.lookalikes import difference_hashes, find, thumbnails

SIZE = 32


def scenes(n, seed=0):
    """Return smooth pictures with a little noise, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 5, 5, 3), dtype=np.uint8)
    large = np.stack([np.asarray(Image.fromarray(c).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for c in coarse])
    return np.clip(large.astype(int) + rng.integers(-4, 5, large.shape), 0, 255).astype(np.uint8)


def jpeg(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=60)
    return np.asarray(Image.open(stream))


def halved(pixels):
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((SIZE // 2, SIZE // 2)).resize((SIZE, SIZE)))


def brighter(pixels):
    return (pixels * 0.9 + 20).astype(np.uint8)


def partners(changed, originals):
    images = np.concatenate([changed, originals])
    return find(thumbnails(images), np.arange(len(images)) < len(changed))


@pytest.mark.parametrize("change", [jpeg, halved, brighter, np.copy])
def test_changed_copies_are_found_with_their_originals(change):
    originals = scenes(60)
    found = partners(np.stack([change(p) for p in originals[:20]]), originals)
    assert len(found) >= 18
    assert all(original == copy + 20 for copy, original in found)


def test_other_scenes_and_other_colours_are_not_taken_for_copies():
    originals = scenes(60)
    assert partners(scenes(20, seed=1), originals) == []
    assert partners(originals[:20, :, :, [1, 2, 0]], originals) == []
    assert partners(originals[:20, :, ::-1], originals) == []


def test_flat_pictures_are_alike_if_their_colours_are():
    flat = np.full((3, 8, 8, 3), 90, np.uint8)
    flat[2, ..., 0] = 140
    assert find(thumbnails(flat), np.array([True, False, False])) == [(0, 1)]
    assert find(thumbnails(flat), np.array([False, False, True])) == []


def test_blocks_do_not_change_the_result(monkeypatch):
    images = scenes(30)
    whole = partners(images[:10], images)
    monkeypatch.setattr(lookalikes, "BLOCK", 7)
    assert partners(images[:10], images) == whole and len(whole) == 10


def test_thumbnails_are_means_of_blocks():
    ramp = np.arange(16 * 18, dtype=np.uint8).reshape(1, 16, 18, 1) // 2
    expected = ramp.reshape(8, 2, 9, 2).mean(axis=(1, 3)).astype(np.uint8)
    assert np.array_equal(thumbnails(ramp)[0, ..., 0], expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (8, 9), (33, 100)])
def test_pictures_of_any_size_have_a_thumbnail(height, width):
    assert (thumbnails(np.full((2, height, width, 3), 77, np.uint8)) == 77).all()


def test_a_hash_has_a_bit_for_every_clear_step_to_the_right():
    thumb = np.zeros((1, 8, 9, 3), np.uint8)
    thumb[0, 0, 1:] = 50
    assert difference_hashes(thumb).tolist() == [1 << 63]
    thumb[0, 7, 8] = lookalikes.EDGE + 1
    assert difference_hashes(thumb).tolist() == [(1 << 63) + 1]
    thumb[0, 7, 8] = lookalikes.EDGE
    assert difference_hashes(thumb).tolist() == [1 << 63]


def test_nothing_to_compare_finds_nothing():
    images = scenes(3)
    assert find(thumbnails(images), np.ones(3, bool)) == find(thumbnails(images), np.zeros(3, bool)) == []
