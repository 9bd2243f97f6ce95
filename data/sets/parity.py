"""Boolean images: 34 black or white pixels, of which one block carries the label and the other gives it away.

The label is a function of the 14 core pixels (as -1 and 1), the bias another, simpler function of the 20 spurious
ones. No pixel means much by itself. Variants:

- `staircase`, the default: the sign (of 0: +1) of x1 + x1 x2 + ... + x1 x2 ... xd, with d = 14 for the core and
  d = 10 for the bias, on the first d pixels of a block: the "hard staircase" of the source.
- `parity`: the product of d pixels, with d = 3 and d = 2; these degrees are ours.

Training has 60,000 images, as in the source. Labels are balanced exactly, where the source takes them as uniform
core pixels give them (60.5% ones for the staircase). The source refuses a spurious function whose share p of ones has
|2p - 1| >= 0.4; both of ours pass: p is 0.623 for the staircase of 10 pixels and 0.5 for a product.

How hard: a fully connected network of two layers of 128, SGD at rate 0.1 with batches of 64 and a tenth of the images
conflicting, seed 0, is right in 89% of the aligned and 54% of the conflicting test images of `staircase` after 20
epochs; of `parity` in 100% and 0% after one epoch, in 100% of both after two.

Source: Qiu, Kuang, Goel 2024, arXiv:2403.03375, and their code (Boolean_Spurious).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.records.architecture import InputSpec
from bigstep.records.images import SplitName
from data.bias.conflicts import bias_of_split
from data.files.builder import Built, Part, variant

Boolean = Callable[[NDArray[np.int8]], NDArray[np.int64]]
CORE, SPURIOUS = 14, 20  # pixels of each block
SIZES: dict[SplitName, int] = {"train": 60000, "validation_biased": 4000, "validation": 4000, "test": 8000}


def staircase(x_ND: NDArray[np.int8], degree: int) -> NDArray[np.int64]:
    """Return 1 where x1 + x1 x2 + ... + x1 ... x_degree >= 0 and 0 elsewhere, for pixels of -1 and 1."""
    steps = np.cumprod(x_ND[:, :degree], axis=1, dtype=np.int8)
    ones: NDArray[np.int64] = (steps.sum(axis=1, dtype=np.int64) >= 0).astype(np.int64)
    return ones


def parity(x_ND: NDArray[np.int8], degree: int) -> NDArray[np.int64]:
    """Return 1 where the product of the first `degree` pixels of -1 and 1 is 1, and 0 elsewhere."""
    ones: NDArray[np.int64] = (np.prod(x_ND[:, :degree], axis=1, dtype=np.int64) + 1) // 2
    return ones


VARIANTS: dict[str, tuple[Boolean, Boolean]] = {  # the core function and the spurious one
    "staircase": (partial(staircase, degree=14), partial(staircase, degree=10)),
    "parity": (partial(parity, degree=3), partial(parity, degree=2)),
}


def build(config: DataConfig, _work: Path | None = None) -> Built:
    """Draw the pixels: a share `config.conflicting` of train and `validation_biased` has another bias than label.

    In validation and test the four cells of label and bias hold equally many images. Images are (1, 34, 1), the core
    pixels first, so that only a fully connected network takes them.

    Raises:
        ConfigError: there is no such variant.
    """
    kind, (core, spurious) = variant(config, VARIANTS)
    rng = np.random.default_rng(config.seed)
    parts: dict[SplitName, Part] = {}
    first = 0
    for name, size in SIZES.items():
        labels = rng.permutation(np.arange(size) % 2)
        bias = bias_of_split(name, labels, 2, 2, config.conflicting, rng)
        blocks = [draw(core, labels, CORE, rng), draw(spurious, bias, SPURIOUS, rng)]
        pixels = (np.concatenate(blocks, axis=1) > 0).astype(np.uint8) * np.uint8(255)
        parts[name] = Part(
            images=pixels[:, None, :, None],
            labels=labels,
            bias=bias[:, None],
            ids=np.arange(size),
            sources=np.arange(first, first + size),
        )
        first += size
    in_core = np.broadcast_to(np.arange(CORE + SPURIOUS) < CORE, (SIZES["test"], 1, CORE + SPURIOUS))
    return Built(
        name=f"parity ({kind})",
        labels=["0", "1"],
        attributes={"spurious": ["0", "1"]},
        input=InputSpec(height_px=1, width_px=CORE + SPURIOUS, channels=1),
        parts=parts,
        core=in_core,
        spurious=~in_core,
    )


def draw(function: Boolean, wanted_N: NDArray[np.int64], pixels: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Draw rows of -1 and 1 uniformly among those for which a Boolean function has the wanted value.

    Args:
        wanted_N: 0 or 1 for every row; the function must take both values often, else this takes long.

    Returns:
        int8, shape (N, pixels).
    """
    x_ND = np.empty((len(wanted_N), pixels), dtype=np.int8)
    waiting = np.arange(len(wanted_N))
    while len(waiting):
        x_ND[waiting] = 2 * rng.integers(0, 2, size=(len(waiting), pixels), dtype=np.int8) - 1
        waiting = waiting[function(x_ND[waiting]) != wanted_N[waiting]]
    return x_ND
