"""Which pixels a network's answer comes from, and how much of it lies on the pixels that carry the label.

Shapes: N images, n images of a batch, C channels, H height, W width, K classes.

DeepLIFT (rescale rule) against a baseline of zeros in the network's normalised input, which is the data's mean colour
and not black: the baseline of the code named below. A pixel of the mean colour therefore gets nothing.

DeepLIFT explains a difference of outputs exactly, sum of attributions = f(x) - f(baseline), but only where every
non-linearity is one that captum knows and is a module called once. Modules that a network calls several times (the
ReLUs of torchvision's ResNets) are given one copy per call. Where the sum still does not come out, which it does not
for functional ReLUs, GELU or attention, integrated gradients stand in and the result says so.

Sources: Shrikumar et al. 2017, arXiv:1704.02685 (DeepLIFT); Sundararajan et al. 2017, arXiv:1703.01365 (integrated
gradients); Barsbey et al. 2025, arXiv:2507.17748, and the first author's code (github.com/mbarsbey/advcomp,
evaluation.py) for the share of the core features.
"""

import copy
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from train.networks.feed import Inputs

Method = Literal["deep_lift", "integrated_gradients"]
INCOMPLETE = 0.01  # share of the difference of outputs that DeepLIFT may leave unexplained, on average
STEPS = 32  # of the path of integrated gradients
OUTLIERS = 0.02  # share of an image's attribution above which single pixels are clipped
NON_LINEAR = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.MaxPool2d, nn.Softmax)


@dataclass(frozen=True)
class Explainer:
    """What attributes logits to pixels: `attribute(x_NCHW, labels_N)` has the shape of x_NCHW."""

    method: Method
    attribute: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class CoreShare:
    """The shares of the attribution on core and on spurious pixels, as fractions; the rest is on neither."""

    core: float
    spurious: float
    method: Method


class _InTurn(nn.Module):
    """Copies of one module that are called in turn, each once per pass."""

    def __init__(self, module: nn.Module, calls: int) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copy.deepcopy(module) for _ in range(calls))
        self.called = 0

    def forward(self, x: Tensor) -> Tensor:
        self.called += 1
        y: Tensor = self.copies[(self.called - 1) % len(self.copies)](x)
        return y


def explainer(model: nn.Module, x_nCHW: Tensor, labels_n: Tensor) -> Explainer:
    """Return DeepLIFT if it explains these images completely, else integrated gradients.

    Args:
        model: any network; a copy in evaluation mode is explained.
        x_nCHW: a few normalised float32 images to try it on, on the network's device.
        labels_n: int64, the class of each image whose logit is explained.
    """
    from captum.attr import DeepLift, IntegratedGradients  # half a second that the rest of training need not wait for

    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    deep_lift = DeepLift(_called_once(frozen, x_nCHW[:1]))
    path = IntegratedGradients(frozen)

    def by_deep_lift(x_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks")  # on our copy
            found: Tensor = deep_lift.attribute(_leaf(x_NCHW), target=labels_N)
        return found.detach()

    def by_integrated_gradients(x_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        at_once = len(x_NCHW)  # points of the path per pass, as many as there are images
        found: Tensor = path.attribute(_leaf(x_NCHW), target=labels_N, n_steps=STEPS, internal_batch_size=at_once)
        return found.detach().to(x_NCHW.dtype)

    if _complete(frozen, by_deep_lift, x_nCHW, labels_n):
        return Explainer("deep_lift", by_deep_lift)
    return Explainer("integrated_gradients", by_integrated_gradients)


def core_share(
    model: nn.Module,
    x_NCHW: Inputs,
    labels_N: Tensor,
    core_NHW: Tensor,
    spurious_NHW: Tensor,
    batch: int = 64,
) -> CoreShare:
    """Return how much of the attribution of the true class lies on core and on spurious pixels.

    a = sum over channels of |attribution| + 1e-6, cut off at the value below which pixels hold 98 % of the image's sum
    share of a region = sum of a over the region / sum of a,   averaged over images

    Where every pixel is either core or spurious, core = 1 - spurious, which is the source's definition.

    Args:
        model: any network; it is left as it was.
        x_NCHW: normalised float32 images on the network's device, or what hands them out (see `train.networks.feed`).
        labels_N: int64, on the same device.
        core_NHW, spurious_NHW: bool, true on the pixels that carry the label and on those that carry the bias.
        batch: images per pass.

    Returns:
        The two shares, each in [0, 1], and the method that found them.
    """
    device = labels_N.device
    found = explainer(model, x_NCHW[:batch], labels_N[:batch])
    sums_2 = torch.zeros(2, dtype=torch.float64, device=device)
    for i in range(0, len(x_NCHW), batch):
        rows = slice(i, i + batch)
        a_NHW = clip_outliers(found.attribute(x_NCHW[rows], labels_N[rows]).abs().sum(dim=1).double() + 1e-6)
        for region, mask_NHW in enumerate((core_NHW, spurious_NHW)):
            inside_N = (a_NHW * mask_NHW[rows].to(device)).sum(dim=(1, 2))
            sums_2[region] += (inside_N / a_NHW.sum(dim=(1, 2))).sum()
    core, spurious = (sums_2 / len(x_NCHW)).tolist()
    return CoreShare(core, spurious, found.method)


def clip_outliers(a_NHW: Tensor) -> Tensor:
    """Cut off each image's largest values at the one at which the sum of the smaller ones reaches 98 % of the total.

    Args:
        a_NHW: magnitudes, at least 0.

    Source: the normalisation of attributions in captum's visualisation, which clips 2 % of the mass, not of the pixels.
    """
    rising_ND = a_NHW.flatten(1).sort(dim=1).values
    sums_ND = rising_ND.cumsum(dim=1)
    first_N1 = (sums_ND >= (1 - OUTLIERS) * sums_ND[:, -1:]).int().argmax(dim=1, keepdim=True)
    return torch.minimum(a_NHW, rising_ND.gather(1, first_N1)[:, :, None])


def _called_once(model: nn.Module, x_1CHW: Tensor) -> nn.Module:
    """Return a copy in which no non-linear module is called twice or overwrites its input."""
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if getattr(module, "inplace", False):
            setattr(module, "inplace", False)  # noqa: B010 - no type has this attribute for all modules
    calls: Counter[nn.Module] = Counter()
    hooks = [
        module.register_forward_hook(lambda module, _, __: calls.update([module]))
        for module in copied.modules()
        if type(module) in NON_LINEAR
    ]
    with torch.no_grad():
        copied(x_1CHW)
    for hook in hooks:
        hook.remove()
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if calls[child] > 1:
                setattr(parent, name, _InTurn(child, calls[child]))
    return copied


def _complete(
    model: nn.Module, attribute: Callable[[Tensor, Tensor], Tensor], x_nCHW: Tensor, labels_n: Tensor
) -> bool:
    """Say whether attributions add up to the difference of outputs between images and baseline."""
    try:
        total_n = attribute(x_nCHW, labels_n).double().flatten(1).sum(dim=1)
    except (AssertionError, ValueError):  # a pooling that captum or PyTorch cannot invert, a dilated one for example
        return False
    with torch.no_grad():
        outputs_nK = (model(x_nCHW) - model(torch.zeros_like(x_nCHW[:1]))).double()
    difference_n = outputs_nK.gather(1, labels_n[:, None])[:, 0]
    return bool((total_n - difference_n).abs().mean() <= INCOMPLETE * difference_n.abs().mean())


def _leaf(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.detach().clone().requires_grad_()
