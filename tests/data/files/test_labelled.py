"""Labelled pictures: places count through those to train on and those to test on."""

import numpy as np

from data.files.labelled import Pictures, Source

SOURCE = Source(
    train=Pictures(np.full((3, 2, 2), 1, np.uint8), np.array([0, 1, 2])),
    test=Pictures(np.full((2, 2, 2), 9, np.uint8), np.array([4, 3])),
    name="a set",
    findings=[],
)


def test_test_pictures_lie_behind_the_last_one_of_train():
    images, labels = SOURCE.both()
    assert images[:, 0, 0].tolist() == [1, 1, 1, 9, 9] and labels.tolist() == [0, 1, 2, 4, 3]
    places = SOURCE.places(np.array([2, 0]), np.array([1]), np.array([1, 0]))
    assert labels[places["test"]].tolist() == [3, 4] and labels[places["train"]].tolist() == [2, 0]


def test_what_is_held_out_is_used_twice():
    places = SOURCE.places(np.array([2, 0]), np.array([1]), np.array([1, 0]))
    assert list(places) == ["train", "validation_biased", "validation", "test"]
    assert places["validation_biased"].tolist() == places["validation"].tolist() == [1]
