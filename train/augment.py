"""Random flips and shifts of a batch, drawn on the CPU from a generator of the epoch, done where the images are.

Shapes: n images of a batch, C channels, H height, W width.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from bigstep.records.trained import Augmentation

SHIFT = 8  # images are shifted by up to this part of their side: 4 pixels of 32


def augment(x_nCHW: Tensor, kind: Augmentation, rng: np.random.Generator) -> Tensor:
    """Mirror every second image on average and, for `flip-shift`, shift each by up to an eighth of its side.

    What a shift uncovers is filled with the mean colour of training, which is zero after normalisation. The common
    recipe for small photographs (He et al. 2016, arXiv:1512.03385, section 4.2: flips, and crops of images padded
    by 4 pixels).
    """
    if kind == "none":
        return x_nCHW
    flipped_n = rng.random(len(x_nCHW)) < 0.5
    if kind == "flip":
        return torch.where(_column(flipped_n, x_nCHW), x_nCHW.flip(3), x_nCHW)
    height, width = x_nCHW.shape[2:]
    margins = height // SHIFT, width // SHIFT
    top_n, left_n = (rng.integers(0, 2 * margin + 1, len(x_nCHW)) for margin in margins)
    rows_nH = top_n[:, None] + np.arange(height)
    columns_nW = left_n[:, None] + np.where(flipped_n[:, None], np.arange(width)[::-1], np.arange(width))
    rows, columns = (torch.from_numpy(places).to(x_nCHW.device) for places in (rows_nH, columns_nW))
    padded = pad(x_nCHW, (margins[1], margins[1], margins[0], margins[0]))
    image = torch.arange(len(x_nCHW), device=x_nCHW.device)[:, None, None]
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _column(mask_n: np.typing.NDArray[np.bool_], like: Tensor) -> Tensor:
    return torch.from_numpy(mask_n).to(like.device).view(-1, 1, 1, 1)
