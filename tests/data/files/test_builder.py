"""What builders have in common: settings read in one way, and parts that stay whole."""

import numpy as np
import pytest

from bigstep.config import DataConfig
from bigstep.errors import ConfigError
from data.files.builder import Part, square, variant

VARIANTS = {"first": 1, "second": 2}


def test_a_side_is_the_default_unless_it_is_set():
    assert (square(DataConfig(), 64).height_px, square(DataConfig(), 64).width_px) == (64, 64)
    set_to = square(DataConfig(kind="folder", size_px=8, fit="crop"), 64)
    assert (set_to.height_px, set_to.width_px, set_to.fit) == (8, 8, "crop")


def test_a_variant_is_the_first_unless_it_is_named():
    assert variant(DataConfig(kind="lff"), VARIANTS) == ("first", 1)
    assert variant(DataConfig(kind="lff", variant="second"), VARIANTS) == ("second", 2)


def test_an_unknown_variant_is_refused_with_those_that_are_known():
    with pytest.raises(ConfigError, match=r"(?s)lff has no such variant.*'third'.*one of first, second.*data\.variant"):
        variant(DataConfig(kind="lff", variant="third"), VARIANTS)


def test_images_that_are_taken_keep_what_belongs_to_them():
    places = np.array([7, 5, 9])
    part = Part.at(places, np.arange(3, dtype=np.uint8)[:, None, None, None], np.array([2, 0, 1]), places[:, None] % 2)
    taken = part.take(np.array([2, 0]))
    assert (taken.images.ravel().tolist(), taken.labels.tolist(), taken.bias.tolist()) == ([2, 0], [1, 2], [[1], [1]])
    assert taken.ids.tolist() == taken.sources.tolist() == [9, 7]
