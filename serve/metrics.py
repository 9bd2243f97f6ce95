"""Prometheus metrics of one server, in a registry of its own, so that several apps can live in one process."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """What is measured; every name starts with `bigstep_`, but for the `process_` ones of the client library."""

    def __init__(self, model: str, sha256: str) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "bigstep_requests", "Answers of /predict and of V2 infer, by status code", ["code"], registry=registry
        )
        self.seconds = Histogram(
            "bigstep_request_seconds",
            "Time from the headers of a request for predictions to the end of its answer",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.batch_images = Histogram(
            "bigstep_batch_images", "Images per call of the model", buckets=BATCH_BUCKETS, registry=registry
        )
        self.queue_images = Gauge(
            "bigstep_queue_images", "Images that wait to be decoded or for the model", registry=registry
        )
        info = Gauge("bigstep_model_info", "The model that is served; always 1", ["name", "sha256"], registry=registry)
        info.labels(model, sha256).set(1)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class Measured:
    """An ASGI wrapper that counts and times the requests to some paths, whatever answers them."""

    def __init__(self, app: ASGIApp, metrics: Metrics, counts: Callable[[str], bool]) -> None:
        self.app, self.metrics, self.counts = app, metrics, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or not self.counts(scope["path"]):
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500  # an exception that nobody answers becomes a 500

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        finally:
            self.metrics.requests.labels(str(status)).inc()
            self.metrics.seconds.observe(time.perf_counter() - start)
