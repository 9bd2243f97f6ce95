"""The HTTP application over a real ONNX model, without a network: its routes, and which bundles are served."""

import json
import subprocess
import sys

import onnxruntime
import pytest

from bigstep.errors import ConfigError, NoVerdict, RecordError
from serve.app import create_app, open_bundle
from serve.limits import Limits

RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def http(bundle, client):
    limits = Limits(max_body_bytes=20_000, max_images=40, max_batch_images=8)
    with client(create_app(bundle, limits)) as started:
        yield started


# ---- what the server says of itself ----------------------------------------------------------------------------------


def test_openapi_describes_every_body(http):
    post = http.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert set(post["requestBody"]["content"]) == set(http.get("/model").json()["accepts"])
    assert {"200", "400", "413", "415", "500", "503", "504"} <= set(post["responses"])
    example = post["responses"]["200"]["content"]["application/json"]["example"]
    answer = http.post("/predict", content=bytes(72), headers=RAW).json()
    assert set(example) == set(answer) and set(example["predictions"][0]) == set(answer["predictions"][0])


def test_an_unknown_path_and_an_internal_error_speak_json(bundle, monkeypatch, client, check_refused):
    app = create_app(bundle)
    with client(app) as http:
        check_refused(http.get("/nope"), 404, "/docs")
        monkeypatch.setattr(app.state.service, "contract", None)
        check_refused(http.post("/predict", content=bytes(72), headers=RAW), 500, "internal error")
        assert 'code="500"} 1.0' in http.get("/metrics").text


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="needs no CUDA")
def test_a_device_that_is_not_there_is_told_at_once(bundle):
    with pytest.raises(ConfigError, match="CUDA device") as caught:
        create_app(bundle, device="cuda")
    assert caught.value.exit_code == 2


# ---- which bundles are served ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["failed", "undecided"])
def test_a_bundle_without_a_passed_verdict_is_refused(make_bundle, model, outcome):
    bundle = make_bundle(model, outcome=outcome)
    for refuse in (lambda: open_bundle(bundle.folder), lambda: create_app(bundle)):
        with pytest.raises(NoVerdict, match=outcome) as caught:
            refuse()
        assert caught.value.exit_code == 1 and caught.value.do


@pytest.mark.parametrize(
    ("checks", "says"),
    [([], "no check"), (["passed", "failed"], r"floor \(group 1\): failed"), (["undecided"], "undecided")],
)
def test_a_passed_verdict_without_passed_checks_is_refused(make_bundle, model, checks, says):
    bundle = make_bundle(model, checks=checks)
    for refuse in (lambda: open_bundle(bundle.folder), lambda: create_app(bundle)):
        with pytest.raises(NoVerdict, match=says) as caught:
            refuse()
        assert caught.value.exit_code == 1 and caught.value.do


@pytest.mark.parametrize("judged", [{}, {"compact-int8": "0" * 64}, {"dense-fp32": "0" * 64}])
def test_a_verdict_on_other_bytes_is_refused(make_bundle, model, judged):
    bundle = make_bundle(model, judged=judged)
    for refuse in (lambda: open_bundle(bundle.folder), lambda: create_app(bundle)):
        with pytest.raises(NoVerdict, match=r"model\.onnx") as caught:
            refuse()
        assert caught.value.exit_code == 1 and caught.value.do


def test_one_flipped_byte_is_found_and_named(make_bundle, model):
    bundle = make_bundle(model)
    path = bundle.folder / "model.onnx"
    flipped = bytearray(model)
    flipped[len(model) // 2] ^= 1
    path.write_bytes(flipped)
    for refuse in (lambda: open_bundle(bundle.folder), lambda: create_app(bundle)):
        with pytest.raises(RecordError, match=r"model\.onnx was altered") as caught:
            refuse()
        assert caught.value.exit_code == 2


def test_a_bundle_without_the_form_it_serves_is_refused(make_bundle, model):
    with pytest.raises(RecordError, match="does not hold the form"):
        open_bundle(make_bundle(model, served="compact-fp32").folder)


def test_a_good_bundle_is_opened(bundle):
    assert json.loads(open_bundle(bundle.folder).info.model_dump_json())["name"] == "pets"


def test_serving_needs_no_torch():
    script = "import sys, serve.app, serve.bench; print([m for m in ('torch', 'onnx', 'train') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
