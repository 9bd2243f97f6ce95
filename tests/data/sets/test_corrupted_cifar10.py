"""Corrupted CIFAR-10: LfF's corruptions and rule, pictures held out once and corrupted twice."""

import dataclasses

import numpy as np
import pytest

from bigstep.config import DataConfig
from bigstep.errors import ConfigError
from data.bias.corruptions import CONSTANTS, corrupt
from data.bias.milestones import milestones
from data.sets import cifar, corrupted_cifar10
from data.sets.cifar_classes import CIFAR10

# Of the tiny source files of the tests. If it changes, so does every set that anybody has built: only on purpose.
# Left out are the pixels that Pillow makes, which belong to its version.
DIGESTS = {
    "type0": "dda86708955b869ff390b122d1e42a2eb3000eb28ffc42c1150d6aff4cf00337",
    "type1": "bc827a22cd77402f5dec6a371ae698dbfa845cb7eb73808de03822a3e6f2b7c0",
}
OF_PILLOW = ("jpeg_compression", "pixelate")
COUNTS = {"train": 360, "validation_biased": 40, "validation": 40, "test": 200}


def config(folder, **changes):
    return DataConfig(kind="corrupted-cifar10", path=str(folder), **changes)


@pytest.fixture(scope="module")
def built(cifar_folder):
    return corrupted_cifar10.build(config(cifar_folder))


@pytest.fixture(scope="module")
def source(cifar_folder):
    return cifar.read(cifar_folder, cifar.LAYOUTS["cifar10"])


def without_pillow(built):
    """Blacken the images that Pillow has corrupted."""
    names = built.attributes["corruption"]
    theirs = [names.index(name) for name in OF_PILLOW if name in names]
    blackened = {
        name: dataclasses.replace(
            part, images=np.where(np.isin(part.bias[:, 0], theirs)[:, None, None, None], np.uint8(0), part.images)
        )
        for name, part in built.parts.items()
    }
    return dataclasses.replace(built, parts=blackened)


@pytest.mark.parametrize("variant", DIGESTS)
def test_the_bytes_are_pinned(variant, cifar_folder, digest_of):
    made = corrupted_cifar10.build(config(cifar_folder, variant=variant))
    assert digest_of(without_pillow(made)) == DIGESTS[variant]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(built, cifar_folder, digest_of):
    assert digest_of(corrupted_cifar10.build(config(cifar_folder, variant="type0"))) == digest_of(built)
    assert digest_of(corrupted_cifar10.build(config(cifar_folder, seed=1))) != digest_of(built)


def test_the_splits_are_well_formed(built):
    assert {name: len(part.labels) for name, part in built.parts.items()} == COUNTS
    for part in built.parts.values():
        assert part.images.shape == (len(part.labels), 32, 32, 3) and part.images.dtype == np.uint8
        assert part.labels.dtype == part.bias.dtype == part.ids.dtype == part.sources.dtype == np.int64
        assert part.bias.shape == (len(part.labels), 1)
        assert len(np.unique(part.ids)) == len(part.ids)
    assert built.name == "Corrupted CIFAR-10 type0, severity 4"
    assert built.labels == list(CIFAR10) and built.core is None
    assert len(built.findings) == 2, "the tiny files are not CIFAR-10"


def test_pictures_are_held_out_once_and_corrupted_twice(built):
    train, biased, validation, test = (set(built.parts[name].sources.tolist()) for name in COUNTS)
    assert biased == validation
    assert train | biased == set(range(400)) and not train & biased
    assert test == set(range(400, 600))
    twins = built.parts["validation_biased"], built.parts["validation"]
    np.testing.assert_array_equal(twins[0].sources, twins[1].sources)
    assert (twins[0].images != twins[1].images).any(axis=(1, 2, 3)).mean() > 0.7


def test_the_rule_runs_over_all_training_pictures_in_their_order(built, source):
    rule = milestones(source.train.labels, 10, 0.95)
    for name in ("train", "validation_biased"):
        part = built.parts[name]
        np.testing.assert_array_equal(part.labels, source.train.labels[part.sources])
        np.testing.assert_array_equal(part.bias[:, 0], rule[part.sources])
    conflicting = [int((built.parts[n].bias[:, 0] != built.parts[n].labels).sum()) for n in COUNTS]
    assert conflicting[0] + conflicting[1] == (rule != source.train.labels).sum() == 20
    assert conflicting[3] == 180


@pytest.mark.parametrize(("share", "total"), [(0.005, 250), (0.01, 500), (0.02, 1000), (0.05, 2500)])
def test_the_published_counts_of_the_whole_set(share, total):
    labels = np.arange(50_000) % 10
    assert (milestones(labels, 10, 1 - share) != labels).sum() == total
    test = np.arange(10_000) % 10
    cells = np.bincount(test * 10 + milestones(test, 10, 0.1))
    assert (cells == 100).all()


@pytest.mark.parametrize("name", ["validation", "test"])
def test_held_out_corruptions_say_nothing_about_the_label(name, built):
    part = built.parts[name]
    cells = np.bincount(part.labels * 10 + part.bias[:, 0], minlength=100)
    assert cells.max() - cells.min() <= 1
    assert (cells == 2).all() == (name == "test")


@pytest.mark.parametrize(("variant", "value", "severity"), [("type0", 3, 4), ("type0", 4, 1), ("type1", 5, 2)])
def test_a_value_is_a_corruption_one_level_above_the_named_severity(variant, value, severity, cifar_folder, source):
    made = corrupted_cifar10.build(config(cifar_folder, variant=variant, severity=severity))
    name = made.attributes["corruption"][value]
    part = made.parts["train"]
    chosen = part.bias[:, 0] == value
    rng = np.random.default_rng(0)  # these corruptions draw nothing
    expected = corrupt(source.train.images[part.sources[chosen]], name, severity + 1, rng)
    np.testing.assert_array_equal(part.images[chosen], expected)
    assert chosen.sum() >= 30


def test_the_last_class_of_type1_is_left_as_it_is(cifar_folder, source):
    made = corrupted_cifar10.build(config(cifar_folder, variant="type1"))
    part = made.parts["train"]
    untouched = (part.images == source.train.images[part.sources]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(untouched, part.bias[:, 0] == 9)
    assert made.attributes["corruption"][9] == "original"


def test_the_lists_are_those_of_lff():
    zero, one = corrupted_cifar10.VARIANTS.values()
    assert len(set(zero)) == len(set(one)) == 10 and not set(zero) & set(one)
    assert set(zero) | set(one) == set(CONSTANTS) | {"original"}
    assert (zero[0], zero[9], one[0], one[7]) == ("snow", "saturate", "gaussian_noise", "motion_blur")


@pytest.mark.parametrize(
    ("changes", "message"), [({"variant": "type2"}, "no such variant"), ({"severity": 5}, "no such severity")]
)
def test_wrong_settings_are_explained(changes, message, cifar_folder):
    with pytest.raises(ConfigError, match=message):
        corrupted_cifar10.build(config(cifar_folder, **changes))


def test_the_source_files_are_those_of_cifar10(cifar_folder):
    names = [path.name for path in corrupted_cifar10.files(config(cifar_folder))]
    assert names == [f"data_batch_{part}.bin" for part in range(1, 6)] + ["test_batch.bin"]
