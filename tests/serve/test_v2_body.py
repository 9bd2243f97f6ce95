"""Bodies of the Open Inference Protocol V2 over a real ONNX model: those that are answered, and those refused."""

import json
import threading
import time

import numpy as np
import pytest

from bigstep.records.architecture import InputSpec
from bigstep.records.exported import Contract
from serve.app import create_app
from serve.limits import Limits
from serve.v2_body import LONG_BYTES, parse_infer

LIMITS = Limits(max_body_bytes=200_000, max_images=40, max_batch_images=8)
INFER = "/v2/models/pets/infer"
ZEROS = np.zeros((1, 6, 4, 3), np.uint8)


@pytest.fixture(scope="module")
def http(bundle, client):
    with client(create_app(bundle, LIMITS)) as started:
        yield started


@pytest.fixture(scope="module")
def version(bundle):
    return bundle.info.forms[0].sha256[:12]


def asking(images=ZEROS, nested=False, **changes):
    """Return an infer request as an object; `changes` are made to its one input."""
    data = images.tolist() if nested else images.ravel().tolist()
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape), "data": data}
    return {"inputs": [tensor | changes]}


def changed(place, value):
    """Return the pixels of one image, flat, with another value in one place."""
    data = ZEROS.ravel().tolist()
    data[place] = value
    return data


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_flat_and_nested_pixels(http, predictor, random_images, version, count, nested):
    images = random_images(count, seed=count)
    answer = http.post(INFER, json=asking(images, nested)).json()
    (output,) = answer.pop("outputs")
    assert answer == {"model_name": "pets", "model_version": version}
    logits = np.array(output.pop("data"), np.float32).reshape(count, 3)
    assert output == {"name": "logits", "datatype": "FP32", "shape": [count, 3]}
    np.testing.assert_allclose(logits, predictor.predict(images), rtol=1e-5, atol=1e-6)


def test_the_answer_repeats_the_id_and_wishes_change_nothing(http, version):
    plain = http.post(INFER, json=asking()).json()
    asked = asking() | {
        "id": "7 \ud800",
        "parameters": {"binary_data_output": True, "timeout": 5, "share": 0.5, "priority": 10**19},
        "outputs": [{"name": "logits", "parameters": {"binary_data": False}}],
    }
    path = f"/v2/models/pets/versions/{version}/infer"
    answer = http.post(path, content=json.dumps(asked), headers={"Content-Type": "text/plain"})
    assert answer.json() == plain | {"id": "7 \ud800"}


def test_null_stands_for_what_was_left_out(http):
    tensor = asking(parameters=None)["inputs"][0]
    asked = {"id": None, "parameters": None, "inputs": [tensor], "outputs": None}
    plain = http.post(INFER, json=asking()).json()
    assert http.post(INFER, json=asked).json() == plain
    assert http.post(INFER, json=asked | {"outputs": [{"name": "logits", "parameters": None}]}).json() == plain


HUGE = 10**19
WRONG = {
    "no inputs": ({}, "wrong inputs", "got None"),
    "inputs no list": ({"inputs": {}}, "wrong inputs", "got {}"),
    "an input no object": ({"inputs": [1]}, "got 1", "an object"),
    "an array": ([asking()], "the body", "an object"),
    "no input": ({"inputs": []}, "0 inputs"),
    "two inputs": ({"inputs": asking()["inputs"] * 2}, "2 inputs"),
    "name": (asking(name="pixels"), "'pixels'", "'images'"),
    "no name": (asking(name=None), "got None", "'images'"),
    "name with half a character": (asking(name="\ud800"), "ud800", "'images'"),
    "datatype": (asking(datatype="FP32"), "'FP32'", "'UINT8'"),
    "datatype no text": (asking(datatype=["UINT8"]), "['UINT8']", "'UINT8'"),
    "shape missing": (asking(shape=None), "got None", "[N, 6, 4, 3]"),
    "shape too short": (asking(shape=[1, 72]), "[1, 72]", "[N, 6, 4, 3]"),
    "shape turned": (asking(shape=[1, 3, 6, 4]), "[1, 3, 6, 4]", "[N, 6, 4, 3]"),
    "shape of none": (asking(shape=[0, 6, 4, 3], data=[]), "[0, 6, 4, 3]", "N at least 1"),
    "shape negative": (asking(shape=[-1, 6, 4, 3]), "[-1, 6, 4, 3]", "N at least 1"),
    "shape true": (asking(shape=[True, 6, 4, 3]), "[True, 6, 4, 3]"),
    "shape with a point": (asking(shape=[1, 6.0, 4, 3]), "[1, 6.0, 4, 3]"),
    "shape as text": (asking(shape="1643"), "'1643'"),
    "no data": (asking(data=None), "got None", "a list"),
    "data as text": (asking(data="AAAA"), "'AAAA'", "a list"),
    "data empty": (asking(data=[]), "0 values", "72 values"),
    "data too short": (asking(data=[0] * 71), "71 values", "72 values", "[1, 6, 4, 3]"),
    "data too long": (asking(data=[0] * 144), "144 values", "72 values"),
    "256": (asking(data=changed(71, 256)), "256 at place 71", "integers from 0 to 255"),
    "-1": (asking(data=changed(0, -1)), "-1 at place 0"),
    "huge": (asking(data=changed(5, HUGE)), f"{HUGE} at place 5"),
    "float": (asking(data=changed(7, 1.0)), "1.0 at place 7"),
    "true": (asking(data=changed(8, True)), "True at place 8"),
    "null": (asking(data=changed(9, None)), "None at place 9"),
    "text": (asking(data=changed(10, "1" * 1000)), "at place 10"),
    "a list among numbers": (asking(data=changed(11, [0])), "[0] at place 11"),
    "nested too few": (asking(np.zeros((2, 6, 4, 3), np.uint8), True, shape=[3, 6, 4, 3]), "2 images", "3 images"),
    "nested turned": (asking(np.zeros((1, 4, 6, 3), np.uint8), True, shape=[1, 6, 4, 3]), "another shape in image 1"),
    "nested half": (asking(data=[[0] * 72]), "another shape in image 1"),
    "nested uneven": (asking(data=[*ZEROS.tolist(), 5], shape=[2, 6, 4, 3]), "another shape in image 2"),
    "nested range": (asking(np.full((2, 6, 4, 3), 255) + np.eye(4)[3].reshape(1, 1, 4, 1).astype(int), True),
                     "256 at place 9"),
    "id": (asking() | {"id": 7}, "wrong id", "got 7", "a string"),
    "parameters": (asking() | {"parameters": []}, "wrong parameters", "an object"),
    "input parameters": (asking(parameters=1), "parameters of the input", "an object"),
    "binary input": (asking(parameters={"binary_data_size": 72}, data=None), "JSON form", "binary_data=False"),
    "outputs no list": (asking() | {"outputs": "logits"}, "wrong outputs", "a list"),
    "unknown output": (asking() | {"outputs": [{"name": "boxes"}]}, "no such output", "'boxes'", "'logits'"),
    "binary output": (asking() | {"outputs": [{"name": "logits", "parameters": {"binary_data": True}}]},
                      "InferRequestedOutput(name, binary_data=False)"),
    "classification": (asking() | {"outputs": [{"name": "logits", "parameters": {"classification": 2}}]},
                       "['classification']"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests(http, check_refused, name):
    body, *says = WRONG[name]
    answer = check_refused(http.post(INFER, content=json.dumps(body)), 400, "got", "expected", *says)
    assert len(answer.text) < 300


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"inputs": [', "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[" * 1003, "nested too deeply"),
        (b'{"a":' * 20_000, "nested too deeply"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "nested too deeply"),
        (json.dumps(asking(data=changed(0, float("nan")))).encode(), "NaN"),
        (json.dumps(asking(data=changed(0, float("-inf")))).encode(), "-Infinity"),
        (b'{"id": ' + b"9" * 5000 + b"}", "5000 digits"),
    ],
    ids=range(10),
)
def test_bodies_that_are_not_json(http, check_refused, body, says):
    check_refused(http.post(INFER, content=body), 400, says)


def test_too_many_images_or_parts(http, check_refused):
    check_refused(http.post(INFER, json=asking(shape=[42, 6, 4, 3])), 413, "42 images", "at most 40")
    # 40 images of 72 values and a thousand commas to spare; a hundred thousand lists, however small the model is
    for body, got, fewer in (
        ('{"inputs": [' + "0," * 3881 + "0]}", "3881 times ','", '{"inputs": [' + "0," * 3880 + "0]}"),
        ("[" * 100_001, "100001 times '['", "[" * 100_000),
    ):
        check_refused(http.post(INFER, content=body), 413, got)
        check_refused(http.post(INFER, content=fewer), 400)


def test_a_long_body_lets_other_threads_work():
    """By itself json would keep the interpreter's lock until the whole body is read."""
    spec = InputSpec(height_px=32, width_px=32)
    body = json.dumps(asking(np.full((64, 32, 32, 3), 7, np.uint8))).encode()
    assert len(body) > LONG_BYTES

    def longest_wait_share():
        reader = threading.Thread(target=parse_infer, args=(body, Contract(input=spec, labels=["a"]), Limits()))
        times = [time.perf_counter()]
        reader.start()
        while reader.is_alive():
            time.sleep(0.0005)
            times.append(time.perf_counter())
        return max(np.diff(times)) / (times[-1] - times[0])

    assert min(longest_wait_share() for _ in range(5)) < 0.5
