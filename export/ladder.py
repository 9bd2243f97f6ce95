"""The parity ladder: how well the numbers of two forms of one network agree on held-out images."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bigstep.config import ExportConfig
from bigstep.records.exported import Rung
from serve.predictor import Predictor

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # of raw pixels (N, H, W, C): (N, K)


def climb(
    config: ExportConfig,
    network: str,
    reference: Logits,
    predictors: Sequence[Predictor],
    held_out_NHWC: NDArray[np.uint8],
) -> list[Rung]:
    """Compare a network with its float32 file on some images at several batch sizes, and that with INT8 on all.

    Args:
        network: what the network is called.
        reference: the network itself, whole batches at once.
        predictors: its float32 file and, if there is one, its INT8 file.
        held_out_NHWC: images that it was not trained on.
    """
    few = np.array(held_out_NHWC[:: max(1, len(held_out_NHWC) // config.max_batch)][: config.max_batch])
    sizes, expected = batch_sizes(len(few), config.max_batch), reference(few)
    found = [predictors[0].predict(few[:size]) for size in sizes]
    rungs = [max_abs_rung(network, expected, found, config.fp32_tolerance)]
    if len(predictors) == 2:
        float32, int8 = (predictor.predict_all(held_out_NHWC) for predictor in predictors)
        rungs.append(agreement_rung(network, float32, int8, config.int8_agreement))
    return rungs


def batch_sizes(images: int, max_batch: int) -> list[int]:
    """Return the batch sizes at which a file is tried: 1, 2, one in between, and all images or the largest."""
    most = min(images, max_batch)
    return sorted({n for n in (1, 2, most // 2 + 1, most) if n <= most})


def max_abs_rung(
    network: str, torch_NK: NDArray[np.float32], onnx_nK: Sequence[NDArray[np.float32]], tolerance: float
) -> Rung:
    """Compare PyTorch's logits with those of the float32 file, relative to the largest logit where it exceeds one.

    max |a - b| / max(1, max |a|)

    Args:
        torch_NK: of every image.
        onnx_nK: of the first n of them at once, for several n; the largest is N.
    """
    with np.errstate(invalid="ignore"):  # infinity on both sides differs by NaN, which is reported below
        differences = [np.abs(torch_NK[: len(logits_NK)] - logits_NK).max() for logits_NK in onnx_nK]
        difference = float(np.max(differences)) / max(1.0, float(np.abs(torch_NK).max()))
    return Rung(
        network=network,
        name="PyTorch, ONNX float32",
        measure="max_abs_difference",
        measured=difference if np.isfinite(difference) else None,
        limit=tolerance,
        n=len(torch_NK),
        batch_sizes=tuple(len(logits_NK) for logits_NK in onnx_nK),
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
