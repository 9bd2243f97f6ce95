"""One served model over a real ONNX file: models that fail, many requests at once, and what it says of itself."""

import asyncio
import time

import pytest

from bigstep.decode import to_pixels
from serve.app import create_app
from serve.limits import Limits

RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def http(bundle, client):
    limits = Limits(max_body_bytes=20_000, max_images=40, max_batch_images=8)
    with client(create_app(bundle, limits)) as started:
        yield started


# ---- models that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_model_that_answers_no_number_gets_no_label(
    make_bundle, make_model, random_images, bad, client, check_refused
):
    with client(create_app(make_bundle(make_model(add=bad)))) as http:
        answer = http.post("/predict", content=random_images(2).tobytes(), headers=RAW)
    check_refused(answer, 500, "not finite", "2 of 2 images")


def test_a_crash_of_the_model_is_a_500_and_the_next_request_works(bundle, random_images, client, check_refused):
    body = random_images(1).tobytes()
    app = create_app(bundle)
    service = app.state.service
    with client(app) as http:
        works = service.batcher.model
        service.batcher.model = lambda _: 1 / 0
        check_refused(http.post("/predict", content=body, headers=RAW), 500, "division by zero")
        service.batcher.model = works
        assert http.post("/predict", content=body, headers=RAW).status_code == 200
        assert http.get("/health/live").status_code == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_worker_is_noticed(bundle, random_images, client, check_refused):
    app = create_app(bundle)
    service = app.state.service

    def die(images):
        raise SystemExit

    with client(app) as http:
        service.batcher.model = die
        body = random_images(1).tobytes()
        check_refused(http.post("/predict", content=body, headers=RAW), 503, "worker")
        check_refused(http.get("/health/live"), 503, "worker thread died", "restart")
        check_refused(http.get("/health/ready"), 503, "worker thread died")
        check_refused(http.post("/predict", content=body, headers=RAW), 503, "worker")


# ---- many at once ----------------------------------------------------------------------------------------------------


def slowed(app, seconds):
    """Make every call of the model take longer; return the list of the batch sizes it sees."""
    batcher = app.state.service.batcher
    works, sizes = batcher.model, []

    def predict(images):
        sizes.append(len(images))
        time.sleep(seconds)
        return works(images)

    batcher.model = predict
    return sizes


def test_thirty_at_once_each_get_their_own_answer(
    bundle, predictor, random_images, image_file, check_answer, client_of
):
    sets = [random_images(1 + i % 5, seed=i) for i in range(30)]

    async def talk():
        app = create_app(bundle, Limits(max_batch_images=8))
        sizes = slowed(app, 0.005)
        async with client_of(app) as http:
            requests = []
            for i, images in enumerate(sets):
                if i % 2:
                    files = [("file", ("x.png", image_file(image))) for image in images]
                    requests.append(http.post("/predict", files=files))
                else:
                    requests.append(http.post("/predict", content=images.tobytes(), headers=RAW))
            return await asyncio.gather(*requests), sizes[2:]  # the first two are the warm-up

    answers, sizes = asyncio.run(talk())
    for answer, images in zip(answers, sets, strict=True):
        check_answer(answer, predictor, images)
    assert sum(sizes) == sum(len(images) for images in sets)
    assert max(sizes) == 8 and len(sizes) < 30


def test_a_full_queue_says_when_to_come_back(bundle, random_images, check_refused, client_of):
    body = random_images(4).tobytes()

    async def talk():
        app = create_app(bundle, Limits(max_images=4, max_batch_images=4, max_queue_images=8))
        slowed(app, 0.05)
        async with client_of(app) as http:
            return await asyncio.gather(*[http.post("/predict", content=body, headers=RAW) for _ in range(12)])

    answers = asyncio.run(talk())
    codes = [answer.status_code for answer in answers]
    assert 2 <= codes.count(200) <= 4 and codes.count(200) + codes.count(503) == 12
    full = answers[codes.index(503)]
    assert check_refused(full, 503, "queue is full").headers["Retry-After"] == "1"


def slow_decoding(monkeypatch, seconds):
    """Make the decoding of every file take longer; return the list of the files it sees."""
    seen = []

    def slow(image, spec):
        seen.append(image)
        time.sleep(seconds)
        return to_pixels(image, spec)

    monkeypatch.setattr("serve.body.to_pixels", slow)
    return seen


def form(image_file, images):
    return [("file", ("x.png", image_file(image))) for image in images]


def test_large_forms_and_single_files_take_turns(bundle, random_images, image_file, client_of, monkeypatch):
    slow_decoding(monkeypatch, 0.01)
    done = []

    async def post(http, name, count):
        answer = await http.post("/predict", files=form(image_file, random_images(count)))
        done.append((name, answer.status_code))

    async def talk():
        async with client_of(create_app(bundle)) as http:
            large = [asyncio.create_task(post(http, "large", 40)) for _ in range(2)]
            await asyncio.sleep(0.05)
            await post(http, "small", 1)
            await asyncio.gather(*large)

    asyncio.run(talk())
    assert done == [("small", 200), ("large", 200), ("large", 200)]


def test_the_files_of_a_client_that_left_are_not_decoded(bundle, random_images, image_file, client_of, monkeypatch):
    seen = slow_decoding(monkeypatch, 0.02)
    app = create_app(bundle)

    async def talk():
        async with client_of(app) as http:
            leaving = asyncio.create_task(http.post("/predict", files=form(image_file, random_images(40))))
            async with asyncio.timeout(5):
                while not seen:
                    await asyncio.sleep(0.005)
            waiting = app.state.service.waiting_images
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            so_far = len(seen)
            await asyncio.sleep(0.1)
            return waiting, so_far

    waiting, so_far = asyncio.run(talk())
    assert waiting == 40 and app.state.service.waiting_images == 0
    assert len(seen) <= so_far + 1


def test_files_that_wait_to_be_decoded_count_as_waiting(
    bundle, random_images, image_file, check_refused, client_of, monkeypatch
):
    slow_decoding(monkeypatch, 0.02)
    limits = Limits(max_images=4, max_batch_images=4, max_queue_images=8)

    async def talk():
        async with client_of(create_app(bundle, limits)) as http:
            first = [
                asyncio.create_task(http.post("/predict", files=form(image_file, random_images(4)))) for _ in range(2)
            ]
            await asyncio.sleep(0.03)
            metrics = (await http.get("/metrics")).text
            more = await http.post("/predict", files=form(image_file, random_images(1)))
            raw = await http.post("/predict", content=random_images(1).tobytes(), headers=RAW)
            return metrics, more, raw, await asyncio.gather(*first)

    metrics, more, raw, first = asyncio.run(talk())
    assert "bigstep_queue_images 8.0" in metrics
    for answer in (more, raw):
        assert check_refused(answer, 503, "queue is full", "8 images").headers["Retry-After"] == "1"
    assert [answer.status_code for answer in first] == [200, 200]


def test_a_deadline_is_a_504_and_what_is_late_never_reaches_the_model(bundle, random_images, check_refused, client_of):
    body = random_images(1).tobytes()

    async def talk():
        app = create_app(bundle, Limits(request_timeout_s=0.1, max_batch_images=1))
        async with client_of(app) as http:
            sizes = slowed(app, 0.25)
            answers = await asyncio.gather(*[http.post("/predict", content=body, headers=RAW) for _ in range(4)])
            metrics = (await http.get("/metrics")).text
        return answers, sizes, metrics

    answers, sizes, metrics = asyncio.run(talk())
    for answer in answers:
        check_refused(answer, 504, "deadline")
    assert sizes == [1]
    assert 'bigstep_requests_total{code="504"} 4.0' in metrics and "bigstep_queue_images 0.0" in metrics


# ---- what the server says of itself ----------------------------------------------------------------------------------


def test_ready_only_between_warm_up_and_drain(bundle, random_images, client, check_refused):
    app = create_app(bundle)
    body = random_images(1).tobytes()
    with client(app, started=False) as http:
        check_refused(http.get("/health/ready"), 503, "starting")
        assert http.get("/health/live").status_code == 200
        check_refused(http.post("/predict", content=body, headers=RAW), 503, "starting")
    with client(app) as http:
        assert http.get("/health/ready").json() == {"status": "ready"}
        app.state.service.drain()
        check_refused(http.get("/health/ready"), 503, "draining")
        assert http.get("/health/live").status_code == 200
        assert check_refused(http.post("/predict", content=body, headers=RAW), 503).headers["Retry-After"] == "1"


def test_model_states_the_contract(http, bundle):
    answer = http.get("/model").json()
    form = bundle.info.forms[0]
    assert (answer["sha256"], answer["bytes"], answer["labels"]) == (form.sha256, form.bytes, ["cat", "dog", "emu"])
    assert answer["input"]["shape"] == [None, 6, 4, 3]
    assert (answer["input"]["dtype"], answer["input"]["layout"], answer["input"]["bytes_per_image"]) == (
        "uint8",
        "NHWC",
        72,
    )
    assert answer["accepts"] == ["image/*", "application/octet-stream", "multipart/form-data"]
    assert answer["verdict"]["outcome"] == "passed"
    assert answer["verdict"]["says"].endswith("level of robustness not required: conflicting 90.0%, aligned 97.0%.")
    assert [g["group"] for g in answer["verdict"]["groups"]] == ["aligned", "conflicting", "label=emu"]
    assert answer["limits"]["max_images"] == 40


def test_metrics_count_by_code_and_batch(bundle, random_images, client):
    with client(create_app(bundle, Limits(max_batch_images=4))) as http:
        for count in (1, 6):
            http.post("/predict", content=random_images(count).tobytes(), headers=RAW)
        http.post("/predict", content=b"", headers=RAW)
        http.get("/predict")
        http.get("/model")
        text = http.get("/metrics").text
    for code, count in ((200, 2), (400, 1), (405, 1)):
        assert f'bigstep_requests_total{{code="{code}"}} {count}.0' in text
    assert "bigstep_request_seconds_count 4.0" in text
    assert "bigstep_batch_images_count 3.0" in text and "bigstep_batch_images_sum 7.0" in text
    assert "bigstep_queue_images 0.0" in text
    assert f'bigstep_model_info{{name="pets",sha256="{bundle.info.forms[0].sha256}"}} 1.0' in text


def test_the_page_needs_nothing_from_elsewhere(http):
    answer = http.get("/")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text and "https://" not in answer.text and "//cdn" not in answer.text
