"""Double MNIST: bright digit left, dim digit right, exact conflicts, and no picture in two splits."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigstep.config import DataConfig
from bigstep.errors import DataError
from data.sets import double_mnist, mnist

# Of the tiny source files of the tests. If it changes, so does every set that anybody has built: only on purpose.
DIGEST = "3597f0fed8a450e60e6c2d0a100c061f1257a8a294e2365899f003cbd2b15de3"
COUNTS = {"train": 550, "validation_biased": 50, "validation": 50, "test": 200}


@pytest.fixture(scope="module")
def config(mnist_folder):
    return DataConfig(kind="double-mnist", path=str(mnist_folder), conflicting=0.1)


@pytest.fixture(scope="module")
def built(config):
    return double_mnist.build(config)


@pytest.fixture(scope="module")
def digits(mnist_folder):
    return mnist.read(mnist_folder).both()


def test_the_bytes_are_pinned(built, config, digest_of):
    assert digest_of(built) == DIGEST
    assert digest_of(double_mnist.build(config)) == DIGEST
    assert digest_of(double_mnist.build(config.model_copy(update={"seed": 1}))) != DIGEST


def test_the_source_files_are_the_four_of_mnist(config):
    assert [path.name for path in double_mnist.files(config)] == list(mnist.FILES)


def test_the_splits_are_well_formed(built):
    assert {name: len(part.labels) for name, part in built.parts.items()} == COUNTS
    for part in built.parts.values():
        assert part.images.shape == (len(part.labels), 28, 56, 1) and part.images.dtype == np.uint8
        assert part.labels.dtype == part.bias.dtype == part.ids.dtype == part.sources.dtype == np.int64
        assert part.bias.shape == (len(part.labels), 1)
        assert len(np.unique(part.ids)) == len(part.ids)
    assert (built.input.height_px, built.input.width_px, built.input.channels) == (28, 56, 1)
    assert built.attributes == {"right": [str(digit) for digit in range(10)]}


def test_left_is_the_picture_of_the_label_as_it_is(built, digits):
    for part in built.parts.values():
        np.testing.assert_array_equal(part.images[:, :, :28, 0], digits.images[part.sources])
        np.testing.assert_array_equal(part.labels, digits.labels[part.sources])


def test_right_is_another_picture_of_the_same_split_dimmed_to_half(built, digits):
    dim = np.rint(digits.images / 2).astype(np.uint8)
    place = {picture.tobytes(): number for number, picture in enumerate(dim)}
    assert len(place) == 800, "the pictures can be told apart"
    for part in built.parts.values():
        right = np.array([place[np.ascontiguousarray(half).tobytes()] for half in part.images[:, :, 28:, 0]])
        np.testing.assert_array_equal(digits.labels[right], part.bias[:, 0])
        assert set(right.tolist()) <= set(part.sources.tolist())
        assert (right != part.sources).all()


def test_a_picture_is_in_one_split_but_for_the_two_validations(built):
    train, biased, validation, test = (set(built.parts[name].sources.tolist()) for name in COUNTS)
    assert biased == validation
    assert train | biased == set(range(600)) and test == set(range(600, 800))
    assert not train & biased


@pytest.mark.parametrize(("share", "train", "biased"), [(0.0, 0, 0), (0.1, 55, 5), (0.8, 440, 40)])
def test_conflicts_are_exact_in_number_and_spread(share, train, biased, config):
    built = double_mnist.build(config.model_copy(update={"conflicting": share}))
    for name, expected in [("train", train), ("validation_biased", biased)]:
        part = built.parts[name]
        conflicting = part.bias[:, 0] != part.labels
        assert conflicting.sum() == expected
        assert np.ptp(np.bincount(part.labels[conflicting], minlength=10)) <= 1
    for label in range(10):
        others = np.bincount(built.parts["train"].bias[built.parts["train"].labels == label, 0], minlength=10)
        assert np.ptp(np.delete(others, label)) <= 1


def test_the_right_digit_of_validation_and_test_says_nothing(built):
    for name in ("validation", "test"):
        part = built.parts[name]
        for label in range(10):
            assert np.ptp(np.bincount(part.bias[part.labels == label, 0], minlength=10)) <= 1


def test_the_masks_are_the_two_halves(built):
    assert built.core.shape == built.spurious.shape == (200, 28, 56)
    assert built.core.dtype == built.spurious.dtype == np.bool_
    assert built.core[:, :, :28].all() and not built.core[:, :, 28:].any()
    np.testing.assert_array_equal(built.spurious, ~built.core)


def test_the_right_half_is_dimmed_and_rounded():
    pair = double_mnist.side_by_side(np.array([[[255, 3]]], np.uint8), np.array([[[255, 3]]], np.uint8))
    assert pair.shape == (1, 1, 4, 1) and pair.dtype == np.uint8
    assert pair.ravel().tolist() == [255, 3, 128, 2]


@settings(deadline=None, max_examples=50)
@given(
    counts=st.lists(st.integers(min_value=1, max_value=30), min_size=1, max_size=5),
    seed=st.integers(min_value=0, max_value=2**32 - 1),
    data=st.data(),
)
def test_partners_are_of_the_digit_wanted_and_used_equally(counts, seed, data):
    labels = np.repeat(np.arange(len(counts)), counts)
    which = st.integers(min_value=0, max_value=len(counts) - 1)
    wanted = np.array(data.draw(st.lists(which, min_size=len(labels), max_size=len(labels))))
    chosen = double_mnist.partners(labels, wanted, np.random.default_rng(seed))
    np.testing.assert_array_equal(labels[chosen], wanted)
    for digit in np.unique(wanted):
        used = np.bincount(chosen[wanted == digit], minlength=len(labels))[labels == digit]
        assert np.ptp(used) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_nobody_stands_beside_himself(seed):
    labels = np.tile(np.arange(10), 20)
    chosen = double_mnist.partners(labels, labels, np.random.default_rng(seed))
    assert (chosen != np.arange(200)).all()


def test_a_digit_that_a_split_does_not_have_is_named(mnist_folder, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(mnist_folder / "mnist/MNIST/raw", raw)
    file = raw / "t10k-labels-idx1-ubyte"
    content = file.read_bytes()
    file.write_bytes(content[:8] + content[8:].replace(b"\7", b"\1"))
    with pytest.raises(DataError, match="needs every digit in every split, and 7 is missing"):
        double_mnist.build(DataConfig(kind="double-mnist", path=str(raw)))
