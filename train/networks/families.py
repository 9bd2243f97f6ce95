"""torchvision's networks, with the stems that small images need.

The weights keep torchvision's names, so that its pretrained files fit. Up to SMALL_PX pixels a side the stem keeps the
resolution: the usual ones shrink an image by 4 before the first block. Dropout and stochastic depth are off: the
stopping rule compares losses with and without them, and the batch order is to be the only chance in a run.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from bigstep import vision
from bigstep.records.architecture import Architecture

SMALL_PX = 64
RESNETS: dict[str, tuple[str, list[int], int]] = {  # block, blocks per stage, channels of a group in its first stage
    "resnet18": ("BasicBlock", [2, 2, 2, 2], 64),
    "resnet50": ("Bottleneck", [3, 4, 6, 3], 64),
    "wide_resnet101_2": ("Bottleneck", [3, 4, 23, 3], 128),
}
SWIN_CHANNELS, SWIN_HEADS, SWIN_DEPTHS = 96, [3, 6, 12, 24], [2, 2, 6, 2]


def make(architecture: Architecture) -> nn.Module:
    """Make a network of a torchvision family at its own widths."""
    return MAKERS[architecture.family](architecture)


def is_small(architecture: Architecture) -> bool:
    """Say whether the images are small enough for a stem that keeps their resolution."""
    return max(architecture.input.height_px, architecture.input.width_px) <= SMALL_PX


def _resnet(architecture: Architecture) -> nn.Module:
    """Make a ResNet; small images get a 3x3 stem of stride 1 without pooling.

    Source: He et al. 2016, arXiv:1512.03385, section 4.2 (the stem for CIFAR).
    """
    library: Any = vision.load().models.resnet
    block, depths, base_width = RESNETS[architecture.family]
    model: Any = library.ResNet(
        getattr(library, block),
        _at_most(depths, architecture.blocks),
        num_classes=architecture.classes,
        width_per_group=base_width,
    )
    small, channels = is_small(architecture), architecture.input.channels
    if small:
        model.conv1 = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    elif channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return model  # type: ignore[no-any-return]  # torchvision has no types here


def _swin(architecture: Architecture) -> nn.Module:
    """Make a Swin-T; small images get patches of 2 and windows of 4 pixels, the rest the usual 4 and 7.

    At 32 pixels a side the maps are then 16, 8, 4 and 2 wide, and windows of 4 divide all but the last.

    Source: Liu et al. 2021, arXiv:2103.14030, section 3.3.
    """
    library: Any = vision.load().models.swin_transformer
    patch, window = (2, 4) if is_small(architecture) else (4, 7)
    model: Any = library.SwinTransformer(
        patch_size=[patch, patch],
        embed_dim=SWIN_CHANNELS,
        depths=_at_most(SWIN_DEPTHS, architecture.blocks),
        num_heads=SWIN_HEADS,
        window_size=[window, window],
        stochastic_depth_prob=0.0,
        num_classes=architecture.classes,
    )
    if architecture.input.channels != 3:
        model.features[0][0] = nn.Conv2d(architecture.input.channels, SWIN_CHANNELS, patch, stride=patch)
    return model  # type: ignore[no-any-return]


def _mobilenet(architecture: Architecture) -> nn.Module:
    """Make a MobileNetV3; for small images the first convolution has stride 1.

    Source: Howard et al. 2019, arXiv:1905.02244, tables 1 and 2.
    """
    library: Any = vision.load().models
    model: Any = getattr(library, architecture.family)(num_classes=architecture.classes, dropout=0.0, norm_layer=NORM)
    stem = model.features[0][0]
    if architecture.input.channels != 3:
        stem = nn.Conv2d(architecture.input.channels, stem.out_channels, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out")
        model.features[0][0] = stem
    if is_small(architecture):
        stem.stride = (1, 1)
    if architecture.blocks is not None:
        model.features = _first_blocks(model.features, architecture.blocks)
    return model  # type: ignore[no-any-return]


def _first_blocks(features: nn.Sequential, blocks: int) -> nn.Sequential:
    """Keep the first blocks of every stage; a stage begins with a block that has no shortcut."""
    kept: list[nn.Module] = []
    in_stage = 0
    for layer in features:
        in_stage = in_stage + 1 if getattr(layer, "use_res_connect", False) else 1
        if in_stage <= blocks:
            kept.append(layer)
    return nn.Sequential(*kept)


def _at_most(depths: list[int], blocks: int | None) -> list[int]:
    return depths if blocks is None else [min(depth, blocks) for depth in depths]


# torchvision's momentum of 0.01 averages over hundreds of steps, more than a fine-tuning after pruning may have.
NORM = partial(nn.BatchNorm2d, eps=0.001, momentum=0.1)
MAKERS: dict[str, Callable[[Architecture], nn.Module]] = {
    **dict.fromkeys(RESNETS, _resnet),
    "swin_t": _swin,
    "mobilenet_v3_small": _mobilenet,
    "mobilenet_v3_large": _mobilenet,
}
