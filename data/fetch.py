"""Source files that are downloaded where they are missing, before a run asks for them: those of MNIST, by torchvision.

Apart from the sets that are made of them, so that who only looks at them downloads nothing, and no version of PyTorch
decides what they are.
"""

import http.client
import logging
import socket
from pathlib import Path

from bigstep import vision
from bigstep.config import DataConfig
from data.files.sources import source_folder
from data.sets import mnist

log = logging.getLogger("bigstep.data")
FROM_MNIST = ("colored-mnist", "double-mnist", "mnist-cifar")
TIMEOUT_S = 20.0  # torchvision sets none: behind a firewall that drops packets a download would wait for minutes


def fetch(config: DataConfig) -> None:
    """Download what data are made from, if it is missing and may be had; does nothing for all other data.

    Raises:
        DataError: something is missing and cannot be downloaded.
    """
    if config.kind in FROM_MNIST and mnist.missing(folder := source_folder(config)):
        _fetch_mnist(folder)


def _fetch_mnist(folder: Path) -> None:
    """Fetch the four files with torchvision into mnist/MNIST/raw, its own layout."""
    root = folder / "mnist"
    log.info("downloading MNIST (11 MB) to %s", root)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        vision.load().datasets.MNIST(root=str(root), download=True)
    except (ImportError, OSError, RuntimeError, http.client.HTTPException) as error:
        raise mnist.not_there(folder, f"and no download: {' '.join(str(error).split())}") from error
    finally:
        socket.setdefaulttimeout(before)
