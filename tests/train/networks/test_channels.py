"""Channels that leave together: across shortcuts, depthwise convolutions and gates; and none where that is unclear."""

import logging

import pytest
import torch
from torch import nn

from bigstep.records.architecture import Architecture, InputSpec, UserNetwork
from train.networks import channels
from train.networks.channels import Channels

OWN = Architecture(
    family="own",
    widths={},
    classes=3,
    input=InputSpec(height_px=8, width_px=8),
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    own=UserNetwork(path="net.py", function="make", sha256="0" * 64),
)


class Net(nn.Module):
    """Hold layers by name, and a forward pass given from outside."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.path = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.path(self, x)


def conv(inputs, outputs, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def shortcut():
    def forward(net, x):
        x = net.stem(x)
        x = x + net.norm(net.second(torch.relu(net.first(x))))
        return net.last(x.mean(dim=(2, 3)))

    return Net(
        forward,
        stem=conv(3, 8),
        first=conv(8, 6),
        second=conv(6, 8),
        norm=nn.BatchNorm2d(8),
        last=nn.Linear(8, 3),
    )


def gate():
    def forward(net, x):
        x = net.depthwise(net.stem(x))
        squeezed = torch.relu(net.squeeze(x.mean(dim=(2, 3), keepdim=True)))
        return net.last((x * torch.sigmoid(net.excite(squeezed))).mean(dim=(2, 3)))

    return Net(
        forward,
        stem=conv(3, 8),
        depthwise=conv(8, 8, groups=8),
        squeeze=nn.Conv2d(8, 2, 1),
        excite=nn.Conv2d(2, 8, 1),
        last=nn.Linear(8, 3),
    )


def joined():
    def forward(net, x):
        x = net.join(torch.cat([net.left(x), net.right(x)], dim=1))
        return net.last(net.hidden(x.flatten(1)).relu())

    layers = {"left": conv(3, 4), "right": conv(3, 5), "join": conv(9, 6)}
    return Net(forward, **layers, hidden=nn.Linear(6 * 64, 7), last=nn.Linear(7, 3))


def masked():
    """Have one channel multiply all others of a layer, as spatial attention does, between two that can shrink."""

    def forward(net, x):
        x = torch.relu(net.body(torch.relu(net.stem(x))))
        return net.last(net.hidden((x * torch.sigmoid(net.mask(x))).mean(dim=(2, 3))).relu())

    layers = {"stem": conv(3, 6), "body": conv(6, 8), "mask": nn.Conv2d(8, 1, 1)}
    return Net(forward, **layers, hidden=nn.Linear(8, 7), last=nn.Linear(7, 3))


def pairwise_largest():
    """Take the larger of every two channels: which two belong together, changes when one leaves."""

    def forward(net, x):
        x = net.stem(x)
        return net.last(net.hidden(x.view(len(x), -1, 2, 8, 8).amax(dim=2)).relu().mean(dim=(2, 3)))

    return Net(forward, stem=conv(3, 12), hidden=nn.Conv2d(6, 5, 1), last=nn.Linear(5, 3))


FOUND = {
    "masked": (masked, {"stem": 6, "hidden": 7}),
    "larger of two": (pairwise_largest, {"hidden": 5}),
    "shortcut": (shortcut, {"stem": 8, "first": 6}),
    "gate": (gate, {"stem": 8, "squeeze": 2}),
    "joined": (joined, {"left": 4, "right": 5, "join": 6, "hidden": 7}),
}


@pytest.mark.parametrize(("make", "widths"), FOUND.values(), ids=FOUND)
def test_groups_are_named_by_their_first_layer_and_the_logits_are_none(make, widths):
    assert channels.prunable(make(), OWN) == widths


@pytest.mark.parametrize(("make", "widths"), FOUND.values(), ids=FOUND)
def test_every_layer_of_a_group_is_resized(make, widths):
    smaller = {name: max(1, width - 3) for name, width in widths.items()}
    model = channels.resize(make(), OWN.model_copy(update={"widths": smaller}))
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 3)
    layers = dict(model.named_modules())
    assert {name: len(layers[name].weight) for name in smaller} == smaller


def test_all_that_a_shortcut_joins_loses_the_same_channels():
    model = shortcut()
    kept = model.second.weight[[0, 2, 3, 4, 5, 7]].detach().clone()
    Channels(model, OWN).group("stem", [1, 6]).prune()
    assert torch.equal(model.second.weight, kept)
    assert [len(model.stem.weight), model.norm.num_features, model.last.in_features] == [6, 6, 6]


def test_a_network_at_its_own_widths_is_left_as_it_is():
    model = shortcut()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    same = channels.resize(model, OWN.model_copy(update={"widths": {"stem": 8, "first": 6}}))
    assert same is model and all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_frozen_weights_stay_frozen():
    model = shortcut()
    model.stem.weight.requires_grad_(False)
    channels.resize(model, OWN.model_copy(update={"widths": {"stem": 4, "first": 6}}))
    assert not model.stem.weight.requires_grad and model.first.weight.requires_grad


def grouped():
    def forward(net, x):
        return net.last(net.group_norm(net.stem(x)).mean(dim=(2, 3)))

    return Net(forward, stem=conv(3, 8), group_norm=nn.GroupNorm(4, 8), last=nn.Linear(8, 3))


def attentive():
    def forward(net, x):
        tokens = net.stem(x).flatten(2).transpose(1, 2)
        scores = (tokens @ tokens.transpose(1, 2)).softmax(dim=-1)
        return net.last((scores @ tokens).mean(dim=1))

    return Net(forward, stem=conv(3, 8), last=nn.Linear(8, 3))


def shuffled():
    """Reshape by a number of channels that is written down: it fails with fewer."""

    def forward(net, x):
        return net.last(net.stem(x).view(len(x), 8, 64).mean(dim=2))

    return Net(forward, stem=conv(3, 8), last=nn.Linear(8, 3))


@pytest.mark.parametrize("make", [grouped, attentive, shuffled])
def test_what_cannot_be_followed_is_left_alone_and_said(make, caplog):
    model = make()
    with caplog.at_level(logging.WARNING, "bigstep.train"):
        assert channels.prunable(model, OWN) == {}
    assert "it is only quantised" in caplog.text
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 3)
