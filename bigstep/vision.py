"""torchvision, loaded when somebody asks for it, also where its compiled operators do not fit the installed torch."""

import importlib
import sys
from types import ModuleType

# Importing torchvision registers fake kernels for these two operators, whether or not its compiled library could be
# loaded; a schema without an implementation is enough for that. Calling one still fails, with torchvision's own words.
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[object] = []  # torch forgets what a Library declared when the Library is collected


def load() -> ModuleType:
    """Import torchvision, which loads torch, and return it.

    A torchvision built for CUDA beside a torch for the CPU cannot load its compiled operators and fails at import,
    over operators of object detection that bigstep does not use; their schemas are then declared first. Data sets,
    models and transforms work; operators such as `torchvision.ops.nms` raise when they are called.

    Raises:
        ImportError: torchvision or torch is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:  # torch's "operator torchvision::nms does not exist"
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # the half that was imported does not know the package that will be
    library = importlib.import_module("torch.library").Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)
    return importlib.import_module("torchvision")
