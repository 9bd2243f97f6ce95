"""torchvision's networks: the sizes that their papers and torchvision state, and stems that suit small images."""

import pytest
import torch
from torch import nn

from bigstep.records.architecture import Architecture, InputSpec
from train.networks import families
from train.networks.build import build


def architecture(family, side_px=224, channels=3, blocks=None, classes=1000):
    return Architecture(
        family=family,
        widths={},
        classes=classes,
        input=InputSpec(height_px=side_px, width_px=side_px, channels=channels),
        mean=(0.5,) * channels,
        std=(0.3,) * channels,
        blocks=blocks,
    )


def make_empty(described):
    with torch.device("meta"):  # shapes without numbers
        return build(described)


def num_parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("wide_resnet101_2", 126_886_696),
        ("swin_t", 28_288_354),
        ("mobilenet_v3_small", 2_542_856),
        ("mobilenet_v3_large", 5_483_032),
    ],
)
def test_at_full_size_they_are_the_networks_that_everybody_has(family, parameters):
    assert num_parameters(make_empty(architecture(family))) == parameters


@pytest.mark.parametrize(("side_px", "rows"), [(32, 4), (64, 8), (65, 3), (224, 7)])
@pytest.mark.parametrize("family", ["resnet18", "resnet50"])
def test_a_resnet_keeps_the_resolution_of_small_images(family, side_px, rows):
    model = make_empty(architecture(family, side_px))
    seen = []
    model.layer4.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[2:])))
    model(torch.zeros(2, 3, side_px, side_px, device="meta"))
    assert seen == [(rows, rows)]
    assert isinstance(model.maxpool, nn.Identity) == (side_px <= families.SMALL_PX)


@pytest.mark.parametrize(
    ("side_px", "patch", "window", "rows"), [(32, 2, 4, [16, 8, 4, 2]), (224, 4, 7, [56, 28, 14, 7])]
)
def test_a_swin_takes_smaller_patches_and_windows_of_small_images(side_px, patch, window, rows):
    model = make_empty(architecture("swin_t", side_px, blocks=1))
    seen = []
    for stage in (1, 3, 5, 7):
        model.features[stage].register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
    assert model(torch.zeros(2, 3, side_px, side_px, device="meta")).shape == (2, 1000)
    assert model.features[0][0].stride == (patch, patch)
    assert model.features[1][0].attn.window_size == [window, window]
    assert seen == rows


@pytest.mark.parametrize(("side_px", "stride"), [(32, 1), (64, 1), (65, 2)])
def test_a_mobilenet_keeps_the_resolution_of_small_images(side_px, stride):
    model = make_empty(architecture("mobilenet_v3_small", side_px))
    assert model.features[0](torch.zeros(1, 3, side_px, side_px, device="meta")).shape[2] == -(-side_px // stride)


@pytest.mark.parametrize("side_px", [28, 96])
@pytest.mark.parametrize("family", ["resnet18", "swin_t", "mobilenet_v3_large"])
def test_grey_images_need_a_stem_of_one_channel(family, side_px):
    model = make_empty(architecture(family, side_px, channels=1, classes=10))
    assert model(torch.zeros(2, 1, side_px, side_px, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(
    ("family", "blocks", "kept"),
    [("resnet50", 1, 4), ("resnet50", 4, 14), ("swin_t", 1, 4), ("mobilenet_v3_small", 1, 5), ("resnet18", 9, 8)],
)
def test_blocks_are_limited_in_every_stage(family, blocks, kept):
    names = {"Bottleneck", "BasicBlock", "SwinTransformerBlock", "InvertedResidual"}
    model = make_empty(architecture(family, 32, blocks=blocks))
    assert sum(type(module).__name__ in names for module in model.modules()) == kept
    assert model(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize("family", ["swin_t", "mobilenet_v3_small"])
def test_nothing_is_drawn_while_training(family):
    model = build(architecture(family, 8, blocks=1, classes=2))
    x_NCHW = torch.randn(4, 3, 8, 8)
    before = torch.get_rng_state()
    assert torch.equal(model(x_NCHW), model(x_NCHW)) and torch.equal(before, torch.get_rng_state())
