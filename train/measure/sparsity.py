"""How few numbers carry a vector of activations or weights.

Shapes: N samples or weights, D hidden units. A network is measured on its weight tensors of more than one dimension,
as in pruning; biases and the parameters of normalisation do not count.

Source: Barsbey et al. 2025, arXiv:2507.17748 (which quantities grow with the learning rate); the definitions are those
of the papers named below and of the first author's public code (github.com/mbarsbey/advcomp, utils/statistics.py).
"""

import math

import torch
from torch import Tensor, nn


def pq_index(z_ND: Tensor, p: float = 1.0, q: float = 2.0) -> float:
    """Return the PQ index, a scale-free sparsity, averaged over samples.

    PQI = 1 - D**(1/q - 1/p) * ||z||_p / ||z||_q

    Args:
        z_ND: activations, one row per sample, D >= 1.
        p, q: orders of the norms, 0 < p < q.

    Returns:
        0 for rows of equal magnitude, 1 - D**(1/q - 1/p) for rows with one number that is not 0, always below 1.
        A row of zeros counts as 0, since nothing in it stands out.

    Source: Diao et al. 2023, arXiv:2302.05601 (PQ index).
    """
    assert 0 < p < q
    z_ND = z_ND.detach().abs().double()
    largest_N1 = z_ND.amax(dim=1, keepdim=True)
    scaled_ND = z_ND / torch.where(largest_N1 > 0, largest_N1, 1.0)  # the index ignores scale; powers then stay finite
    norm_p_N, norm_q_N = (scaled_ND.pow(order).sum(dim=1).pow(1 / order) for order in (p, q))
    ratio_N = norm_p_N / norm_q_N.clamp(min=1.0)  # the largest number is 1, so only a row of zeros is clamped
    index_N = 1 - z_ND.shape[1] ** (1 / q - 1 / p) * ratio_N
    return float(torch.where(largest_N1[:, 0] > 0, index_N.clamp(min=0.0), 0.0).mean())


def compressibility(w_N: Tensor, kappa: float, q: float = 2.0) -> float:
    """Return how much of a vector's norm its largest numbers carry.

    C = 1 - ||w without its ceil(kappa * N) numbers of largest magnitude||_q / ||w||_q

    Args:
        w_N: any numbers, N >= 1.
        kappa: the fraction that is kept, in [0, 1].
        q: order of the norm, above 0.

    Returns:
        In [0, 1]; 1 where everything is kept, and for a vector of zeros, which loses nothing.

    Source: Gribonval et al. 2012, arXiv:1102.1249 (best k-term approximation); Barsbey et al. 2021,
    arXiv:2106.03795 (of the weights of networks).
    """
    assert 0 <= kappa <= 1 and q > 0
    kept = math.ceil(round(kappa * len(w_N), 6))  # 0.07 * 100 is a little more than 7
    magnitudes_N = w_N.detach().abs().sort().values
    largest = magnitudes_N[-1]
    if largest == 0:
        return 1.0
    powers_N = (magnitudes_N / largest).double().pow(q)
    return float(1 - (powers_N[: len(w_N) - kept].sum() / powers_N.sum()).pow(1 / q))


def network_compressibility(model: nn.Module, kappa: float) -> float:
    """Return `compressibility` (q = 2) of all weights of a network taken as one vector.

    Args:
        model: any network with a parameter of more than one dimension.
        kappa: the fraction of the weights that is kept, in [0, 1].
    """
    return compressibility(torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim > 1]), kappa)


def activation_sparsity(z_ND: Tensor) -> float:
    """Return the share of activations that are exactly 0, over samples and units: a fraction."""
    return float((z_ND == 0).double().mean())


def dead_units(z_ND: Tensor) -> int:
    """Return how many units are 0 on every sample."""
    return int((z_ND == 0).all(dim=0).sum())
