"""What the server says about itself: the answer of /model, and the OpenAPI description of /predict."""

from __future__ import annotations

from typing import Any

from bigstep.records import Bundle, Form, GroupScore, Outcome
from bigstep.sealed import Value
from serve.body import ACCEPTS, FORM, RAW
from serve.limits import Limits


class InputInfo(Value):
    """Say what raw pixels look like; image files of any size are decoded to this."""

    dtype: str
    layout: str
    shape: list[int | None]
    channel_order: str
    bytes_per_image: int


class VerdictInfo(Value):
    """Say what the gate found for the served bytes: its outcome, and the accuracy of every group with its bounds."""

    outcome: Outcome
    checks: int
    groups: list[GroupScore]


class ModelInfo(Value):
    """Describe the served model and how to call it."""

    name: str
    sha256: str
    form: str
    precision: str
    bytes: int
    bundle_digest: str
    input: InputInfo
    labels: list[str]
    accepts: list[str]
    limits: dict[str, int | float]
    verdict: VerdictInfo


def model_info(bundle: Bundle, form: Form, limits: Limits) -> ModelInfo:
    """Return what /model answers."""
    info = bundle.info
    spec = info.contract.input
    return ModelInfo(
        name=info.name,
        sha256=form.sha256,
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
        ),
        labels=info.contract.labels,
        accepts=list(ACCEPTS),
        limits=dict(vars(limits)),
        verdict=VerdictInfo(
            outcome=info.verdict.outcome,
            checks=len(info.verdict.checks),
            groups=[score for score in info.verdict.scores if score.form == form.name],
        ),
    )


STATUSES = {
    400: "The image is damaged, or the body does not have the length or the format that its content type says",
    408: "The body did not arrive in time",
    413: "The body is too large, or holds too many images or pixels",
    415: "The content type is not accepted, or the content is no image",
    500: "The model failed, or its output is not finite: there is no prediction",
    503: "The queue is full or the server is stopping: try again after the seconds in Retry-After",
    504: "The deadline passed before the model could answer",
}


def predict_operation(model: ModelInfo) -> dict[str, Any]:
    """Return the OpenAPI operation of POST /predict, which FastAPI cannot derive: the route reads the body itself."""
    binary = {"type": "string", "format": "binary"}
    files = {"type": "object", "properties": {"file": {"type": "array", "items": binary}}}
    size = model.input.bytes_per_image
    errors = {
        str(code): _json(text, {"error": "what; got ...; expected ...; to do: ..."}) for code, text in STATUSES.items()
    }
    first, probability = model.labels[0], 0.98
    prediction = {"label": first, "index": 0, "probability": probability, "probabilities": {first: probability}}
    example = {"model": {"name": model.name, "sha256": model.sha256}, "predictions": [prediction]}
    return {
        "summary": "Classify images",
        "operationId": "predict",
        "description": (
            "Send one image file as the body, several as a form, or raw pixels: "
            f"uint8, N x {size} bytes, N images one after the other. "
            "The answer holds one prediction per image, in order."
        ),
        "requestBody": {
            "required": True,
            "content": {"image/*": {"schema": binary}, RAW: {"schema": binary}, FORM: {"schema": files}},
        },
        "responses": {"200": _json("One prediction per image", example), **errors},
    }


def _json(description: str, example: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": {"type": "object"}, "example": example}
    return {"description": description, "content": {"application/json": content}}
