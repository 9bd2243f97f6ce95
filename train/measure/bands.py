"""Accuracy on one band of spatial frequencies at a time.

Shapes: N images, H height, W width, C channels, B bands.

A frequency is (|kx|, |ky|) in whole waves per image; its distance from zero is |kx| / W + |ky| / H cycles per pixel,
at most 1. For 32 x 32 images that is (|kx| + |ky|) / 32, so that the bands below are 0, 1 to 8, 9 to 24 and 25 to 32;
for other sizes they cover the same shares of the range.

Source: Sadrtdinov et al. 2024, arXiv:2410.22113, and its code (github.com/isadrtdinov/understanding-large-lrs).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bigstep.records.architecture import Architecture
from train.networks.predict import evaluating

BANDS = (0.0, 0.25, 0.75, 1.0)  # upper edges in cycles per pixel, each band without the one below it


def band_images(images_NHWC: NDArray[np.uint8], bands: Sequence[float] = BANDS) -> NDArray[np.float32]:
    """Split images into bands of spatial frequencies; where the last edge is 1, the bands sum to pixels / 255.

    Args:
        images_NHWC: uint8 pixels.
        bands: rising upper edges in cycles per pixel, in [0, 1]; an edge belongs to the lower band.

    Returns:
        Shape (B, N, H, W, C). A band without frequency 0 has mean 0 and values of both signs.
    """
    spectrum_NHWC = np.fft.fft2(images_NHWC / np.float32(255), axes=(1, 2))
    height_px, width_px = images_NHWC.shape[1:3]
    masks_BHW = band_masks(height_px, width_px, bands)
    parts = [np.fft.ifft2(spectrum_NHWC * mask_HW[..., None], axes=(1, 2)).real for mask_HW in masks_BHW]
    return np.stack(parts).astype(np.float32)


def band_accuracies(
    model: nn.Module,
    images_NHWC: NDArray[np.uint8],
    labels_N: NDArray[np.int64],
    architecture: Architecture,
    batch: int = 256,
) -> tuple[float, ...]:
    """Return a network's accuracy on each of BANDS alone, as fractions.

    The band of frequency 0 is normalised as an image is, (x - mean) / std. The others are fed as they are, which is
    how the source does it and what its figures can be compared with: their mean is 0 already, and they are smaller by
    std than what they add to an ordinary input.

    Args:
        model: on any device; its modes are left as they were.
        images_NHWC, labels_N: raw images with their classes, N >= 1.
        architecture: for its normalisation.
        batch: images per pass.
    """
    weight = next(model.parameters())
    mean = np.array(architecture.mean, dtype=np.float32)
    std = np.array(architecture.std, dtype=np.float32)
    correct_B = np.zeros(len(BANDS))
    with evaluating(model), torch.inference_mode():
        for i in range(0, len(images_NHWC), batch):
            parts_BNHWC = band_images(images_NHWC[i : i + batch])
            parts_BNHWC[0] = (parts_BNHWC[0] - mean) / std
            for band, part_NHWC in enumerate(parts_BNHWC):
                x_NCHW = torch.from_numpy(part_NHWC).permute(0, 3, 1, 2).contiguous().to(weight.device)
                correct_B[band] += np.sum(model(x_NCHW).argmax(dim=1).cpu().numpy() == labels_N[i : i + batch])
    return tuple(float(share) for share in correct_B / len(images_NHWC))


def band_masks(height_px: int, width_px: int, bands: Sequence[float]) -> NDArray[np.bool_]:
    """Return which frequencies belong to each band, shape (B, H, W)."""
    waves_H, waves_W = (np.abs(np.round(np.fft.fftfreq(n) * n)) for n in (height_px, width_px))
    # Whole numbers, so that a frequency on an edge is not moved by rounding.
    distance_HW = waves_H[:, None] * width_px + waves_W[None, :] * height_px
    inside_BHW = np.stack([distance_HW <= edge * height_px * width_px for edge in bands])
    inside_BHW[1:] &= ~inside_BHW[:-1].copy()
    return inside_BHW
