"""Colored MNIST: LfF's colours and rule, digits held out once and coloured twice, the same bytes for ever."""

import numpy as np
import pytest

from bigstep.config import DataConfig
from bigstep.errors import DataError
from data.bias.milestones import milestones
from data.sets import colored_mnist, mnist

# Of the tiny source files of the tests. If it changes, so does every set that anybody has built: only on purpose.
DIGEST = "43de74034f1d79069ddcf1c0245e72e8c94f9f583b35daeee578467725fb1277"
COUNTS = {"train": 550, "validation_biased": 50, "validation": 50, "test": 200}


@pytest.fixture(scope="module")
def config(mnist_folder):
    return DataConfig(kind="colored-mnist", path=str(mnist_folder))


@pytest.fixture(scope="module")
def built(config):
    return colored_mnist.build(config)


@pytest.fixture(scope="module")
def source(mnist_folder):
    return mnist.read(mnist_folder)


def test_the_bytes_are_pinned(built, config, digest_of):
    assert digest_of(built) == DIGEST
    assert digest_of(colored_mnist.build(config)) == DIGEST
    assert digest_of(colored_mnist.build(config.model_copy(update={"seed": 1}))) != DIGEST


def test_the_source_files_are_the_four_of_mnist(config):
    assert [path.name for path in colored_mnist.files(config)] == list(mnist.FILES)


def test_the_splits_are_well_formed(built):
    assert {name: len(part.labels) for name, part in built.parts.items()} == COUNTS
    for part in built.parts.values():
        assert part.images.shape == (len(part.labels), 28, 28, 3) and part.images.dtype == np.uint8
        assert part.labels.dtype == part.bias.dtype == part.ids.dtype == part.sources.dtype == np.int64
        assert part.bias.shape == (len(part.labels), 1)
        assert len(np.unique(part.ids)) == len(part.ids)
    assert built.input.height_px == built.input.width_px == 28 and built.input.channels == 3
    assert len(built.attributes["colour"]) == len(set(built.attributes["colour"])) == 10
    assert built.core is None and built.spurious is None
    assert len(built.findings) == 4, "the tiny files are not MNIST"


def test_digits_are_held_out_once_and_coloured_twice(built):
    train, biased, validation, test = (set(built.parts[name].sources.tolist()) for name in COUNTS)
    assert biased == validation
    assert not train & biased and not test & (train | biased)
    assert train | biased == set(range(600)) and test == set(range(600, 800))
    twins = built.parts["validation_biased"], built.parts["validation"]
    np.testing.assert_array_equal(twins[0].sources, twins[1].sources)
    assert (twins[0].images != twins[1].images).any(axis=(1, 2, 3)).mean() > 0.8


def test_labels_and_shapes_are_those_of_the_files(built, source):
    digits = np.concatenate([source.train.images, source.test.images])
    labels = np.concatenate([source.train.labels, source.test.labels])
    for part in built.parts.values():
        np.testing.assert_array_equal(part.labels, labels[part.sources])
        assert (part.images.max(axis=3) <= digits[part.sources]).all()
        assert (part.images[digits[part.sources] == 0] == 0).all()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_training_and_biased_validation_have_the_colours_of_the_rule(share, config, source):
    built = colored_mnist.build(config.model_copy(update={"conflicting": share}))
    recipe = milestones(source.train.labels, 10, 1 - share)
    for name in ("train", "validation_biased"):
        part = built.parts[name]
        np.testing.assert_array_equal(part.bias[:, 0], recipe[part.sources])
    both = [built.parts[name] for name in ("train", "validation_biased")]
    assert sum(int((p.bias[:, 0] != p.labels).sum()) for p in both) == (recipe != source.train.labels).sum()


def test_the_same_digits_are_held_out_at_every_share_and_severity(built, config):
    other = colored_mnist.build(config.model_copy(update={"conflicting": 0.5, "severity": 1}))
    np.testing.assert_array_equal(other.parts["validation"].ids, built.parts["validation"].ids)


def test_colours_of_validation_and_test_do_not_depend_on_the_label(built, source):
    for name in ("validation", "test"):
        part = built.parts[name]
        for label in range(10):
            assert np.ptp(np.bincount(part.bias[part.labels == label, 0], minlength=10)) <= 1
    test = built.parts["test"]
    np.testing.assert_array_equal(test.bias[:, 0], milestones(source.test.labels, 10, 0.1)[test.sources - 600])


def test_the_first_images_of_a_split_show_all_colours(built):
    assert len(np.unique(built.parts["train"].bias[:50])) == 10
    test = built.parts["test"]
    assert len(np.unique(test.bias[test.labels == 3][:5])) > 2


def test_the_means_and_severities_are_those_of_lff():
    means = np.array(list(colored_mnist.COLOURS.values()))
    assert means.shape == (10, 3)
    assert means[0].tolist() == [0.98368233, 0.31251901, 0.16857535]
    assert means[9].tolist() == [0.83365762, 0.20240927, 0.26694310]
    bias = np.repeat(np.arange(10), 2000)
    for severity, std in [(1, 0.05), (2, 0.02), (3, 0.01), (4, 0.005), (5, 0.002)]:
        drawn = colored_mnist.jitter(bias, severity, np.random.default_rng(0))
        assert drawn.min() >= 0.0 and drawn.max() <= 1.0
        purple = drawn[bias == 7]  # its channels are far from 0 and 1: nothing is clipped
        np.testing.assert_allclose(purple.mean(axis=0), means[7], atol=4 * std / 2000**0.5)
        np.testing.assert_allclose(purple.std(axis=0), std, rtol=0.1)
        assert abs(np.corrcoef(purple.T)[0, 1]) < 0.1, "every channel has a draw of its own"


def test_a_colour_multiplies_and_fractions_are_cut_off(monkeypatch):
    monkeypatch.setattr(colored_mnist, "CHUNK", 2)
    grey = np.array([[[0, 255]], [[100, 7]], [[255, 255]]], dtype=np.uint8)
    colours = np.array([[1.0, 0.999, 0.0], [0.5, 0.259, 0.149], [0.0039, 0.004, 1.0]])
    tinted = colored_mnist.colour(grey, colours)
    assert tinted.dtype == np.uint8
    assert tinted.tolist() == [
        [[[0, 0, 0], [255, 254, 0]]],
        [[[50, 25, 14], [3, 1, 1]]],
        [[[0, 1, 255], [0, 1, 255]]],
    ]


def test_an_image_has_one_colour(built):
    part = built.parts["train"]
    for image, colour in zip(part.images[:20], part.bias[:20, 0], strict=True):
        brightest = image.reshape(-1, 3).max(axis=0) / 255  # the noise that stands for ink has pixels of 255
        np.testing.assert_allclose(brightest, list(colored_mnist.COLOURS.values())[colour], atol=0.03)


def test_without_source_files_the_error_says_where_they_should_be(monkeypatch):
    monkeypatch.delenv("BIGSTEP_DATA", raising=False)
    with pytest.raises(DataError, match="colored-mnist is made from source files"):
        colored_mnist.build(DataConfig(kind="colored-mnist"))
