"""The Open Inference Protocol V2 over the one served model: its routes, next to our own /predict.

JSON form only. Source: Open Inference Protocol V2, REST API; the repository index is Triton's extension.
"""

import asyncio
import reprlib
from importlib.metadata import version
from typing import Any, final

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import Response
from numpy.typing import NDArray

from serve.describe import path_parameters
from serve.limits import Refusal
from serve.service import Service
from serve.v2_body import NO_BINARY, SEND_JSON, InferRequest, infer_answer, parse_infer, read_object

MODEL = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
INFER = tuple(f"{path}/infer" for path in MODEL)
MAX_QUESTION_BYTES = 1000  # of the index: it is read on the event loop
BINARY_HEADER = "Inference-Header-Content-Length"


@final
class V2:
    """The answers of one service in the form of the protocol."""

    def __init__(self, service: Service) -> None:
        self.service, self.model, self.contract = service, service.model, service.contract

    def add_routes(self, app: FastAPI) -> None:
        """Add every route of the protocol; OpenAPI has to be told of `INFER`, as of /predict."""
        app.add_api_route("/v2", self.server, summary="V2: the server")
        app.add_api_route("/v2/health/live", self.live, summary="V2: 200 while the process can answer")
        app.add_api_route("/v2/health/ready", self.ready, summary="V2: 200 while predictions are answered")
        app.add_api_route("/v2/repository/index", self.index, methods=["POST"], summary="V2: the models")
        for path in MODEL:
            extra = {"parameters": path_parameters(self.model, path)}
            app.add_api_route(path, self.metadata, summary="V2: inputs and outputs", openapi_extra=extra)
            app.add_api_route(f"{path}/ready", self.model_ready, summary="V2: as /v2/health/ready", openapi_extra=extra)
        for path in INFER:
            app.add_route(path, self.infer, methods=["POST"])

    async def server(self) -> dict[str, Any]:
        """Name the server. It claims no extension: of Triton's model repository it has the index alone."""
        return {"name": "bigstep", "version": version("bigstep"), "extensions": []}

    async def live(self) -> dict[str, bool]:
        """Say whether the process and its worker thread live."""
        self.service.check_live()
        return {"live": True}

    async def ready(self) -> dict[str, bool]:
        """Say whether predictions are answered."""
        self.service.check_ready()
        return {"ready": True}

    async def index(self, request: Request) -> list[dict[str, str]]:
        """List the one model; with {"ready": true} only while it is."""
        body = await self.service.receive(request.body)
        if len(body) > MAX_QUESTION_BYTES:
            raise Refusal(
                413,
                "the question is too long",
                got=f"{len(body)} bytes",
                expected=f"at most {MAX_QUESTION_BYTES} bytes",
            )
        wants_ready = read_object(body).get("ready", False) if body else False
        if type(wants_ready) is not bool:
            raise Refusal(400, "wrong ready", got=type(wants_ready).__name__, expected="true or false")
        state, reason = "READY", ""
        try:
            self.service.check_ready()
        except Refusal as refusal:
            state, reason = "UNAVAILABLE", refusal.what
        return (
            [{"name": self.model.name, "version": self.model.version, "state": state, "reason": reason}]
            if state == "READY" or not wants_ready
            else []
        )

    async def metadata(self, request: Request) -> dict[str, Any]:
        """Describe the model's input and output."""
        self._check_named(request)
        _, *inner = self.model.input.shape
        return {
            "name": self.model.name,
            "versions": [self.model.version],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": self.contract.input_name, "datatype": "UINT8", "shape": [-1, *inner]}],
            "outputs": [{"name": self.contract.output_name, "datatype": "FP32", "shape": [-1, len(self.model.labels)]}],
        }

    async def model_ready(self, request: Request) -> dict[str, Any]:
        """Say whether the model answers."""
        self._check_named(request)
        self.service.check_ready()
        return {"name": self.model.name, "ready": True}

    async def infer(self, request: Request) -> Response:
        """Answer an infer request, on the same road as /predict."""
        self._check_named(request)
        if BINARY_HEADER in request.headers:
            raise Refusal(400, NO_BINARY, got=f"the header {BINARY_HEADER}", expected="data", do=SEND_JSON)
        asked: list[InferRequest] = []

        async def decode(body: bytes) -> NDArray[np.uint8]:
            loop, limits = asyncio.get_running_loop(), self.service.limits
            with self.service.waiting(1):  # at least one: how many it holds is known when it is read
                found = await loop.run_in_executor(self.service.decoders, parse_infer, body, self.contract, limits)
            asked.append(found)
            return found.images

        logits_NK = await self.service.classify(request, request.body, decode)
        return Response(infer_answer(self.model, self.contract, asked[0], logits_NK), media_type="application/json")

    def _check_named(self, request: Request) -> None:
        for what, known in (("model", self.model.name), ("version", self.model.version)):
            named = request.path_params.get(what, known)
            if named != known:
                raise Refusal(404, f"no such {what}", got=reprlib.repr(named), expected=repr(known))
