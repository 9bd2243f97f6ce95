"""The rules of HTTP that hold on every route."""

import pytest

from serve.app import create_app
from serve.http import security_headers
from serve.limits import Limits

RAW = {"Content-Type": "application/octet-stream"}
READ = ("/", "/model", "/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json", "/v2", "/v2/health/live")


@pytest.fixture(scope="module")
def http(bundle, client):
    with client(create_app(bundle, Limits(max_images=40, max_batch_images=8))) as started:
        yield started


def test_head_is_answered_wherever_get_is(http):
    paths = http.get("/openapi.json").json()["paths"]
    known = [*READ, *(path for path, operations in paths.items() if "get" in operations and "{" not in path)]
    for path in known:
        assert http.request("HEAD", path).status_code == http.get(path).status_code == 200, path
    assert http.request("HEAD", "/predict").status_code == http.get("/predict").status_code == 405
    assert http.request("HEAD", "/nope").status_code == 404
    assert all("head" not in operations for operations in paths.values())


@pytest.mark.parametrize("target", ["/predict/", "/predict//", "http://elsewhere.example/predict"])
def test_a_route_is_found_under_every_form_of_its_target(bundle, client, target):
    """No redirect: it would lose the body of many clients, and lead to whatever host the request named."""
    app = create_app(bundle)
    seen = []

    async def as_a_server_hands_it_over(scope, receive, send):
        if scope["type"] == "http":
            scope = {**scope, "path": target, "raw_path": target.encode()}
            seen.append(scope)
        await app(scope, receive, send)

    as_a_server_hands_it_over.router = app.router
    with client(as_a_server_hands_it_over) as http:
        answer = http.post("/predict", content=bytes(72), headers=RAW | {"Host": "evil.example"})
    assert answer.status_code == 200 and "location" not in answer.headers and len(seen) == 1


def test_predictions_behind_a_slash_are_counted(bundle, client):
    with client(create_app(bundle)) as http:
        http.post("/predict/", content=bytes(72), headers=RAW)
        assert 'bigstep_requests_total{code="200"} 1.0' in http.get("/metrics").text


@pytest.mark.parametrize("path", ["/v2/", "/v2/models/pets/", "/v2/health/ready/", "/model/", "/docs/"])
def test_slashes_at_the_end_change_nothing(http, path):
    assert http.get(path).status_code == 200


def test_a_body_with_two_lengths_is_refused(http, check_refused):
    two = RAW | {"Transfer-Encoding": "chunked", "Content-Length": "72"}
    refused = check_refused(http.post("/predict", content=bytes(72), headers=two), 400, "two lengths")
    assert refused.headers["connection"] == "close"


def test_every_answer_says_what_a_browser_may_do_with_it(bundle, client, monkeypatch):
    app = create_app(bundle)
    with client(app) as http:
        answers = {path: http.get(path) for path in (*READ, "/nope")}
        answers["/predict"] = http.post("/predict", content=bytes(72), headers=RAW)
        monkeypatch.setattr(app.state.service, "contract", None)
        failed = http.post("/predict", content=bytes(72), headers=RAW)
    assert failed.status_code == 500
    for path, answer in [*answers.items(), ("/predict", failed)]:
        headers = security_headers(path)
        assert headers.items() <= {k.title(): v for k, v in answer.headers.items()}.items(), path
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
        assert ("script-src" in policy) == (path in ("/", "/docs"))
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_documentation_needs_no_other_server(http):
    page = http.get("/docs").text
    assert "https://" not in page and "swagger-ui-bundle.js" in page
    for line in page.splitlines():
        for quoted in line.split('"')[1::2]:
            if quoted.startswith("/"):
                assert http.get(quoted).status_code == 200, quoted
