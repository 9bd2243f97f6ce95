"""Write every ONNX file and prove that its numbers agree with the network's: the public door of this folder."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from bigstep.config import ExportConfig
from bigstep.errors import ExportError
from bigstep.records.architecture import Architecture
from bigstep.records.compact import Compact, CompactModel
from bigstep.records.exported import Contract, Exported, ExportedInfo, Form, Precision, Role, Rung
from bigstep.records.images import Images
from bigstep.records.sealed import sha256
from bigstep.records.trained import Trained
from export import graph, ladder
from serve.predictor import Predictor
from train.networks.build import load_weights
from train.networks.predict import one_thread, predict_pixels

log = logging.getLogger("bigstep.export")


@dataclass(frozen=True)
class Source:
    """A network that is to be written, and where its weights lie; one that was compressed has a judged file."""

    name: str
    role: Role
    architecture: Architecture
    weights: Path
    compact: CompactModel | None = None


def run(config: ExportConfig, images: Images, trained: Trained, compact: Compact, *, out: Path) -> Exported:
    """Write the compact network, the dense one and all baselines as ONNX files, and compare them.

    Raises:
        ExportError: the compact file is not, byte for byte, the one that `compress` judged.
        TrainError: stored weights are not finite.
    """
    contract = Contract(input=images.info.input, labels=images.info.labels)
    forms: list[Form] = []
    rungs: list[Rung] = []
    sources = _sources(trained, compact)
    held_out = np.array(images.split("validation").images)
    for done, source in enumerate(sources, start=1):
        network = load_weights(source.architecture, source.weights)
        written = _write(source, network, contract, out)
        predictors = [Predictor.open(out / form.file, contract, sha256=form.sha256) for form in written]
        reference = partial(predict_pixels, network, source.architecture)
        with one_thread():
            rungs += ladder.climb(config, source.name, reference, predictors, held_out)
        if source.role == "compact_baseline":  # only what is compared with the served file is kept
            for form in written[:-1]:
                (out / form.file).unlink()
            written = written[-1:]
        forms += written
        log.info("%s", source.name, extra={"done": done, "total": len(sources)})
    served = [form.name for form in forms if form.role == "compact"][-1]  # the one that was judged
    return Exported.seal(out, ExportedInfo(contract=contract, forms=forms, served=served, ladder=rungs))


def _sources(trained: Trained, compact: Compact) -> list[Source]:
    dense, model = trained.info.architecture, compact.info.model
    baselines = [(b.name, b.trial) for b in trained.info.baselines if b.trial is not None]
    return [
        Source("compact", "compact", model.architecture, compact.weights(model.name), model),
        Source("dense", "dense", dense, trained.weights(trained.info.chosen)),
        *(Source(name, "baseline", dense, trained.weights(trial)) for name, trial in baselines),
        *(
            Source(f"{other.name}-compact", "compact_baseline", other.architecture, compact.weights(other.name), other)
            for other in compact.info.baselines
        ),
    ]


def _write(source: Source, network: nn.Module, contract: Contract, out: Path) -> list[Form]:
    """Write a network as float32 and, if it was quantised, as INT8."""
    float32 = out / f"{source.name}.fp32.onnx"
    graph.write_float32(network, source.architecture, contract, float32)
    written = [_form(source, "fp32", float32)]
    if source.compact is not None and source.compact.quantisation is not None:
        int8 = out / f"{source.name}.int8.onnx"
        graph.write_int8(float32, source.compact.quantisation, int8)
        written.append(_form(source, "int8", int8))
    last = written[-1]
    if source.compact is not None and last.sha256 != source.compact.sha256:
        raise ExportError(
            f"{last.file} is not the file that was judged",
            got=f"sha256 {last.sha256}",
            expected=f"sha256 {source.compact.sha256}",
            do="bigstep run CONFIG with the versions of torch, onnx and onnxruntime that compressed it",
        )
    return written


def _form(source: Source, precision: Precision, path: Path) -> Form:
    return Form(
        network=source.name,
        role=source.role,
        precision=precision,
        file=path.name,
        sha256=sha256(path),
        bytes=path.stat().st_size,
    )
