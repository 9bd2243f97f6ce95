"""Bundles around small ONNX files, made without torch."""

import hashlib
import io
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import httpx
import numpy as np
import onnx
import pytest
from anyio.from_thread import start_blocking_portal
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from bigstep.records.architecture import InputSpec
from bigstep.records.bundle import Bundle, BundleInfo
from bigstep.records.exported import Contract, Form
from bigstep.records.verdict import Check, GroupScore, VerdictInfo
from serve.predictor import Predictor

SPEC = InputSpec(height_px=6, width_px=4, channels=3)  # not square: a swap of height and width must show
LABELS = ["cat", "dog", "emu"]


def linear_model(spec=SPEC, seed=0, add=0.0):
    """Return the bytes of an ONNX model: uint8 NHWC -> Cast -> Reshape -> MatMul -> Add -> logits; `add` may be NaN."""
    classes = len(LABELS)
    size = spec.height_px * spec.width_px * spec.channels
    draw = np.random.default_rng(seed)
    weights = {
        "shape": np.array([-1, size], np.int64),
        "w": (draw.normal(size=(size, classes)) / 500).astype(np.float32),
        "b": np.full(classes, add, np.float32),
    }
    pixels = ["N", spec.height_px, spec.width_px, spec.channels]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["x", "shape"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, pixels)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def seal_bundle(folder, model, *, outcome="passed", judged=None, served="compact-int8", checks=("passed",)):
    """Seal a bundle around one ONNX file; `judged` replaces what the verdict says about which bytes it saw.

    `checks` are the outcomes of the checks behind the verdict.
    """
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model)
    sha256 = hashlib.sha256(model).hexdigest()
    form = Form(network="compact", role="compact", precision="int8", file="model.onnx", sha256=sha256, bytes=len(model))
    floor = {"measured": 0.9, "bound": 0.85, "relation": ">", "limit": 0.3, "n": 90, "says": "It holds."}
    scores = [
        GroupScore(form=form.name, group="aligned", n=300, accuracy=0.97, low=0.95, high=0.985),
        GroupScore(form=form.name, group="conflicting", n=90, accuracy=0.9, low=0.85, high=0.94),
        GroupScore(form=form.name, group="label=emu", n=0, accuracy=None, low=None, high=None),
    ]
    verdict = VerdictInfo(
        outcome=outcome,
        checks=[
            Check(rule="floor", form=form.name, group=f"group {i}", outcome=found, **floor)
            for i, found in enumerate(checks)
        ],
        scores=scores,
        comparisons=[],
        judged={form.name: sha256} if judged is None else judged,
        notes=[],
    )
    info = BundleInfo(
        name="pets",
        contract=Contract(input=SPEC, labels=LABELS),
        forms=[form],
        served=served,
        verdict=verdict,
        made_from={},
    )
    return Bundle.seal(folder, info)


def draw_images(n, seed=0):
    shape = (n, SPEC.height_px, SPEC.width_px, SPEC.channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_image(pixels_HWC, fmt="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels_HWC).save(file, fmt, **options)
    return file.getvalue()


class Client:
    """A conversation with an app without a network: the app runs in an event loop in another thread."""

    def __init__(self, app, *, started=True):
        self.app, self.started = app, started

    def __enter__(self):
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal())
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = self.stack.enter_context(
            self.portal.wrap_async_context_manager(httpx.AsyncClient(transport=transport, base_url="http://app"))
        )
        if self.started:
            lifespan = self.app.router.lifespan_context(self.app)
            self.stack.enter_context(self.portal.wrap_async_context_manager(lifespan))
        return self

    def __exit__(self, *failure):
        return self.stack.__exit__(*failure)

    def request(self, *arguments, **options):
        return self.portal.call(partial(self.http.request, *arguments, **options))

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, **options):
        return self.request("POST", path, **options)


def softmax(logits_NK):
    e = np.exp(logits_NK.astype(np.float64) - logits_NK.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def expect_answer(answer, predictor, images):
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    logits = predictor.predict(images)
    labels = predictor.contract.labels
    assert [p["index"] for p in predictions] == logits.argmax(axis=1).tolist()
    assert [p["label"] for p in predictions] == [labels[k] for k in logits.argmax(axis=1)]
    assert [list(p["probabilities"]) for p in predictions] == [labels] * len(images)
    np.testing.assert_allclose(
        [list(p["probabilities"].values()) for p in predictions], softmax(logits), rtol=1e-5, atol=1e-7
    )
    assert [p["probability"] for p in predictions] == [max(p["probabilities"].values()) for p in predictions]


def expect_refusal(answer, status, *says):
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    for text in says:
        assert text in answer.json()["error"]
    return answer


@asynccontextmanager
async def talk_in_this_loop(app):
    """Start an app and talk to it in the running event loop."""
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        yield http


@pytest.fixture(scope="session")
def client():
    return Client


@pytest.fixture(scope="session")
def model():
    return linear_model()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, model):
    return seal_bundle(tmp_path_factory.mktemp("bundle") / "pets", model)


@pytest.fixture(scope="session")
def predictor(bundle):
    return Predictor.open(bundle.folder / "model.onnx", bundle.info.contract)


@pytest.fixture(scope="session")
def make_model():
    return linear_model


@pytest.fixture
def make_bundle(tmp_path):
    return lambda model, **options: seal_bundle(tmp_path / "bundle", model, **options)


@pytest.fixture(scope="session")
def random_images():
    return draw_images


@pytest.fixture(scope="session")
def image_file():
    return write_image


@pytest.fixture(scope="session")
def check_answer():
    return expect_answer


@pytest.fixture(scope="session")
def check_refused():
    return expect_refusal


@pytest.fixture(scope="session")
def client_of():
    return talk_in_this_loop
