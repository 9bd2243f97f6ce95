"""The public door of `serve`: open a bundle that passed the gate, and answer HTTP requests with it."""

import signal
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from bigstep.errors import NoVerdict, RecordError
from bigstep.records.bundle import Bundle
from bigstep.records.exported import Form
from serve import server
from serve.describe import infer_operation, predict_operation
from serve.http import HttpRules, security_headers
from serve.limits import BodyLimit, Limits, Refusal
from serve.metrics import Measured
from serve.predictor import Device
from serve.service import Service
from serve.v2 import INFER, V2

PREDICT = "/predict"


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle whose every file is as it was sealed and whose served bytes passed the gate.

    Raises:
        RecordError: there is no bundle, or a file is missing or altered; the message names it.
        NoVerdict: the verdict is not "passed", rests on no check, or was given on other bytes.
    """
    bundle = Bundle.open(folder)
    _judged_form(bundle)
    return bundle


def _judged_form(bundle: Bundle) -> Form:
    """Return the form to serve, if the verdict allows it.

    Raises:
        RecordError: the bundle names a form that it does not hold.
        NoVerdict: the verdict is not "passed", not every check behind it passed, there is none, or it does not cover
            exactly these bytes.
    """
    info = bundle.info
    form = next((form for form in info.forms if form.name == info.served), None)
    if form is None:
        raise RecordError(f"{bundle.folder} does not hold the form it serves", expected=info.served)
    if info.verdict.outcome != "passed":
        raise NoVerdict(
            f"{bundle.folder} did not pass the gate",
            got=info.verdict.outcome,
            expected="passed",
            do="see report.html for the checks that did not pass; only a passed bundle is served",
        )
    open_checks = [f"{check.name}: {check.outcome}" for check in info.verdict.checks if check.outcome != "passed"]
    if open_checks or not info.verdict.checks:
        raise NoVerdict(
            f"{bundle.folder}: the verdict says passed, but its checks do not",
            got=", ".join(open_checks) or "no check",
            expected="at least one check, all passed",
            do="judge these bytes: bigstep run CONFIG",
        )
    judged = info.verdict.judged.get(form.name)
    if judged != form.sha256:
        raise NoVerdict(
            f"{bundle.folder}: the verdict is not about the bytes of {form.file}",
            got=f"a verdict on sha256 {judged}" if judged else f"no verdict on {form.name}",
            expected=f"a verdict on sha256 {form.sha256}",
            do="judge these bytes: bigstep run CONFIG",
        )
    return form


def create_app(bundle: Bundle, limits: Limits | None = None, device: Device = "cpu") -> FastAPI:
    """Make the HTTP application of a bundle; its model starts and warms up with the application.

    Args:
        bundle: from `open_bundle`.
        limits: None for the defaults.
        device: where the model runs; the gate judged it on a CPU.

    Raises:
        NoVerdict: the verdict does not allow it.
        RecordError: the bytes on the disk are no longer the ones that were judged.
        ConfigError: the device is cuda and the model would not run there.
    """
    service = Service(bundle, _judged_form(bundle), limits or Limits(), device)
    app = FastAPIOffline(
        title=f"bigstep: {bundle.info.name}",
        description=f"An image classifier, judged on exactly these bytes. {bundle.info.headline}",
        version=service.model.version,
        lifespan=service.lifespan,
        redoc_url=None,
        redirect_slashes=False,  # see HttpRules
        favicon_url="data:,",
    )
    app.state.service = service
    app.add_api_route("/", service.page, response_class=HTMLResponse, summary="A page to try the model")
    app.add_api_route("/model", service.describe, summary="What is served, and how to call it")
    app.add_api_route("/health/live", service.live, summary="200 while the process can answer")
    app.add_api_route("/health/ready", service.ready, summary="200 while predictions are answered")
    app.add_api_route("/metrics", service.prometheus, summary="Prometheus metrics", response_class=Response)
    # A plain Starlette route: FastAPI's own machinery costs 0.1 ms more per request, a quarter of a small model.
    app.add_route(PREDICT, service.predict, methods=["POST"])
    V2(service).add_routes(app)
    paths = app.openapi()["paths"]
    paths[PREDICT] = {"post": predict_operation(service.model)}
    paths |= {path: {"post": infer_operation(service.model, service.contract, path)} for path in INFER}
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)
    app.add_middleware(BodyLimit, limits=service.limits)
    app.add_middleware(Measured, metrics=service.metrics, counts=_is_prediction)
    app.add_middleware(HttpRules)
    return app


def _is_prediction(path: str) -> bool:
    return path == PREDICT or (path.startswith("/v2/models/") and path.endswith("/infer"))


def serve(
    bundle_folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    device: Device = "cpu",
) -> None:
    """Serve a bundle until SIGTERM or SIGINT; print one line when ready.

    The process itself ends here, with the exit code of the signal, if a call of the model does not end in time.

    Args:
        bundle_folder: a sealed bundle.
        host: the address to listen on; 0.0.0.0 for every one of this machine.
        port: 1 to 65535, or 0 for any free one.
        limits: None for the defaults.
        device: where the model runs.

    Raises:
        ConfigError: the address cannot be bound (found out before anything is loaded), or the device is cuda and the
            model would not run there.
        RecordError, NoVerdict: see `open_bundle`.
        KeyboardInterrupt: after a complete stop by SIGINT.
    """
    with server.bind(host, port) as listener, (bundle := open_bundle(bundle_folder)).held():
        app = create_app(bundle, limits, device)
        service: Service = app.state.service
        url = server.url(listener)
        try:
            server.run(
                app,
                listener,
                announcement=f"serving {service.model.name} (sha256 {service.model.version}) on {url} - "
                f"try: curl -H 'Content-Type: image/png' --data-binary @image.png {url}{PREDICT}",
                drain=service.drain,
                grace_s=service.limits.request_timeout_s,
                keep_alive_s=service.limits.keep_alive_s,
            )
        except KeyboardInterrupt:
            if service.batcher.running:
                server.leave(128 + signal.SIGINT)
            raise
        if service.batcher.running:
            server.leave(0)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": f"{error.detail}; see /docs"}, error.status_code, error.headers)


async def _internal_error(request: Request, _error: Exception) -> Response:
    says = {"error": "internal error; the server's log has the details"}
    return JSONResponse(says, 500, security_headers(request.url.path))  # Starlette answers this one outside HttpRules
