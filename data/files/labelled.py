"""Labelled pictures in memory, as the files of a data set hold them: what sets made from MNIST or CIFAR begin with."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigstep.records.images import SplitName


class Pictures(NamedTuple):
    """Pictures in the order of their files: uint8 (N, H, W) or (N, H, W, C), and int64 labels (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Source(NamedTuple):
    """The pictures to train on and those to test on, the name to call figures by, and what is odd about the files.

    The place of a picture counts through both, those of test behind the last one of train.
    """

    train: Pictures
    test: Pictures
    name: str
    findings: list[str]

    def both(self) -> Pictures:
        """Return all pictures, in the order of their places."""
        images = np.concatenate([self.train.images, self.test.images])
        return Pictures(images, np.concatenate([self.train.labels, self.test.labels]))

    def places(
        self, train: NDArray[np.int64], held_out: NDArray[np.int64], test: NDArray[np.int64]
    ) -> dict[SplitName, NDArray[np.int64]]:
        """Return the places of every split; what is held out is used twice, once with the bias of train.

        Args:
            train, held_out: indices of pictures to train on.
            test: indices of pictures to test on.
        """
        test = len(self.train.labels) + test
        return {"train": train, "validation_biased": held_out, "validation": held_out, "test": test}
