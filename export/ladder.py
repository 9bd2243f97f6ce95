"""The parity ladder: how well the numbers of two forms of one network agree on held-out images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigstep.records import Rung
from serve.predictor import Predictor


def batch_sizes(images: int, max_batch: int) -> list[int]:
    """Return the batch sizes at which a file is tried: 1, 2, the largest, and an odd one in between."""
    return sorted({n for n in (1, 2, max_batch // 2 + 1, max_batch) if 1 <= n <= images})


def logits_by_batch(predictor: Predictor, images_NHWC: NDArray[np.uint8], max_batch: int) -> NDArray[np.float32]:
    """Return the logits of the same images at every batch size, one after the other."""
    sizes = batch_sizes(len(images_NHWC), max_batch)
    return np.concatenate([predictor.predict(images_NHWC[:n]) for n in sizes])


def max_abs_rung(name: str, reference_NK: NDArray[np.float32], found_NK: NDArray[np.float32], tolerance: float) -> Rung:
    """Compare logits by their largest difference, relative to the largest logit where that exceeds one.

    max |a - b| / max(1, max |a|); NaN anywhere gives infinity.
    """
    scale = max(1.0, float(np.abs(reference_NK).max()))
    difference = float(np.abs(reference_NK - found_NK).max()) / scale
    measured = difference if np.isfinite(difference) else float("inf")
    return Rung(name=name, measure="max_abs_difference", measured=measured, limit=tolerance, n=len(reference_NK))


def agreement_rung(name: str, reference_NK: NDArray[np.float32], found_NK: NDArray[np.float32], least: float) -> Rung:
    """Compare logits by the share of images on which both predict the same class; NaN agrees with nothing."""
    finite = np.isfinite(reference_NK).all(axis=1) & np.isfinite(found_NK).all(axis=1)
    same = finite & (reference_NK.argmax(axis=1) == found_NK.argmax(axis=1))
    return Rung(name=name, measure="argmax_agreement", measured=float(same.mean()), limit=least, n=len(reference_NK))
