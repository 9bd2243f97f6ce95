"""Running statistics of BatchNorm for weights that no training step has seen: averages and points in between.

Shapes: N images, C channels, H height, W width.
"""

import math

from torch import nn
from torch.optim.swa_utils import update_bn

from train.measure.surface import BATCH
from train.networks.feed import Inputs
from train.networks.predict import evaluating


def renew(model: nn.Module, x_NCHW: Inputs) -> nn.Module:
    """Measure mean and variance of every BatchNorm anew on some images; the network is changed in place.

    Each statistic is the average over batches of equal size (to one image), at most `BATCH` images each; a network
    without BatchNorm stays as it is.

    Source: Izmailov et al. 2018, arXiv:1803.05407, section 3.2; PyTorch's `update_bn`.
    """
    n, parts = len(x_NCHW), math.ceil(len(x_NCHW) / BATCH)
    with evaluating(model):  # gives every module its own mode back
        # Equal sizes: a last batch of one image would have no variance.
        update_bn((x_NCHW[i * n // parts : (i + 1) * n // parts] for i in range(parts)), model)
    return model
