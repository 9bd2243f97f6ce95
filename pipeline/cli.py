"""The command line. A stage is imported inside its command, so that `--help` needs neither torch nor onnxruntime."""

import errno
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from typer.rich_utils import rich_format_error

from bigstep import numerics, terminal
from bigstep.config import Config
from bigstep.config_file import PRESETS, load, name_of, to_toml
from bigstep.errors import BigstepError, ConfigError
from bigstep.own_packages import NAMES
from pipeline import answer

app = typer.Typer(
    name="bigstep",
    help="Train an image classifier with large steps, make it small, prove what it does, serve it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
EXIT = {"passed": 0, "failed": 1, "undecided": 3}
USER_ERROR, INTERNAL_ERROR, INTERRUPTED = 2, 4, 130
USAGE_ERROR: Any = typer.BadParameter.__base__  # typer names no other of the errors of a command line
USER_ERRNOS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
}

Source = Annotated[str, typer.Argument(metavar="CONFIG", help="a TOML file, or a preset: digits, tiny")]
Overrides = Annotated[list[str], typer.Option("--set", metavar="SECTION.KEY=VALUE", help="override one setting")]
RunDir = Annotated[
    Path | None, typer.Option("--run-dir", help="where records and reports go", show_default="runs/<name>")
]
Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="where the model runs; the gate judged it on a CPU")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on standard output")]


@app.command()
def init(
    images: Annotated[Path | None, typer.Argument(metavar="PATH", help="your images: a CSV file or a folder")] = None,
    data: Annotated[str, typer.Option(help="the data set; folder looks at your own images and infers the rest")] = "",
    preset: Annotated[str, typer.Option(help="the preset to start from: digits, tiny")] = "digits",
    output: Annotated[Path, typer.Option(help="the file to write")] = Path("bigstep.toml"),
) -> None:
    """Write a commented configuration, and say what was inferred from your images."""
    if preset not in PRESETS:
        raise ConfigError("no such preset", got=preset, expected=", ".join(PRESETS))
    if data == "folder" and images is None:
        raise ConfigError("--data folder wants the path of your images", do="bigstep init --data folder PATH")
    if data != "folder" and images is not None:
        raise ConfigError(
            "a path of images goes with --data folder",
            got=images,
            do=f"bigstep init --data folder {shlex.quote(str(images))}, or --output to name the file to write",
        )
    settings = [f"name={json.dumps(name_of(output))}"] + ([f"data.kind={json.dumps(data)}"] if data else [])
    if images is not None:
        settings += _inferred(images)
    _write_new(output, to_toml(load(preset, settings)))
    typer.echo(f"wrote {output}; next: bigstep run {shlex.quote(str(output))}")


def _inferred(images: Path) -> list[str]:
    """Look at somebody's images, say what was inferred, and return the settings that follow."""
    from data.inspect_folder import infer

    settings, says = infer(images)
    for sentence in says:
        typer.echo(f"- {sentence}")
    return [
        f"{section}.{key}={json.dumps(value)}" for section, values in settings.items() for key, value in values.items()
    ]


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} exists already", do="name another with --output, or remove it first") from None
    except FileNotFoundError:
        raise ConfigError(f"{path} cannot be written", got="no such folder", do=f"mkdir -p {path.parent}") from None


@app.command()
def run(
    source: Source = "bigstep.toml",
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    run_dir: RunDir = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would run, and write nothing")] = False,
    check: Annotated[bool, typer.Option("--check", help="read large files of records again, every byte")] = False,
    measure_again: Annotated[
        bool, typer.Option("--measure-again", help="time the files again, also where this machine has done so")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run all stages, and exit with the verdict: 0 passed, 1 failed, 3 cannot tell."""
    if check:
        folder = _place(source, overrides, run_dir)[1]
        from pipeline.store import Store

        Store(folder).forget_checks()
    if dry_run:
        config, folder = _place(source, overrides, run_dir)
        from pipeline.dry_run import dry_run as foresee

        answer.report(foresee(config, folder), as_json=as_json)
    else:
        _run(source, overrides, run_dir, "verify", measure_again=measure_again, as_json=as_json)


def _add_stage_command(stage: str, text: str) -> None:
    def command(
        source: Source,
        overrides: Overrides = [],  # noqa: B006 - typer copies it
        run_dir: RunDir = None,
        as_json: Json = False,
    ) -> None:
        _run(source, overrides, run_dir, stage, as_json=as_json)

    app.command(stage, help=text)(command)


for _stage, _text in {
    "data": "Build the images.",
    "train": "Build the images and train over the grid of learning rates.",
    "compress": "Run all stages up to compression.",
    "export": "Run all stages up to the ONNX files.",
    "verify": "Run all stages; the same as run.",
}.items():
    _add_stage_command(_stage, _text)


@app.command("lr-map")
def lr_map(
    source: Source,
    checkpoints: Annotated[
        list[Path],
        typer.Option("--checkpoints", help="networks you trained: a folder, a file like 0.1-s0.safetensors, or a CSV"),
    ] = [],  # noqa: B006 - typer copies it
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    run_dir: RunDir = None,
    as_json: Json = False,
) -> None:
    """Draw the learning-rate map: the whole grid with every seed, its thresholds, and all that moves with the rate."""
    config, folder = _place(source, overrides, run_dir)
    from pipeline import checkpoints as given
    from pipeline import progress
    from pipeline.run import draw_map
    from verify.report.map_console import MapSummary

    found = given.find(checkpoints)
    with _told_when_interrupted(), progress.shown(), _stopped_by_sigterm():
        record = draw_map(config, folder, found)
    answer.report(MapSummary(record, folder), as_json=as_json)


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="a bundle folder, like runs/digits/bundle")],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on; 0 takes a free one", min=0, max=65535)] = 8000,
    threads: Annotated[int | None, typer.Option(help="threads of one call of the model", show_default="1")] = None,
    max_batch_images: Annotated[
        int | None, typer.Option(help="most images in one call of the model", show_default="32")
    ] = None,
    max_images: Annotated[int | None, typer.Option(help="most images in one request", show_default="256")] = None,
    max_queue_images: Annotated[
        int | None, typer.Option(help="most images waiting; more get 503", show_default="1024")
    ] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="largest request body", show_default="16 MiB")] = None,
    max_held_bytes: Annotated[
        int | None, typer.Option(help="all unanswered bodies together", show_default="256 MiB")
    ] = None,
    request_timeout_s: Annotated[
        float | None, typer.Option(help="time for one answer, seconds", show_default="30")
    ] = None,
    keep_alive_s: Annotated[
        int | None, typer.Option(help="rest between requests of a connection, seconds", show_default="75")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Serve a bundle over HTTP; refuses bytes without a passing verdict."""
    given = {name: value for name, value in locals().items() if name not in ("bundle", "host", "port", "device")}
    from serve.app import serve as serve_bundle
    from serve.limits import Limits

    serve_bundle(
        bundle,
        host=host,
        port=port,
        limits=Limits(**{name: value for name, value in given.items() if value is not None}),
        device=device,
    )


@app.command()
def bench(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="a bundle folder, like runs/digits/bundle")],
    threads: Annotated[int, typer.Option(help="threads of one call of the model")] = 1,
    device: Device = "cpu",
    max_batch: Annotated[int, typer.Option(help="largest batch to try")] = 64,
    seconds: Annotated[float, typer.Option(help="time for all measurements together")] = 20.0,
    max_p99_ms: Annotated[float | None, typer.Option(help="budget: 99th percentile at batch 1, milliseconds")] = None,
    min_images_per_s: Annotated[float | None, typer.Option(help="budget: images per second, best batch")] = None,
    raw: Annotated[Path | None, typer.Option(help="write every single time to this JSON file")] = None,
    as_json: Json = False,
) -> None:
    """Measure how fast a bundle's models are on this machine; budgets decide the exit code as the gate does."""
    given = {name: value for name, value in locals().items() if name not in ("bundle", "as_json")}
    from pipeline import bench, progress

    options = bench.BenchOptions(**given)
    with progress.shown():
        timings = bench.run(bundle, options)
    answer.report(timings, as_json=as_json)
    timings.write_raw()  # last: a full disk must not take the report with it
    sys.exit(EXIT[timings.outcome])


@app.command()
def follow(
    source: Annotated[str, typer.Argument(metavar="RUN", help="a run folder, or the log.jsonl of one trial")],
    once: Annotated[bool, typer.Option("--once", help="show the present state and end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print each measurement as a line of JSON")] = False,
) -> None:
    """Follow a training: losses, errors that follow the bias, sharpness, norm, alarms; ends when the run does."""
    from pipeline.follow.follow import follow

    follow(source, once=once, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine is, what really works on it, and what each stage will use; exit 2 if it cannot serve."""
    from pipeline import closure
    from pipeline.bundle import REPORT
    from pipeline.doctor.examine import examine
    from pipeline.keys import code_of
    from pipeline.stages import STAGES, VERIFY

    missing = {stage.name: code_of(stage, Config()).missing() for stage in STAGES}
    missing[VERIFY.name] = sorted(
        {*missing[VERIFY.name], *closure.of(REPORT).missing()}
    )  # without it a run stops as well
    diagnosis = examine(missing)
    answer.report(diagnosis, as_json=as_json)
    sys.exit(0 if diagnosis.healthy else USER_ERROR)


@app.command()
def gc(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN_DIR", help="run folders", show_default="every folder in runs")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="remove it; without this, only say what would go")] = False,
    as_json: Json = False,
) -> None:
    """Remove from run folders what neither the bundle nor the last configuration needs."""
    from pipeline import gc

    named = []
    for folder in folders or sorted(path.parent for path in Path("runs").glob("*/config.toml")):
        try:
            gc.check(folder)  # all of them, before anything is removed from one
            named.append(folder)
        except ConfigError as error:
            if folders:
                raise
            typer.echo(f"passed over: {error}", err=True)
    answer.report(
        gc.Sweep(
            [leftover for folder in named for leftover in (gc.remove if delete else gc.find)(folder)], deleted=delete
        ),
        as_json=as_json,
    )


def main() -> NoReturn:
    """Run the command line and turn what goes wrong into one message and an exit code.

    Only the gate exits with 1: typer would end with it where a command is interrupted.
    """
    terminal.last()
    answer.begin()
    os.environ["PYTHONSAFEPATH"] = "1"  # worker processes must not import from the working directory either
    try:
        ended = app(standalone_mode=False)
    except USAGE_ERROR as error:
        rich_format_error(error)
        answer.failure(error.format_message(), USER_ERROR)
        sys.exit(USER_ERROR)
    except BigstepError as error:
        _fail(error, error.exit_code)
    except ImportError as error:
        if (error.name or "").partition(".")[0] in NAMES:
            _crash(error)
        _fail(BigstepError("a package cannot be loaded", got=error, do="bigstep doctor"), USER_ERROR)
    except OSError as error:
        if error.errno not in USER_ERRNOS:
            _crash(error)
        _fail(BigstepError(f"{error.filename or 'a file'} cannot be used", got=error.strerror), USER_ERROR)
    except typer.Abort:
        ended = INTERRUPTED
    except Exception as error:
        _crash(error)
    if ended == INTERRUPTED:
        answer.failure("interrupted", INTERRUPTED)
    sys.exit(ended or 0)


def _fail(error: BigstepError, code: int) -> NoReturn:
    typer.echo(f"error: {error}", err=True)
    answer.failure(error.what, code, error.details)
    sys.exit(code)


def _crash(error: Exception) -> NoReturn:
    traceback.print_exc()
    typer.echo("error: this is a bug in bigstep; please report it with the lines above", err=True)
    answer.failure("this is a bug in bigstep", INTERNAL_ERROR, {"got": f"{type(error).__name__}: {error}"})
    sys.exit(INTERNAL_ERROR)


def _run(
    source: str, overrides: list[str], run_dir: Path | None, until: str, *, measure_again: bool = False, as_json: bool
) -> NoReturn:
    config, folder = _place(source, overrides, run_dir)
    from pipeline import made, progress, run
    from verify.report import console

    with _told_when_interrupted(), progress.shown(), _stopped_by_sigterm():
        records = run.run(config, folder, until, measure_again=measure_again)
    if until != "verify":
        answer.report(made.Made(records.made()[until]), as_json=as_json)
        sys.exit(0)
    assert records.judged is not None and records.bundle is not None
    answer.report(console.Summary(records.judged, folder, records.bundle.folder), as_json=as_json)
    sys.exit(EXIT[records.judged.outcome])


def _place(source: str, overrides: list[str], run_dir: Path | None) -> tuple[Config, Path]:
    config = load(source, overrides)
    numerics.choose(config.numerics)  # before anything is imported that computes
    return config, run_dir or Path("runs") / config.name


@contextmanager
def _told_when_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        says = "interrupted; the same command goes on from here"
        typer.echo(says, err=True)
        answer.failure(says, INTERRUPTED)
        sys.exit(INTERRUPTED)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, with which CI systems and containers stop a job, end a run as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
