"""Images of a split as a network takes them: normalised at once where they are few, batch by batch where they are many.

Shapes: N images, n images of a batch, C channels, H height, W width.

Results do not depend on where the pixels are held: normalising works on each pixel by itself.
"""

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigstep.records.architecture import Architecture
from train.networks.build import normalise

FLOAT_BYTES = 512 * 2**20  # normalised pixels up to this size are held as they are, by every training process
GPU_SHARE = 0.5  # of the free memory of a GPU that uint8 pixels may take


class Inputs(Protocol):
    """What hands out normalised float32 images (n, C, H, W) by index tensor or slice, like a tensor."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, index: Tensor | slice, /) -> Tensor:
        """Return the images of an index tensor or slice, on the device of the network."""


class Pixels:
    """Images as uint8, of which what is asked for is normalised; see `Inputs`.

    They stay where they are, possibly a memory map larger than memory, or lie on the GPU if they fit there.
    """

    def __init__(self, images_NHWC: NDArray[np.uint8], architecture: Architecture, device: str) -> None:
        self.device = torch.device(device)
        self.architecture = architecture
        self.memory = np.asarray(images_NHWC)  # a plain view: np.memmap does work of its own at every indexing
        self.on_device: Tensor | None = None
        if self.device.type == "cuda" and images_NHWC.nbytes <= GPU_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            self.on_device = torch.from_numpy(np.array(images_NHWC)).to(self.device)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.memory)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Return normalised images on the device."""
        return normalise(self.gather(index).to(self.device), self.architecture)

    def gather(self, index: Tensor | slice) -> Tensor:
        """Return uint8 images (n, H, W, C), copied out of where they are held."""
        if self.on_device is not None:
            return self.on_device[index]
        rows = index if isinstance(index, slice) else index.cpu().numpy()
        return torch.from_numpy(np.array(self.memory[rows]))

    def ahead(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the batches of some indices, the next one being read from memory or disk while this one is used."""
        if self.on_device is not None:
            yield from (self[index] for index in indices)
            return
        waiting: deque[Future[Tensor]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            for number in range(len(indices) + 1):
                if number < len(indices):
                    waiting.append(pool.submit(self.gather, indices[number]))
                if number:
                    yield normalise(waiting.popleft().result().to(self.device), self.architecture)


def inputs(images_NHWC: NDArray[np.uint8], architecture: Architecture, device: str) -> Inputs:
    """Return images as a network takes them: (x / 255 - mean) / std, float32, (N, C, H, W).

    They are a tensor on the device where that takes at most FLOAT_BYTES, else `Pixels`.
    """
    pixels = Pixels(images_NHWC, architecture, device)
    return pixels[:] if 4 * images_NHWC.size <= FLOAT_BYTES else pixels


def first(x: Inputs, n: int) -> Inputs:
    """Return the first n images without reading them."""
    if not isinstance(x, Pixels):
        return x[:n]
    few = copy.copy(x)
    few.memory, few.on_device = x.memory[:n], None if x.on_device is None else x.on_device[:n]
    return few


def batches(x: Inputs, indices: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield x[index] for every index, reading ahead where that can help."""
    return x.ahead(indices) if isinstance(x, Pixels) else (x[index] for index in indices)
