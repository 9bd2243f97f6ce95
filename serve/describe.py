"""What the server says about itself: the answer of /model, and the OpenAPI description of the routes that predict."""

from typing import Any

from bigstep.records.bundle import Bundle
from bigstep.records.exported import Contract, Form
from bigstep.records.sealed import Value
from bigstep.records.verdict import GroupScore, Outcome
from serve.body import ACCEPTS, FORM, RAW
from serve.limits import Limits
from serve.predictor import Device


class InputInfo(Value):
    """What raw pixels look like; image files of any size are decoded to this, `fit` and `resize` say how."""

    dtype: str
    layout: str
    shape: list[int | None]
    channel_order: str
    bytes_per_image: int
    fit: str
    resize: str


class VerdictInfo(Value):
    """What the gate found for the served bytes: its outcome, and the accuracy of every group with its bounds.

    `says` is what was judged, and what was not, in one sentence; budgets of the machine that judged count in it.
    """

    outcome: Outcome
    says: str
    checks: int
    groups: list[GroupScore]


class ModelInfo(Value):
    """The served model and how to call it; `version` is how the V2 protocol names these bytes."""

    name: str
    version: str
    sha256: str
    device: Device
    form: str
    precision: str
    bytes: int
    bundle_digest: str
    input: InputInfo
    labels: list[str]
    accepts: list[str]
    limits: dict[str, int | float]
    verdict: VerdictInfo


def model_info(bundle: Bundle, form: Form, limits: Limits, device: Device) -> ModelInfo:
    """Return what /model answers."""
    info = bundle.info
    spec = info.contract.input
    return ModelInfo(
        name=info.name,
        version=form.sha256[:12],
        sha256=form.sha256,
        device=device,
        form=form.name,
        precision=form.precision,
        bytes=form.bytes,
        bundle_digest=bundle.digest,
        input=InputInfo(
            dtype="uint8",
            layout="NHWC",
            shape=[None, spec.height_px, spec.width_px, spec.channels],
            channel_order="RGB" if spec.channels == 3 else "grey",
            bytes_per_image=spec.height_px * spec.width_px * spec.channels,
            fit=spec.fit,
            resize=spec.resize,
        ),
        labels=info.contract.labels,
        accepts=list(ACCEPTS),
        limits=dict(vars(limits)),
        verdict=VerdictInfo(
            outcome=info.verdict.outcome,
            says=info.headline,
            checks=len(info.verdict.checks),
            groups=[score for score in info.verdict.scores if score.form == form.name],
        ),
    )


STATUSES = {
    400: "The image is damaged, or the body does not have the length or the format that its content type says",
    408: "The body did not arrive in time",
    413: "The body is too large, or holds too many images or pixels",
    415: "The content type is not accepted, the body is compressed, or the content is not an image",
    500: "The model failed, or its output is not finite: there is no prediction",
    503: "The queue is full or the server is stopping: try again after the seconds in Retry-After",
    504: "The deadline passed before the model could answer",
}
ERROR = {"error": "what; got ...; expected ...; to do: ..."}


def predict_operation(model: ModelInfo) -> dict[str, Any]:
    """Return the OpenAPI operation of POST /predict, which FastAPI cannot derive: the route reads the body itself."""
    binary = {"type": "string", "format": "binary"}
    first, probability = model.labels[0], 0.98
    prediction = {"label": first, "index": 0, "probability": probability, "probabilities": {first: probability}}
    return {
        "summary": "Classify images",
        "operationId": "predict",
        "description": (
            "Send one image file as the body, several as a form, or raw pixels as application/octet-stream: "
            f"uint8, N x {model.input.bytes_per_image} bytes, N images one after the other. "
            "The answer holds one prediction per image, in order."
        ),
        "requestBody": {
            "required": True,
            "content": {
                "image/*": {"schema": binary},
                RAW: {"schema": binary},
                FORM: {"schema": {"type": "object", "properties": {"file": {"type": "array", "items": binary}}}},
            },
        },
        "responses": {
            "200": _json(
                "One prediction per image",
                {"model": {"name": model.name, "sha256": model.sha256}, "predictions": [prediction]},
            ),
            **{str(code): _json(text, ERROR) for code, text in STATUSES.items()},
        },
    }


def infer_operation(model: ModelInfo, contract: Contract, path: str) -> dict[str, Any]:
    """Return the OpenAPI operation of POST /v2/models/.../infer under one of its paths."""
    _, *inner = model.input.shape
    tensor = {"name": contract.input_name, "shape": [1, *inner], "datatype": "UINT8", "data": ["..."]}
    output = {"name": contract.output_name, "datatype": "FP32", "shape": [1, len(model.labels)], "data": ["..."]}
    statuses = STATUSES | {
        400: "The body is not JSON, is in binary form, or is not what the metadata of the model says",
        404: "No such model or version",
        413: "The body is too large, or holds too many images",
        415: "The body is compressed",
    }
    return {
        "summary": "Classify images, Open Inference Protocol V2",
        "operationId": "infer_version" if "{version}" in path else "infer",
        "description": "JSON alone: no binary tensors. `data` is flat, row by row, or nested as `shape` says.",
        "parameters": path_parameters(model, path),
        "requestBody": {"required": True, **_content({"id": "1", "inputs": [tensor]})},
        "responses": {
            "200": _json(
                "Logits, in the order of the images",
                {"model_name": model.name, "model_version": model.version, "id": "1", "outputs": [output]},
            ),
            **{str(code): _json(text, ERROR) for code, text in sorted(statuses.items())},
        },
    }


def path_parameters(model: ModelInfo, path: str) -> list[dict[str, Any]]:
    """Return the OpenAPI description of what a path of the V2 protocol has in braces."""
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": [value]}}
        for name, value in {"model": model.name, "version": model.version}.items()
        if f"{{{name}}}" in path
    ]


def _content(example: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"type": "object"}, "example": example}}}


def _json(description: str, example: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, **_content(example)}
