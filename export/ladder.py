"""The parity ladder: how well the numbers of two forms of one network agree on held-out images."""

import numpy as np
from numpy.typing import NDArray

from bigstep.records.exported import Rung
from serve.predictor import Predictor


def batch_sizes(images: int, max_batch: int) -> list[int]:
    """Return the batch sizes at which a file is tried: 1, 2, the largest, and one in between."""
    return sorted({n for n in (1, 2, max_batch // 2 + 1, max_batch) if n <= min(images, max_batch)})


def logits_by_batch(predictor: Predictor, images_NHWC: NDArray[np.uint8], max_batch: int) -> NDArray[np.float32]:
    """Return the logits of the same images at every batch size, one after the other."""
    sizes = batch_sizes(len(images_NHWC), max_batch)
    return np.concatenate([predictor.predict(images_NHWC[:n]) for n in sizes])


def max_abs_rung(network: str, torch_NK: NDArray[np.float32], onnx_NK: NDArray[np.float32], tolerance: float) -> Rung:
    """Compare PyTorch's logits with those of the float32 file, relative to the largest logit where it exceeds one.

    max |a - b| / max(1, max |a|)
    """
    with np.errstate(invalid="ignore"):  # infinity on both sides differs by NaN, which is reported below
        difference = float(np.abs(torch_NK - onnx_NK).max()) / max(1.0, float(np.abs(torch_NK).max()))
    return Rung(
        network=network,
        name="PyTorch, ONNX float32",
        measure="max_abs_difference",
        measured=difference if np.isfinite(difference) else None,
        limit=tolerance,
        n=len(torch_NK),
    )


def agreement_rung(network: str, float32_NK: NDArray[np.float32], int8_NK: NDArray[np.float32], least: float) -> Rung:
    """Compare the float32 file with the INT8 one by the share of images on which both predict the same class."""
    finite = bool(np.isfinite(float32_NK).all() and np.isfinite(int8_NK).all())
    return Rung(
        network=network,
        name="ONNX float32, INT8",
        measure="argmax_agreement",
        measured=float(np.mean(float32_NK.argmax(axis=1) == int8_NK.argmax(axis=1))) if finite else None,
        limit=least,
        n=len(float32_NK),
    )
