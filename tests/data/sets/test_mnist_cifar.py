"""MNIST-CIFAR dominoes: a digit above, a picture below, exact counts of contradictions."""

import shutil

import numpy as np
import pytest

from bigstep.config import DataConfig
from bigstep.errors import DataError
from data.sets import cifar, mnist, mnist_cifar

# Of the tiny source files of the tests. If it changes, so does every set that anybody has built: only on purpose.
DIGEST = "9fb8d174c698eb563d11ebfe55af616d66bdf36f38ed0d06235a02e03a97a209"
COUNTS = {"train": 72, "validation_biased": 8, "validation": 8, "test": 40}


def config(folder, **changes):
    return DataConfig(kind="mnist-cifar", path=str(folder), **changes)


@pytest.fixture(scope="module")
def built(cifar_folder):
    return mnist_cifar.build(config(cifar_folder))


@pytest.fixture(scope="module")
def sources(cifar_folder):
    """Return all digits and all pictures, those of train first."""
    digits, pictures = mnist.read(cifar_folder), cifar.read(cifar_folder, cifar.LAYOUTS["cifar10"])
    return digits.both(), pictures.both()


def digit_numbers(part, digits):
    """Return which digit of the files stands above each picture."""
    numbers = {image.tobytes(): number for number, image in enumerate(digits)}
    return np.array([numbers[image[2:30, 2:30, 0].tobytes()] for image in part.images])


def test_the_bytes_are_pinned(built, cifar_folder, digest_of):
    assert digest_of(built) == DIGEST
    assert digest_of(mnist_cifar.build(config(cifar_folder))) == DIGEST
    assert digest_of(mnist_cifar.build(config(cifar_folder, seed=1))) != DIGEST


def test_the_splits_are_well_formed(built):
    assert {name: len(part.labels) for name, part in built.parts.items()} == COUNTS
    for part in built.parts.values():
        assert part.images.shape == (len(part.labels), 64, 32, 3) and part.images.dtype == np.uint8
        assert part.labels.dtype == part.bias.dtype == part.ids.dtype == part.sources.dtype == np.int64
        assert part.bias.shape == (len(part.labels), 1) and len(np.unique(part.ids)) == len(part.ids)
        assert np.bincount(part.labels).tolist() == [len(part.labels) / 2] * 2
    assert (built.input.height_px, built.input.width_px, built.input.channels) == (64, 32, 3)
    assert built.labels == ["automobile", "truck"] and built.attributes == {"digit": ["0", "1"]}
    assert built.name == "MNIST on CIFAR-10"


def test_a_digit_stands_on_a_picture_of_the_label(built, sources):
    (digits, digit_labels), (pictures, picture_labels) = sources
    for part in built.parts.values():
        np.testing.assert_array_equal(part.images[:, 32:], pictures[part.sources])
        np.testing.assert_array_equal(picture_labels[part.sources], np.array([1, 9])[part.labels])
        above = part.images[:, :32]
        assert (above == above[..., :1]).all(), "a grey digit in all three channels"
        edges = np.concatenate([above[:, :2], above[:, 30:]], axis=1), above[:, :, :2], above[:, :, 30:]
        assert not any(edge.any() for edge in edges)
        np.testing.assert_array_equal(digit_labels[digit_numbers(part, digits)], part.bias[:, 0])


def test_no_digit_is_used_twice_and_test_has_its_own(built, sources):
    used = {name: digit_numbers(part, sources[0][0]) for name, part in built.parts.items()}
    everything = np.concatenate(list(used.values()))
    assert len(np.unique(everything)) == len(everything)
    assert used["test"].min() >= 600 > max(used[name].max() for name in COUNTS if name != "test")


def test_pictures_are_held_out_once_and_stand_under_two_digits(built):
    train, biased, validation, test = (set(built.parts[name].sources.tolist()) for name in COUNTS)
    assert biased == validation and not train & biased
    assert max(train | biased) < 400 <= min(test)


@pytest.mark.parametrize(("share", "train", "biased"), [(0.0, 0, 0), (0.05, 4, 0), (0.25, 18, 2), (0.5, 36, 4)])
def test_the_share_of_contradictions_is_exact(share, train, biased, cifar_folder):
    parts = mnist_cifar.build(config(cifar_folder, conflicting=share)).parts
    conflicting = {name: int((part.bias[:, 0] != part.labels).sum()) for name, part in parts.items()}
    assert conflicting == {"train": train, "validation_biased": biased, "validation": 4, "test": 20}


@pytest.mark.parametrize("name", ["validation", "test"])
def test_held_out_digits_say_nothing_about_the_picture(name, built):
    part = built.parts[name]
    cells = np.bincount(part.labels * 2 + part.bias[:, 0], minlength=4)
    assert (cells == len(part.labels) / 4).all()


def test_the_masks_part_the_test_images(built):
    assert built.core.shape == built.spurious.shape == (40, 64, 32) and built.core.dtype == np.bool_
    assert built.core[:, 32:].all() and not built.core[:, :32].any()
    assert (built.core ^ built.spurious).all()


def relabelled(folder, copy, file, keep_zeros):
    """Copy a source folder and call all zeros of a file but the first few sevens."""
    shutil.copytree(folder, copy)
    path = copy / "mnist" / "MNIST" / "raw" / file
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    labels = content[8:]
    labels[np.flatnonzero(labels == 0)[keep_zeros:]] = 7
    path.write_bytes(content.tobytes())
    return copy


def test_classes_are_cut_to_the_rarest_digit(cifar_folder, sources, tmp_path):
    # 23 zeros serve the 20 pictures of a class, of which two stand under two digits.
    folder = relabelled(cifar_folder, tmp_path / "copy", "train-labels-idx1-ubyte", keep_zeros=23)
    parts = mnist_cifar.build(config(folder)).parts
    assert [len(parts[name].labels) for name in COUNTS] == [36, 4, 4, 40]
    firsts = [np.flatnonzero(sources[1][1][:400] == label)[:20] for label in (1, 9)]
    used = set(parts["train"].sources.tolist()) | set(parts["validation"].sources.tolist())
    assert used == set(np.concatenate(firsts).tolist())


def test_too_few_digits_are_named(cifar_folder, tmp_path):
    folder = relabelled(cifar_folder, tmp_path / "copy", "t10k-labels-idx1-ubyte", keep_zeros=0)
    with pytest.raises(DataError, match="too little to pair"):
        mnist_cifar.build(config(folder))


def test_the_source_files_are_those_of_both_sets(cifar_folder):
    names = [path.name for path in mnist_cifar.files(config(cifar_folder))]
    assert len(names) == 10 and "train-images-idx3-ubyte" in names and "test_batch.bin" in names
