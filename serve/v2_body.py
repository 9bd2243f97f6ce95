"""Open Inference Protocol V2, JSON form: from the body of a request to pixels, and from logits to the answer."""

import json
import math
from dataclasses import dataclass
from itertools import chain
from reprlib import repr as shown
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bigstep.records.exported import Contract
from serve.body import check_count
from serve.describe import ModelInfo
from serve.limits import Limits, Refusal

SPARE_COMMAS = 1000  # that a request may hold beside those between its pixels
# Lists cost far more than numbers: freeing them and looking for cycles among them stops every thread, for 4 s at five
# million (16 MB of "[],"), for 30 ms at this many. They hold 90 images of 32 x 32 pixels nested; flat needs three.
MAX_LISTS = 100_000
# json by itself keeps the interpreter's lock for a whole body, which stops the event loop whatever thread it runs in:
# for 55 ms at 3.6 MB (256 images of 32 x 32). With Python functions for numbers others get a turn, and the loop stops
# for 10 ms at a time; but reading takes three times as long (160 ms), so short bodies do without.
LONG_BYTES = 500_000
FLAT = "send data flat, row by row, or several requests"
NO_BINARY = "only the JSON form is spoken, no binary tensors"
SEND_JSON = "send data as JSON numbers; in tritonclient: set_data_from_numpy(images, binary_data=False)"
ASK_JSON = "ask for JSON; in tritonclient: InferRequestedOutput(name, binary_data=False)"


@dataclass(frozen=True)
class InferRequest:
    """What an infer request asks for: images, uint8 (N, H, W, C), and the id that the answer repeats."""

    images: NDArray[np.uint8]
    id: str | None


def parse_infer(body: bytes, contract: Contract, limits: Limits) -> InferRequest:
    """Read the body of an infer request.

    Raises:
        Refusal: 413 for too many images, 400 for whatever else is not as the model's metadata says, or not JSON.

    Source: Open Inference Protocol V2, REST API, "Inference".
    """
    _check_parts(body, contract, limits)
    asked = read_object(body)
    request_id = asked.get("id")
    if request_id is not None and type(request_id) is not str:
        raise _wrong("id", shown(request_id), "a string")
    _parameters("parameters", asked)  # binary_data_output is a wish, which JSON need not fulfil
    _check_outputs(asked.get("outputs"), contract.output_name)
    inputs = _objects("inputs", asked.get("inputs"))
    if len(inputs) != 1:
        raise Refusal(400, "the model has one input", got=f"{len(inputs)} inputs", expected=contract.input_name)
    return InferRequest(_images(inputs[0], contract, limits), request_id)


def infer_answer(model: ModelInfo, contract: Contract, asked: InferRequest, logits_NK: NDArray[np.float32]) -> bytes:
    """Return the JSON answer: finite logits, float32 (N, K), row by row."""
    output = {
        "name": contract.output_name,
        "datatype": "FP32",
        "shape": list(logits_NK.shape),
        "data": logits_NK.ravel().tolist(),
    }
    answer = {
        "model_name": model.name,
        "model_version": model.version,
        **({} if asked.id is None else {"id": asked.id}),
        "outputs": [output],
    }
    return json.dumps(answer).encode()


def read_object(body: bytes) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        Refusal: 400 for anything else.
    """
    hooks: dict[str, Any] = {}
    if len(body) > LONG_BYTES:
        hooks = {"parse_int": lambda text: int(text), "parse_float": lambda text: float(text)}
    try:
        found = json.loads(body, parse_constant=_no_number, **hooks)
    except RecursionError:
        raise Refusal(400, "the JSON is nested too deeply", expected="an object as the protocol says") from None
    except ValueError as error:  # no JSON, no Unicode, a number of thousands of digits
        raise Refusal(400, "the body is not JSON", got=error, expected="a JSON object") from None
    return _object("the body", found)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text}, which JSON does not have")


def _check_parts(body: bytes, contract: Contract, limits: Limits) -> None:
    """Refuse a body of more parts than a request needs, before it is read."""
    spec = contract.input
    values = limits.max_images * spec.height_px * spec.width_px * spec.channels + SPARE_COMMAS
    for sign, most, do in ((b",", values, "send several requests"), (b"[", MAX_LISTS, FLAT), (b"{", MAX_LISTS, FLAT)):
        if (found := body.count(sign)) > most:
            raise Refusal(
                413,
                "the JSON has too many parts",
                got=f"{found} times {sign.decode()!r}",
                expected=f"at most {most}",
                do=do,
            )


def _check_outputs(outputs: Any, name: str) -> None:
    for output in [] if outputs is None else _objects("outputs", outputs):
        if output.get("name") != name:
            raise Refusal(400, "the model has no such output", got=shown(output.get("name")), expected=repr(name))
        parameters = _parameters("parameters of the output", output)
        if parameters.get("binary_data"):
            raise Refusal(400, NO_BINARY, got="binary_data true", expected="binary_data false, or none", do=ASK_JSON)
        if others := sorted(set(parameters) - {"binary_data"}):
            raise Refusal(
                400, "these output parameters are not spoken", got=shown(others), expected="none, or binary_data false"
            )


def _images(tensor: dict[str, Any], contract: Contract, limits: Limits) -> NDArray[np.uint8]:
    spec = contract.input
    inner = [spec.height_px, spec.width_px, spec.channels]
    if "binary_data_size" in _parameters("parameters of the input", tensor):
        raise Refusal(400, NO_BINARY, got="binary_data_size", expected="data", do=SEND_JSON)
    for key, expected in (("name", contract.input_name), ("datatype", "UINT8")):
        if tensor.get(key) != expected:
            raise _wrong(f"{key} of the input", shown(tensor.get(key)), repr(expected))
    shape = tensor.get("shape")
    # Types as well: JSON's true and 1.0 are equal to 1 in Python.
    if type(shape) is not list or [type(d) for d in shape] != [int] * 4 or shape[1:] != inner or shape[0] < 1:
        raise _wrong("shape of the input", shown(shape), f"[N, {', '.join(map(str, inner))}], N at least 1")
    check_count(shape[0], limits)
    data = tensor.get("data")
    if type(data) is not list:
        raise _wrong("data of the input", shown(data), "a list")
    pixels = _nested(data, shape) if data and type(data[0]) is list else _flat(data, shape)
    return np.frombuffer(pixels, np.uint8).reshape(shape)


# Both go image by image, so that no single call keeps the interpreter's lock for long.


def _flat(data: list[Any], shape: list[int]) -> bytes:
    size = math.prod(shape[1:])
    if len(data) != math.prod(shape):
        raise _wrong("data of the input", f"{len(data)} values", f"{math.prod(shape)} values, for shape {shape}")
    return b"".join(_bytes(data[start : start + size], start) for start in range(0, len(data), size))


def _nested(data: list[Any], shape: list[int]) -> bytes:
    num_images, *inner = shape
    if len(data) != num_images:
        raise _wrong("data of the input", f"{len(data)} images", f"{num_images} images, for shape {shape}")
    images = []
    for i, image in enumerate(data):
        level = [image]
        for length in inner:
            if {*map(type, level)} != {list} or {*map(len, level)} != {length}:
                raise _wrong("data of the input", f"another shape in image {i + 1}", f"lists nested as shape {shape}")
            level = list(chain.from_iterable(level))
        images.append(_bytes(level, i * len(level)))
    return b"".join(images)


def _bytes(values: list[Any], start: int) -> bytes:
    """Return values as bytes; `start` is the place of the first in the tensor, for the message."""
    if {*map(type, values)} == {int}:  # a bool is an int, but not of this type
        try:
            return bytes(values)
        except ValueError:
            pass
    place, bad = next((i, v) for i, v in enumerate(values, start) if type(v) is not int or not 0 <= v <= 255)
    raise _wrong("data of the input", f"{shown(bad)} at place {place}", "integers from 0 to 255")


def _object(what: str, value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise _wrong(what, shown(value), "an object")
    return value


def _parameters(what: str, owner: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of something; clients that write every field have null for none."""
    found = owner.get("parameters")
    return {} if found is None else _object(what, found)


def _objects(what: str, value: Any) -> list[dict[str, Any]]:
    if type(value) is not list:
        raise _wrong(what, shown(value), "a list")
    return [_object(f"every one of {what}", one) for one in value]


def _wrong(what: str, got: str, expected: str) -> Refusal:
    return Refusal(400, f"wrong {what}", got=got, expected=expected)
