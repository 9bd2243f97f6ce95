"""Clock readings of a run: taken once on each kind of machine, kept in the run folder, and taken again on request."""

import importlib
import json
import logging
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from bigstep.config import VerifyConfig
from bigstep.records.exported import Exported
from bigstep.records.images import Images
from bigstep.records.measured import Measured
from pipeline import closure
from pipeline.store import SHORT, Store

log = logging.getLogger("bigstep")
DOOR = "verify.measure"


def take(store: Store, config: VerifyConfig, images: Images, exported: Exported, *, again: bool) -> Measured:
    """Return how fast the exported files are on this machine, measured now if nobody did so before.

    Readings stand for files, a machine and the code that took them, and for no budget: what is demanded of them may
    change from run to run, and they do not. Where a budget needs more queries than were made, they are taken anew.

    Args:
        again: take them anew in any case.
    """
    door = importlib.import_module(DOOR)
    about = [images.digest, closure.of(DOOR).digest(), door.machine()]
    key = sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    path = store.folder / "measured" / f"{exported.digest[:SHORT]}-{key[:SHORT]}.json"
    wanted, known = door.effort(config), None if again else _known(path)
    if known is not None and door.suffices(known, wanted):
        return known
    log.info("speed: measuring")
    found: Measured = door.measure(images, exported, wanted)
    path.parent.mkdir(exist_ok=True)
    found.write(path)
    return found


def _known(path: Path) -> Measured | None:
    try:
        return Measured.read(path)
    except FileNotFoundError:
        return None
    except ValidationError:
        log.warning("%s cannot be read\n  the speed is measured again", path)
        return None
