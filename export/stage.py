"""Write every ONNX file and prove that its numbers agree with the network's: the public door of this folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
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
from train.networks.build import load_weights, normalise
from train.networks.predict import one_thread, predict

log = logging.getLogger("bigstep.export")


@dataclass(frozen=True)
class Source:
    """Name a network that is to be written, and how to load it."""

    name: str
    role: Role
    architecture: Architecture
    load: Callable[[], nn.Module]
    compact: CompactModel | None


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
        written = _write(source, contract, out)
        rungs += _compare(config, source, written, contract, held_out)
        if source.role == "compact_baseline":
            for _, path in written[:-1]:
                path.unlink()  # only what is compared with the served file is kept
            del written[:-1]
        forms += [form for form, _ in written]
        log.info("%s", source.name, extra={"done": done, "total": len(sources)})
    served = [form.name for form in forms if form.role == "compact"][-1]  # the one that was judged
    return Exported.seal(out, ExportedInfo(contract=contract, forms=forms, served=served, ladder=rungs))


def _sources(trained: Trained, compact: Compact) -> list[Source]:
    def trial(name: str) -> Callable[[], nn.Module]:
        return lambda: load_weights(trained.info.architecture, trained.weights(name))

    def small(model: CompactModel) -> Callable[[], nn.Module]:
        return lambda: load_weights(model.architecture, compact.weights(model.name))

    dense = trained.info.architecture
    model = compact.info.model
    found = [
        Source("compact", "compact", model.architecture, small(model), model),
        Source("dense", "dense", dense, trial(trained.info.chosen), None),
    ]
    for baseline in trained.info.baselines:
        if baseline.trial is not None:
            found.append(Source(baseline.name, "baseline", dense, trial(baseline.trial), None))
    for other in compact.info.baselines:
        found.append(Source(f"{other.name}-compact", "compact_baseline", other.architecture, small(other), other))
    return found


def _write(source: Source, contract: Contract, out: Path) -> list[tuple[Form, Path]]:
    """Write a network as float32 and, if it was quantised, as INT8."""
    float32 = out / f"{source.name}.fp32.onnx"
    graph.write_float32(source.load(), source.architecture, contract, float32)
    written = [_form(source, "fp32", float32)]
    if source.compact is not None and source.compact.quantisation is not None:
        int8 = out / f"{source.name}.int8.onnx"
        graph.write_int8(float32, source.compact.quantisation, int8)
        written.append(_form(source, "int8", int8))
    form, path = written[-1]
    if source.compact is not None and form.sha256 != source.compact.sha256:
        raise ExportError(
            f"{path.name} is not the file that was judged",
            got=f"sha256 {form.sha256}",
            expected=f"sha256 {source.compact.sha256}",
            do="bigstep run CONFIG with the versions of torch, onnx and onnxruntime that compressed it",
        )
    return written


def _form(source: Source, precision: Precision, path: Path) -> tuple[Form, Path]:
    form = Form(
        network=source.name,
        role=source.role,
        precision=precision,
        file=path.name,
        sha256=sha256(path),
        bytes=path.stat().st_size,
    )
    return form, path


def _compare(
    config: ExportConfig, source: Source, written: list[tuple[Form, Path]], contract: Contract, held_out: np.ndarray
) -> list[Rung]:
    """Compare PyTorch with ONNX float32 at several batch sizes, and float32 with INT8 on every held-out image."""
    predictors = [Predictor.open(path, contract, sha256=form.sha256) for form, path in written]
    few = held_out[:: max(1, len(held_out) // config.max_batch)][: config.max_batch]
    with one_thread():
        expected = predict(source.load(), normalise(few, source.architecture)).numpy()
    expected = np.concatenate([expected[:n] for n in ladder.batch_sizes(len(few), config.max_batch)])
    found = ladder.logits_by_batch(predictors[0], few, config.max_batch)
    rungs = [ladder.max_abs_rung(source.name, expected, found, config.fp32_tolerance)]
    if len(predictors) == 2:
        float32, int8 = (p.predict_all(held_out) for p in predictors)
        rungs.append(ladder.agreement_rung(source.name, float32, int8, config.int8_agreement))
    return rungs
