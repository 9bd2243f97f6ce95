"""The one way in which bigstep runs an ONNX file: to judge a compression step, to verify a release, and to serve it."""

import bigstep.telemetry  # noqa: F401 - before onnxruntime

# isort: split
import hashlib
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bigstep.errors import ConfigError, RecordError
from bigstep.records.exported import Contract

Device = Literal["cpu", "cuda"]
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# CUDA has no kernel for some nodes, which the CPU then runs. TF32, on by default, would round float32 to 10 bits.
PROVIDERS: dict[Device, list[str | tuple[str, dict[str, Any]]]] = {"cpu": [CPU], "cuda": [(CUDA, {"use_tf32": 0}), CPU]}


@dataclass(frozen=True)
class Predictor:
    """One session, made from exactly the bytes whose SHA-256 it states."""

    session: ort.InferenceSession
    contract: Contract
    sha256: str
    bytes: int

    @classmethod
    def open(
        cls, path: Path, contract: Contract, *, sha256: str | None = None, threads: int = 1, device: Device = "cpu"
    ) -> "Predictor":
        """Read an ONNX file once, check it, and make a session from the bytes that were checked.

        Args:
            path: the ONNX file; external data is not supported.
            contract: shapes, labels, and names of input and output.
            sha256: the hash the file must have; None accepts any.
            threads: threads of one call, at least 1. Idle threads do not spin.
            device: where to run; "cuda" takes the first GPU, and the CPU only for nodes that CUDA does not have.

        Raises:
            RecordError: the file is missing, has another hash, is not an ONNX model, or does not keep the contract.
            ConfigError: the device is cuda and the session would not run there.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RecordError(f"{path} cannot be read", got=error) from error
        found = hashlib.sha256(content).hexdigest()
        if sha256 is not None and found != sha256:
            raise RecordError(f"{path} was altered", got=f"sha256 {found}", expected=f"sha256 {sha256}")
        session = _open_session(path, content, threads, device)
        _check_contract(path, session, contract)
        return cls(session, contract, found, len(content))

    def predict(self, images_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits of a batch.

        Args:
            images_NHWC: uint8, shape (N, height_px, width_px, channels), N >= 1.

        Returns:
            float32, shape (N, K). Values may be non-finite: whoever judges must look.
        """
        logits: NDArray[np.float32] = self.session.run(
            [self.contract.output_name], {self.contract.input_name: np.ascontiguousarray(images_NHWC)}
        )[0]
        return logits

    def predict_all(self, images_NHWC: NDArray[np.uint8], batch: int = 256) -> NDArray[np.float32]:
        """Return the logits of any number of images, `batch` at a time."""
        return np.concatenate(
            [self.predict(images_NHWC[start : start + batch]) for start in range(0, len(images_NHWC), batch)]
        )


def _open_session(path: Path, content: bytes, threads: int, device: Device) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if device == "cuda":
        _load_cuda()
    try:
        # Without enable_fallback=0 a failure of the GPU, also at a later call, moves the session to the CPU unasked.
        session = ort.InferenceSession(content, options, providers=PROVIDERS[device], enable_fallback=0)
    except Exception as error:  # onnxruntime raises a type of its own for every way to be broken
        if device == "cuda" and isinstance(error, ValueError | RuntimeError):  # its own types are neither
            raise _no_cuda(error) from error
        raise RecordError(f"{path} is not an ONNX model that onnxruntime can load", got=error) from error
    if device == "cuda" and session.get_providers()[0] != CUDA:  # where a library is missing it only logs that
        raise _no_cuda(f"a session on {', '.join(session.get_providers())}")
    return session


def _load_cuda() -> None:
    """Load the CUDA libraries that pip installed, which the system's loader does not find.

    Raises:
        ConfigError: this build of onnxruntime has no CUDA.
    """
    if CUDA not in ort.get_available_providers():
        raise _no_cuda(f"an onnxruntime with {', '.join(ort.get_available_providers())}")
    with redirect_stdout(sys.stderr):  # it prints which libraries it misses
        ort.preload_dlls()


def _no_cuda(got: object) -> ConfigError:
    return ConfigError(
        "the model cannot run on a CUDA device",
        got=got,
        expected=CUDA,
        do="see what is missing: bigstep doctor; install it: pip install '.[gpu]'; or run on the CPU: --device cpu",
    )


def _check_contract(path: Path, session: ort.InferenceSession, contract: Contract) -> None:
    spec = contract.input
    found = {
        "input": [(i.name, i.type, list(i.shape[1:])) for i in session.get_inputs()],
        "output": [(o.name, o.type, list(o.shape[1:])) for o in session.get_outputs()],
    }
    for side, wanted in {
        "input": (contract.input_name, "tensor(uint8)", [spec.height_px, spec.width_px, spec.channels]),
        "output": (contract.output_name, "tensor(float)", [len(contract.labels)]),
    }.items():
        if found[side] != [wanted]:
            raise RecordError(f"{path} does not keep the {side} contract", got=found[side], expected=[wanted])
