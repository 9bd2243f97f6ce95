"""What decoding shows of image files beside their pixels: how they look when small, what was converted, what failed."""

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.files.image_file import ImageFile
from data.files.lookalikes import COLUMNS, ROWS, thumbnails

FLAT_LEVELS = 16  # of 256: what is left of a picture of 12 bits in a file of 16, or of a mask of 0 and 1
COARSE = 8  # every so many rows and columns are looked at first


def summary(pictures: Sequence[ImageFile], pixels_nHWC: NDArray[np.uint8]) -> dict[str, Any]:
    """Return what was seen of consecutive files, and their pixels, as plain JSON values, which `Seen.add` takes."""
    traits: defaultdict[str, list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        for trait in picture.traits:
            traits[trait].append(place)
    failed = {place: picture.error for place, picture in enumerate(pictures) if picture.error}
    thumbs = np.delete(thumbnails(pixels_nHWC), list(failed), axis=0)
    return {
        "thumbs": base64.b64encode(thumbs.tobytes()).decode(),
        "traits": traits,
        "flat": [place for place in np.flatnonzero(_flat(pixels_nHWC)).tolist() if place not in failed],
        "failures": {str(place): [error.what, str(error.got)] for place, error in failed.items()},
    }


def _flat(pixels_nHWC: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say which pictures are nearly constant: in no channel are two pixels more than FLAT_LEVELS apart, bool (n,)."""
    flat: NDArray[np.bool_] = _range(pixels_nHWC[:, ::COARSE, ::COARSE]) <= FLAT_LEVELS  # spares most the second look
    suspects = np.flatnonzero(flat)
    flat[suspects] = _range(pixels_nHWC[suspects]) <= FLAT_LEVELS
    return flat


def _range(pixels_nHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    apart: NDArray[np.uint8] = (pixels_nHWC.max(axis=(1, 2)) - pixels_nHWC.min(axis=(1, 2))).max(axis=1)
    return apart


class Seen:
    """What was seen of the N files of a list: thumbnails uint8 (N, 8, 9, C), and findings by row.

    `failures` maps the row of a file that cannot be used to what is wrong and what was found; `traits` maps what was
    converted to rows; `flat_N` says which pictures are nearly constant.
    """

    def __init__(self, num_files: int, channels: int) -> None:
        self.thumbs_NHWC = np.zeros((num_files, ROWS, COLUMNS, channels), dtype=np.uint8)
        self.known_N = np.zeros(num_files, dtype=np.bool_)
        self.flat_N = np.zeros(num_files, dtype=np.bool_)
        self.failures: dict[int, tuple[str, str]] = {}
        self.traits: defaultdict[str, list[int]] = defaultdict(list)

    def add(self, rows_n: NDArray[np.int64], found: Mapping[str, Any]) -> None:
        """Note the `summary` of some files, which lie at these rows of the list."""
        self.known_N[rows_n] = True
        failures = {int(rows_n[int(place)]): (what, got) for place, (what, got) in found["failures"].items()}
        self.failures |= failures
        thumbs = np.frombuffer(base64.b64decode(found["thumbs"]), dtype=np.uint8)
        usable = rows_n[~np.isin(rows_n, list(failures))]
        self.thumbs_NHWC[usable] = thumbs.reshape(-1, *self.thumbs_NHWC.shape[1:])
        self.flat_N[rows_n[found["flat"]]] = True
        for trait, places in found["traits"].items():
            self.traits[trait] += rows_n[places].tolist()
