"""Boolean images: the functions against their formulas, exact counts, independence, and the bytes."""

import itertools

import numpy as np
import pytest

from bigstep.config import DataConfig
from bigstep.errors import ConfigError
from bigstep.records.architecture import Architecture
from data.sets import parity

SPLITS = ("train", "validation_biased", "validation", "test")
DIGESTS = {
    "staircase": "3fda4a8bfa49ca27a8ebe7d0461b9c34a89965603fce248c12ddbd8051c680db",
    "parity": "0d927135e18f61aab5b3d66427d9e10d1dbe725009e19b6acb9236d33f53cb15",
}


@pytest.fixture(scope="module")
def built():
    return parity.build(DataConfig(kind="parity", conflicting=0.1))


def every_row(pixels):
    return np.array(list(itertools.product([-1, 1], repeat=pixels)), dtype=np.int8)


def test_the_staircase_is_the_sign_of_a_sum_of_growing_products():
    for row in every_row(6):
        total = sum(int(np.prod(row[: k + 1])) for k in range(4))
        assert parity.staircase(row[None], 4).tolist() == [int(total >= 0)]


def test_the_product_is_one_for_an_even_number_of_minus_ones():
    rows = every_row(5)
    np.testing.assert_array_equal(parity.parity(rows, 3), ((rows[:, :3] < 0).sum(axis=1) % 2 == 0).astype(int))


@pytest.mark.parametrize(("variant", "ones"), [("staircase", 0.623), ("parity", 0.5)])
def test_the_spurious_function_is_near_balanced(variant, ones):
    share = parity.VARIANTS[variant][1](every_row(10)).mean()
    assert share == pytest.approx(ones, abs=5e-4)
    assert abs(2 * share - 1) < 0.4


@pytest.mark.parametrize("variant", DIGESTS)
def test_the_bytes_are_pinned(variant, monkeypatch, digest_of):
    monkeypatch.setattr(parity, "SIZES", dict(zip(SPLITS, (60, 20, 20, 20), strict=True)))
    config = DataConfig(kind="parity", variant=variant, conflicting=0.1)
    assert digest_of(parity.build(config)) == DIGESTS[variant]
    assert digest_of(parity.build(config)) == DIGESTS[variant]
    assert digest_of(parity.build(config.model_copy(update={"seed": 1}))) != DIGESTS[variant]


@pytest.mark.parametrize("name", SPLITS)
def test_labels_and_bias_are_in_the_pixels(built, name):
    part = built.parts[name]
    assert part.images.shape == (parity.SIZES[name], 1, 34, 1) and part.images.dtype == np.uint8
    assert set(np.unique(part.images).tolist()) == {0, 255}
    rows = np.where(part.images[:, 0, :, 0] == 255, 1, -1).astype(np.int8)
    np.testing.assert_array_equal(parity.staircase(rows[:, :14], 14), part.labels)
    np.testing.assert_array_equal(parity.staircase(rows[:, 14:], 10), part.bias[:, 0])


def test_counts_are_exact_and_the_test_is_unbiased(built):
    def cells(name):
        part = built.parts[name]
        return np.bincount(part.labels * 2 + part.bias[:, 0], minlength=4).tolist()

    assert cells("train") == [27000, 3000, 3000, 27000]
    assert cells("validation_biased") == [1800, 200, 200, 1800]
    assert cells("validation") == [1000] * 4
    assert cells("test") == [2000] * 4


def test_pixels_that_no_function_reads_are_balanced(built):
    idle = built.parts["train"].images[:, 0, 24:, 0] == 255
    np.testing.assert_allclose(idle.mean(axis=0), 0.5, atol=0.01)  # 5 standard deviations


def test_the_masks_are_the_two_blocks(built):
    assert built.core.shape == built.spurious.shape == (8000, 1, 34)
    assert (built.core ^ built.spurious).all()
    assert built.core[:, 0].sum(axis=1).tolist() == [14] * 8000 and built.core[0, 0, :14].all()


def test_sources_are_of_one_split_and_ids_unique(built):
    sources = np.concatenate([built.parts[name].sources for name in SPLITS])
    assert len(np.unique(sources)) == len(sources)
    assert all(len(np.unique(part.ids)) == len(part.ids) for part in built.parts.values())


def test_a_fully_connected_network_takes_the_images(built):
    from train.networks.build import build, normalise

    few = built.parts["test"].images[:3]
    shape = Architecture(family="mlp", widths={"hidden1": 4}, classes=2, input=built.input, mean=(0.5,), std=(0.5,))
    assert build(shape)(normalise(few, shape)).shape == (3, 2)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigError, match="no such variant") as raised:
        parity.build(DataConfig(kind="parity", variant="hard"))
    assert raised.value.expected == "one of staircase, parity"
