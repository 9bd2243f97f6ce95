"""Where the source files of a data set lie."""

from __future__ import annotations

import os
from pathlib import Path

from bigstep.config import DataConfig
from bigstep.errors import DataError

VARIABLE = "BIGSTEP_DATA"


def source_folder(config: DataConfig) -> Path:
    """Return the folder that `config.path` names or, if it names none, the environment variable BIGSTEP_DATA.

    Raises:
        DataError: neither is set, or what is named is no folder.
    """
    named = config.path or os.environ.get(VARIABLE)
    do = f"set data.path in the configuration, or the environment variable {VARIABLE}, to the folder that holds them"
    if not named:
        got = f"no data.path, and {VARIABLE} is not set"
        raise DataError(f"{config.kind} is made from source files, and nothing says where they are", got=got, do=do)
    folder = Path(named).expanduser()
    if not folder.is_dir():
        origin = "data.path" if config.path else VARIABLE
        raise DataError(f"{config.kind} needs a folder of source files", got=f"{origin} = {named}, no folder", do=do)
    return folder
