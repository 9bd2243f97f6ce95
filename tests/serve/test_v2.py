"""The routes of the Open Inference Protocol V2 over a real ONNX model: what is answered, and what is refused."""

import asyncio
import time

import pytest

from serve.app import create_app
from serve.limits import Limits

LIMITS = Limits(max_body_bytes=200_000, max_images=40, max_batch_images=8)
INFER = "/v2/models/pets/infer"
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def http(bundle, client):
    with client(create_app(bundle, LIMITS)) as started:
        yield started


@pytest.fixture(scope="module")
def version(bundle):
    return bundle.info.forms[0].sha256[:12]


def asking(count=1):
    """Return an infer request for some black images."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": [count, 6, 4, 3], "data": [0] * 72 * count}
    return {"inputs": [tensor]}


# ---- what is answered ------------------------------------------------------------------------------------------------


def test_metadata(http, version):
    for path in ("/v2/models/pets", f"/v2/models/pets/versions/{version}"):
        assert http.get(path).json() == {
            "name": "pets",
            "versions": [version],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 6, 4, 3]}],
            "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}],
        }
        assert http.get(f"{path}/ready").json() == {"name": "pets", "ready": True}
    server = http.get("/v2").json()
    assert (server["name"], server["extensions"]) == ("bigstep", []) and server["version"][0].isdigit()
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get("/model").json()["version"] == version and http.get("/model").json()["device"] == "cpu"


def test_the_index_and_health_follow_the_state(bundle, client, check_refused, version):
    app, row = create_app(bundle), {"name": "pets", "version": version}
    ready_only = b'{"ready": true}'
    with client(app) as http:
        for body in (b"", b"{}", b'{"ready": false}', ready_only):
            answer = http.post("/v2/repository/index", content=body)
            assert answer.json() == [row | {"state": "READY", "reason": ""}]
        app.state.service.drain()
        assert http.post("/v2/repository/index", content=ready_only).json() == []
        (listed,) = http.post("/v2/repository/index").json()
        assert listed == row | {"state": "UNAVAILABLE", "reason": "the server is draining"}
        for path in ("/v2/health/ready", "/v2/models/pets/ready"):
            check_refused(http.get(path), 503, "draining")
        refused = check_refused(http.post(INFER, json=asking()), 503, "draining")
        assert refused.headers["Retry-After"] == "1" and http.get("/v2/health/live").status_code == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_worker_shows_in_live(bundle, client, check_refused):
    app = create_app(bundle)

    def die(images):
        raise SystemExit

    with client(app) as http:
        app.state.service.batcher.model = die
        check_refused(http.post(INFER, json=asking()), 503, "worker")
        check_refused(http.get("/v2/health/live"), 503, "worker thread died")


def test_both_ways_to_predict_are_counted_together(bundle, client, check_refused):
    with client(create_app(bundle)) as http:
        http.post("/predict", content=bytes(72), headers=RAW)
        http.post(INFER, json=asking())
        http.post("/v2/models/dogs/infer", json=asking())
        assert http.get(INFER).status_code == 405
        http.get("/v2/models/pets")
        text = http.get("/metrics").text
    for code, count in ((200, 2), (404, 1), (405, 1)):
        assert f'bigstep_requests_total{{code="{code}"}} {count}.0' in text
    assert "bigstep_request_seconds_count 4.0" in text and "bigstep_batch_images_sum 2.0" in text


def test_openapi_tells_the_truth(http, version):
    paths = http.get("/openapi.json").json()["paths"]
    named, versioned = INFER, "/v2/models/{model}/versions/{version}"
    for path, known in (("/v2/models/{model}", ["pets"]), (versioned, ["pets", version])):
        for method, at in (("get", path), ("get", f"{path}/ready"), ("post", f"{path}/infer")):
            described = paths[at][method]["parameters"]
            assert [p["schema"]["enum"] for p in described] == [[one] for one in known]
    post = paths["/v2/models/{model}/infer"]["post"]
    assert {"200", "400", "404", "413", "503", "504"} <= set(post["responses"])
    example = post["requestBody"]["content"]["application/json"]["example"]
    example["inputs"][0]["data"] = [0] * 72
    answer, told = (
        http.post(named, json=example).json(),
        post["responses"]["200"]["content"]["application/json"]["example"],
    )
    told["outputs"][0]["data"] = answer["outputs"][0]["data"]
    assert answer == told
    operations = [one["operationId"] for methods in paths.values() for one in methods.values()]
    assert len(operations) == len(set(operations))


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_unknown_models_and_versions(http, check_refused, version):
    for path in ("/v2/models/dogs", "/v2/models/dogs/ready", f"/v2/models/dogs/versions/{version}"):
        check_refused(http.get(path), 404, "no such model", "'dogs'", "'pets'")
    for path in ("/v2/models/pets/versions/1", "/v2/models/pets/versions/1/ready"):
        check_refused(http.get(path), 404, "no such version", "'1'", f"'{version}'")
    check_refused(http.post("/v2/models/dogs/infer", content=b"?"), 404, "'dogs'")
    assert len(http.get(f"/v2/models/{'dogs' * 1000}").text) < 200
    check_refused(http.post("/v2/models/pets/versions/1/infer", content=b"?"), 404, "'1'")


def test_binary_and_compressed_bodies(http, check_refused):
    binary = {"Inference-Header-Content-Length": "10"}
    check_refused(http.post(INFER, content=b"?", headers=binary), 400, "JSON form", "binary_data=False")
    check_refused(http.post(INFER, content=b"?", headers={"Content-Encoding": "gzip"}), 415, "'gzip'", "no coding")
    assert http.post(INFER, json=asking(), headers={"Content-Encoding": "Identity"}).status_code == 200


@pytest.mark.parametrize(("body", "says"), [(b"[]", "an object"), (b"?", "not JSON"), (b'{"ready": 1}', "wrong ready")])
def test_wrong_questions_for_the_index(http, check_refused, body, says):
    check_refused(http.post("/v2/repository/index", content=body), 400, says)
    check_refused(http.post("/v2/repository/index", content=b"[" * 1001), 413, "1001 bytes")


def test_logits_that_are_no_numbers(make_bundle, make_model, client, check_refused):
    with client(create_app(make_bundle(make_model(add=float("nan"))))) as http:
        check_refused(http.post(INFER, json=asking()), 500, "not finite", "1 of 1")


def test_a_full_queue_and_a_deadline(bundle, check_refused, client_of):
    body = asking(4)

    async def talk(limits, seconds):
        app = create_app(bundle, limits)
        async with client_of(app) as http:
            batcher = app.state.service.batcher
            works = batcher.model
            batcher.model = lambda images: (time.sleep(seconds), works(images))[1]
            return await asyncio.gather(*[http.post(INFER, json=body) for _ in range(8)])

    answers = asyncio.run(talk(Limits(max_images=4, max_batch_images=4, max_queue_images=8), 0.05))
    codes = [answer.status_code for answer in answers]
    assert codes.count(200) >= 2 and codes.count(200) + codes.count(503) == 8
    full = check_refused(answers[codes.index(503)], 503, "queue is full")
    assert full.headers["Retry-After"] == "1"
    for answer in asyncio.run(talk(Limits(request_timeout_s=0.1, max_batch_images=4), 0.25)):
        check_refused(answer, 504, "deadline")
