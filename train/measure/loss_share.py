"""Which samples a loss comes from, and how surely a network errs on the ones that contradict the bias.

Shapes: N samples, K classes, A bias attributes, B values of an attribute. All numbers are computed in float64 from
stored logits. NaN stands where there is nothing to average.

A large rate lets the logits grow early: the losses of well-fitted samples vanish, those of confidently mispredicted
conflicting samples grow, and the gradient of a batch comes from them (Barsbey et al. 2025, arXiv:2507.17748, abstract;
the quantities are those of the first author's code, github.com/mbarsbey/advcomp, utils/statistics.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

Floats = NDArray[np.float64]


def sample_losses(logits_NK: NDArray[Any], labels_N: NDArray[np.int64]) -> Floats:
    """Return the cross entropy of each sample in nats.

    l = log(1 + exp(t)),   t = log of the sum over k != y of exp(logit_k - logit_y)

    This keeps its relative precision where the right class has nearly all of the probability, where
    logsumexp(logits) - logit_y would be rounded to 0.
    """
    rows_N = np.arange(len(labels_N))
    difference_NK = logits_NK.astype(np.float64)
    difference_NK -= difference_NK[rows_N, labels_N][:, None]
    difference_NK[rows_N, labels_N] = -np.inf
    losses_N: Floats = np.logaddexp(0.0, logsumexp(difference_NK, axis=1))
    return losses_N


def conflicting_loss_share(losses_N: Floats, conflicting_N: NDArray[np.bool_]) -> float:
    """Return the effective share of conflicting samples, R = their loss / the loss of all: in [0, 1].

    It is their share of the samples where all losses are equal, as before training.
    """
    return _ratio(losses_N[conflicting_N].sum(), losses_N.sum())


def conflicting_loss_ratio(losses_N: Floats, conflicting_N: NDArray[np.bool_]) -> float:
    """Return the summed loss of conflicting samples over that of aligned ones, R / (1 - R): at least 0."""
    return _ratio(losses_N[conflicting_N].sum(), losses_N[~conflicting_N].sum())


def loss_entropy(losses_N: Floats) -> float:
    """Return the entropy of the shares that the samples have in the loss, in nats.

    H = - sum p_i log p_i,   p_i = l_i / sum l;   in [0, log N], log N where all losses are equal
    """
    shares_N = losses_N / losses_N.sum() if losses_N.sum() > 0 else np.full(len(losses_N), np.nan)
    return float(-np.sum(shares_N * np.log(np.where(shares_N == 0, 1.0, shares_N))))


def error_confidence(
    logits_NK: NDArray[Any], labels_N: NDArray[np.int64], among_N: NDArray[np.bool_] | None = None
) -> float:
    """Return the mean largest softmax output over the wrongly predicted samples: in [1 / K, 1].

    Args:
        among_N: count these samples only, for example the conflicting ones.
    """
    wrong_N = logits_NK.argmax(axis=1) != labels_N
    counted_N = wrong_N if among_N is None else wrong_N & among_N
    probabilities_NK = softmax(logits_NK[counted_N].astype(np.float64), axis=1)
    return float(probabilities_NK.max(axis=1).mean()) if counted_N.any() else float("nan")


def logit_norm(logits_NK: NDArray[Any]) -> float:
    """Return the mean Euclidean norm of a sample's logits: at least 0."""
    return float(np.linalg.norm(logits_NK.astype(np.float64), axis=1).mean())


def bias_following(
    predicted_N: NDArray[np.int64],
    labels_N: NDArray[np.int64],
    bias_NA: NDArray[np.int64],
    aligned_AKB: Sequence[NDArray[np.bool_]],
) -> float:
    """Return the share of errors on conflicting samples that follow the bias: in [0, 1].

    A wrong prediction follows the bias when, for some attribute whose value contradicts the label, training
    over-represents that value in the predicted class. With one label per value that is "the prediction equals the
    bias". Errors spread evenly over the wrong classes give, with one such class per value, 1 / (K - 1); with two
    classes that is 1, whatever the network does.

    Args:
        predicted_N: predicted classes, 0..K-1.
        labels_N: true classes, 0..K-1.
        bias_NA: the values of each attribute, A >= 1.
        aligned_AKB: for each attribute a table (K, B), true where training over-represents the value in the class
            (`bigstep.groups.over_represented`).
    """
    conflicting_N = np.zeros(len(labels_N), dtype=np.bool_)
    follows_N = np.zeros(len(labels_N), dtype=np.bool_)
    for a, table_KB in enumerate(aligned_AKB):
        contradicts_N = ~table_KB[labels_N, bias_NA[:, a]]
        conflicting_N |= contradicts_N
        follows_N |= contradicts_N & table_KB[predicted_N, bias_NA[:, a]]
    errors_N = conflicting_N & (predicted_N != labels_N)
    return _ratio((follows_N & errors_N).sum(), errors_N.sum())


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
