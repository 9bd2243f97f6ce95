"""A small world to judge in: 120 sources in 3 colours with 3 labels, and linear ONNX models that err where told.

The pixels of an image carry, as bright one-hot triples: its label, its colour, and for each trap (a fixed set of
sources) a wrong label on conflicting images. A model is right everywhere but in the traps that it is built for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bigstep.records.architecture import Architecture, InputSpec
from bigstep.records.compact import Candidate, Compact, CompactInfo, CompactModel, GroupDrop, Quantisation
from bigstep.records.exported import Contract, Exported, ExportedInfo, Form, Rung
from bigstep.records.images import Images, ImagesInfo
from bigstep.records.sealed import sha256
from bigstep.records.trained import Baseline, RatePoint, Recipe, Trained, TrainedInfo, Trial

SOURCES = 120
LABELS = ["cat", "dog", "emu"]
COLOURS = ["red", "green", "blue"]
TRAPS = (2, 12, 50)  # how many of the 120 sources each trap catches
INPUT = InputSpec(height_px=4, width_px=4)
PIXELS = 48


def make_images(folder: Path, *, attributes: bool = True, sources: int = SOURCES) -> Images:
    """Seal a data set whose test split shows every source in every colour."""
    source = np.repeat(np.arange(sources), 3)
    label, colour = source % 3, np.tile(np.arange(3), sources)
    flat = np.zeros((3 * sources, PIXELS), np.uint8)
    rows = np.arange(3 * sources)
    flat[rows, label] = 200
    flat[rows, 3 + colour] = 200
    start = 0
    for t, size in enumerate(TRAPS):
        caught = (source >= start) & (source < start + size) & (label != colour)
        flat[rows[caught], 6 + 3 * t + colour[caught]] = 200
        start += size
    arrays = {
        "images": flat.reshape(-1, 4, 4, 3),
        "labels": label,
        "bias": colour[:, None] if attributes else np.zeros((len(rows), 0), np.int64),
        "ids": rows,
        "sources": source,
    }
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"test.{name}.npy", array)
    info = ImagesInfo(
        name="traps",
        labels=LABELS,
        attributes={"colour": COLOURS} if attributes else {},
        aligned={"colour": np.eye(3, dtype=bool).tolist()} if attributes else {},
        input=INPUT,
        counts={"test": len(rows)},
        findings=[],
    )
    return Images.seal(folder, info)


def weights(*traps: int, by_colour: bool = False) -> np.ndarray:
    """Return the matrix (48, 3) of a model that falls into some traps, or that looks at the colour alone."""
    matrix = np.zeros((PIXELS, 3), np.float32)
    matrix[np.arange(3) + (3 if by_colour else 0), np.arange(3)] = 0.01
    for trap in traps:
        matrix[6 + 3 * trap + np.arange(3), np.arange(3)] = 0.02
    return matrix


def write_model(path: Path, matrix: np.ndarray, bias: Sequence[float] = (0, 0, 0), padding: int = 0) -> None:
    """Write uint8 NHWC -> Cast -> Reshape -> MatMul -> Add -> logits; `padding` bytes of text make the file larger."""
    constants = {"shape": np.array([-1, PIXELS]), "matrix": matrix, "bias": np.array(bias, np.float32)}
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = helper.make_opsetid("", 20)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10, doc_string="." * padding)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


@dataclass
class World:
    """Build the records that verify reads; change a field, then call `records`."""

    folder: Path
    dense: np.ndarray = field(default_factory=weights)
    served: np.ndarray = field(default_factory=weights)
    served_bias: tuple[float, ...] = (0.0, 0.0, 0.0)
    baseline: np.ndarray = field(default_factory=lambda: weights(1, 2))
    compact_baseline: np.ndarray = field(default_factory=lambda: weights(1, 2))
    compact_sha256: str | None = None
    attributes: bool = True
    sources: int = SOURCES
    ladder: tuple[Rung, ...] = (
        Rung(network="compact", name="torch to fp32", measure="max_abs_difference", measured=1e-6, limit=1e-4, n=64),
        Rung(network="compact", name="fp32 to int8", measure="argmax_agreement", measured=0.99, limit=0.97, n=64),
    )

    def records(self) -> tuple[Images, Compact, Exported]:
        """Write and seal everything."""
        images = make_images(self.folder / "images", attributes=self.attributes, sources=self.sources)
        exported = self._exported()
        return images, self._compact(exported), exported

    def _exported(self) -> Exported:
        out = self.folder / "exported"
        out.mkdir()
        models: dict[str, Any] = {
            "compact": ("compact", "int8", self.served, self.served_bias),
            "dense": ("dense", "fp32", self.dense, (0, 0, 0)),
            "adam": ("baseline", "fp32", self.baseline, (0, 0, 0)),
            "adam-compact": ("compact_baseline", "int8", self.compact_baseline, (0, 0, 0.5)),
        }
        forms = []
        for network, (role, precision, matrix, bias) in models.items():
            path = out / f"{network}.{precision}.onnx"
            write_model(path, matrix, bias, padding=4000 if precision == "fp32" else 0)
            file = {"file": path.name, "sha256": sha256(path), "bytes": path.stat().st_size}
            forms.append(Form(network=network, role=role, precision=precision, **file))
        contract = Contract(input=INPUT, labels=LABELS)
        info = ExportedInfo(contract=contract, forms=forms, served="compact-int8", ladder=list(self.ladder))
        return Exported.seal(out, info)

    def _compact(self, exported: Exported) -> Compact:
        served = exported.info.form("compact-int8")
        model = CompactModel(
            name="compact",
            architecture=architecture(4),
            fitted=True,
            quantisation=Quantisation(ranges={"x": (0.0, 1.0)}, float_nodes=[], reduce_range=True),
            sha256=self.compact_sha256 or served.sha256,
            bytes=served.bytes,
        )
        rival = model.model_copy(update={"name": "adam", "sha256": exported.info.form("adam-compact-int8").sha256})
        frontier = [
            candidate("keep 0.5", 900, kept=True, conflicting=0.97),
            candidate("keep 0.5, int8", 600, kept=True, conflicting=0.96),
            candidate("keep 0.25", 500, kept=False, conflicting=0.80),
        ]
        folder = self.folder / "compact"
        folder.mkdir()
        return Compact.seal(folder, CompactInfo(source="sgd-0.2-0", model=model, frontier=frontier, baselines=[rival]))


def architecture(width: int) -> Architecture:
    return Architecture(
        family="mlp", widths={"hidden": width}, classes=3, input=INPUT, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )


def candidate(step: str, size: int, *, kept: bool, conflicting: float) -> Candidate:
    drops = [
        GroupDrop(group="aligned", before=1.0, after=0.995, drop=0.005, low=0.0, high=0.01),
        GroupDrop(
            group="conflicting", before=0.98, after=conflicting, drop=0.98 - conflicting, low=0.0, high=1 - conflicting
        ),
    ]
    why = "every group's loss is within the margin" if kept else "conflicting may lose 20 points"
    return Candidate(step=step, widths={"hidden": 4}, bytes=size, sha256="c" * 64, drops=drops, kept=kept, why=why)


def make_trained(folder: Path) -> Trained:
    """Seal a learning-rate map of four rates and two seeds: one rate unfitted in one seed, one diverged."""
    trials, points = [], []
    for rate, conflicting, statuses in [
        (0.05, 0.70, ["fitted", "fitted"]),
        (0.2, 0.95, ["fitted", "fitted"]),
        (0.8, 0.90, ["fitted", "unfitted"]),
        (3.2, None, ["diverged", "diverged"]),
    ]:
        accuracy: dict[str, float | None] = {}
        if conflicting is not None:
            accuracy = {"unbiased": conflicting + 0.01, "aligned": 0.99, "conflicting": conflicting, "prunability": 0.8}
        for seed, status in enumerate(statuses):
            recipe = Recipe(optimizer="sgd", rate=rate)
            name = f"sgd-{rate}-{seed}"
            trials.append(
                Trial(name=name, recipe=recipe, seed=seed, status=status, steps=900, train_loss=0.004, numbers=accuracy)
            )
        score = conflicting if set(statuses) == {"fitted"} else None
        points.append(
            RatePoint(
                recipe=Recipe(optimizer="sgd", rate=rate),
                trials=[t.name for t in trials[-len(statuses) :]],
                statuses=statuses,
                score=score,
                numbers=accuracy,
            )
        )
    adam = Recipe(optimizer="adam", rate=0.001)
    trials.append(
        Trial(
            name="adam-0", recipe=adam, seed=0, status="fitted", steps=700, train_loss=0.004, numbers={"unbiased": 0.6}
        )
    )
    info = TrainedInfo(
        architecture=architecture(8),
        batch_size=32,
        stop_loss=0.005,
        chosen="sgd-0.2-0",
        why="0.2 has the best score of the two rates at which every seed fitted",
        rule="groups",
        search=["In 750 steps up to 0.8 none diverges or collapses; 3.2 diverged."],
        spent=2.25,
        at_edge=False,
        points=points,
        trials=trials,
        baselines=[
            Baseline(name="adam", trial="adam-0", why="the default of most tutorials"),
            Baseline(name="momentum", trial=None, why="SGD with momentum 0.9: no seed fitted in 20000 steps"),
        ],
    )
    folder.mkdir(parents=True)
    return Trained.seal(folder, info)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def model_weights() -> Callable[..., np.ndarray]:
    return weights


@pytest.fixture(scope="session")
def make_world() -> type[World]:
    return World


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return make_trained(tmp_path_factory.mktemp("trained") / "record")
