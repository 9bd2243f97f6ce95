"""How well a representation keeps classes apart.

Shapes: N samples, D hidden units, K classes.
"""

from torch import Tensor
from torch.nn.functional import normalize, one_hot

SAME_DIRECTION = 1e-12  # a mean cosine distance below this is rounding


def separation(z_ND: Tensor, labels_N: Tensor) -> float:
    """Return how much smaller distances are inside classes than between any two classes.

    R2 = 1 - d_within / d_between,   d(a, b) = 1 - cos(|a|, |b|)

    d_within is the mean over classes of the mean distance of two samples of the class, a sample and itself included;
    d_between is the mean over all K**2 ordered pairs of classes, a class and itself included, of the mean distance of
    a sample of the one and a sample of the other. With the mean unit vector m_k of each class these are
    1 - mean ||m_k||**2 and 1 - ||mean m_k||**2, so no pair is ever formed.

    Args:
        z_ND: activations; only their magnitudes count, and a row of zeros lies at distance 1 from everything.
        labels_N: int64 labels, or bias values for the separation of the bias; values that do not occur do not count.

    Returns:
        In [0, 1]: 1 where every class has one direction of its own, near 0 for labels that do not depend on z
        (a little above, because of the pairs of a sample and itself), 0 where all samples have one direction.

    Source: Kornblith et al. 2021, arXiv:2010.16402 (class separation), with all pairs of classes as in
    the code of Barsbey et al. (github.com/mbarsbey/advcomp, utils/statistics.py).
    """
    _, classes_N = labels_N.unique(return_inverse=True)
    unit_ND = normalize(z_ND.detach().abs().double(), dim=1)
    member_NK = one_hot(classes_N).to(unit_ND)
    mean_KD = member_NK.T @ unit_ND / member_NK.sum(dim=0)[:, None]
    within = 1 - mean_KD.square().sum(dim=1).mean()
    between = 1 - mean_KD.mean(dim=0).square().sum()
    return float(1 - within / between) if between > SAME_DIRECTION else 0.0
