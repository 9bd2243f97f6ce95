"""A network as a value: everything that is needed to build it again, but for its weights."""

from typing import Literal

from bigstep.records.sealed import Value


class InputSpec(Value):
    """The pixels that a network takes: uint8, NHWC, RGB or grey; how files become these is `bigstep.decode`."""

    height_px: int
    width_px: int
    channels: Literal[1, 3] = 3
    resize: Literal["bilinear"] = "bilinear"
    fit: Literal["stretch", "crop"] = "stretch"


class UserNetwork(Value):
    """The function of a user's file that makes a network, and the SHA-256 of that file."""

    path: str
    function: str
    sha256: str


Family = Literal[
    "mlp",
    "cnn",
    "resnet18",
    "resnet50",
    "wide_resnet101_2",
    "swin_t",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "own",
]


class Architecture(Value):
    """A network, described so completely that it can be built again without any code of the run that made it.

    `widths` gives every hidden layer's number of units or channels by name, in order; layers whose channels can only
    leave together are named once, by the first of them. `blocks` is the largest number of blocks in a stage, None for
    the family's own. `own` names a user's network, which alone needs a file beside the record. `mean` and `std` are
    the normalisation inside the network, per channel, in units of pixels / 255.
    """

    family: Family
    widths: dict[str, int]
    classes: int
    input: InputSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]
    blocks: int | None = None
    own: UserNetwork | None = None
