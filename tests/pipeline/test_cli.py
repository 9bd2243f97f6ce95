"""The command line: exit codes, one clear message, no traceback, JSON on standard output alone."""

import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import typer.main

from bigstep import terminal
from bigstep.config_file import load
from bigstep.errors import ConfigError, NoVerdict
from bigstep.records.sealed import CHECKED, stamp
from pipeline import cli, closure, device
from pipeline.stages import NAMES
from serve.limits import Limits

SCRIPT = Path(sys.executable).with_name("bigstep")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BEIGE = 'verify.groups=["label=3,colour=beige"]'


def check_failure(ended, code, *says):
    """Check what every failure has in common: the code, the words, nothing on standard output, no traceback."""
    assert ended.code == code, ended.err
    assert all(part in ended.err for part in says), ended.err
    assert "Traceback" not in ended.err and ended.out == ""


def test_a_gpu_that_is_not_there(bigstep, tmp_path, monkeypatch):
    def no_driver(name):
        raise OSError(name)

    monkeypatch.setattr(device.ctypes, "CDLL", no_driver)
    ended = bigstep("data", "tiny", "--run-dir", tmp_path / "run", "--set", "device=cuda")
    check_failure(ended, 2, "finds no GPU", "--set device=cpu")


def test_when_every_rate_diverges(bigstep, small_toml, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    rates = ["--set", "train.min_rate=50", "--set", "train.max_rate=100"]
    short = ["--set", "train.max_steps=200", "--set", "train.baseline_max_steps=200"]
    ended = bigstep("train", small_toml, "--run-dir", tmp_path / "run", *rates, *short)
    check_failure(ended, 2, "no learning rate can be chosen", "rate 50: diverged", "lower train.min_rate")


def test_init_writes_a_configuration_that_runs(bigstep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = bigstep("init", "--preset", "tiny", "--output", "mine.toml")
    assert ended.code == 0 and "bigstep run mine.toml" in ended.out
    assert load("mine.toml") == load("tiny", ["name=mine"])
    content = Path("mine.toml").read_text()
    check_failure(bigstep("init", "--output", "mine.toml"), 2, "mine.toml exists already", "--output")
    assert Path("mine.toml").read_text() == content
    made = bigstep("data", "mine.toml")
    assert made.code == 0 and made.out.splitlines()[-2].startswith("images ")
    assert made.out.splitlines()[-1].startswith("runs/mine/") and "validation_biased      100" in made.out
    assert bigstep("init").code == 0 and load("bigstep.toml").name == "bigstep"
    for path, name in {"my run.toml": "my-run", "2024.toml": "2024", "true.toml": "true"}.items():
        assert bigstep("init", "--output", path).code == 0 and load(path).name == name


COMMANDS = typer.main.get_command(cli.app).commands


def words(text):
    """Return what a reader sees, without the frames that rich draws and the lines that it breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def test_help_names_every_command(bigstep):
    ended = bigstep("--help")
    assert ended.code == 0 and ended.err == "" and {"init", *NAMES, "follow", "serve"} <= set(words(ended.out).split())
    assert "watch" not in COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_parameter_with_all_that_is_said_of_it(bigstep, monkeypatch, name):
    """rich takes what stands in square brackets for its own markup, and shows nothing of it."""
    monkeypatch.setenv("COLUMNS", "80")
    ended = bigstep(name, "--help")
    assert ended.code == 0 and ended.err == "" and max(map(len, ended.out.splitlines())) <= 80
    shown = words(ended.out)
    assert COMMANDS[name].help.split(".")[0] in shown
    for parameter in COMMANDS[name].params:
        given = parameter.metavar if parameter.param_type_name == "argument" else parameter.opts[0]
        assert given in shown
        for word in parameter.help.split():
            assert word in shown, f"{given}: {word}"
        if isinstance(parameter.show_default, str):
            assert f"[default: ({parameter.show_default})]" in shown.replace("( ", "(")


def test_help_tells_the_limits_that_the_server_has(bigstep):
    shown = {p.name: p.show_default for p in COMMANDS["serve"].params if isinstance(p.show_default, str)}
    limits = asdict(Limits())
    assert shown.keys() == limits.keys()
    for name, text in shown.items():
        number, _, unit = text.partition(" ")
        assert float(number) * {"": 1, "MiB": 2**20}[unit] == limits[name]


def test_an_error_of_our_own_says_so_and_exits_with_4(bigstep, tmp_path, monkeypatch):
    def broken(*_arguments):
        raise ZeroDivisionError("a bug")

    def lost(*_arguments):
        return (tmp_path / "nowhere").read_bytes()

    for error in (broken, lost):
        monkeypatch.setattr("pipeline.run.run", error)
        ended = bigstep("data", "tiny", "--run-dir", tmp_path / "run")
        assert ended.code == cli.INTERNAL_ERROR == 4 and ended.out == ""
        assert ended.err.startswith("Traceback")
        assert ended.err.splitlines()[-1] == "error: this is a bug in bigstep; please report it with the lines above"


@pytest.mark.parametrize("arguments", [["data", "tiny"], ["data", "tiny", "--json"]])
def test_an_interrupt_is_one_line(bigstep, monkeypatch, arguments):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.run.run", interrupted)
    ended, says = bigstep(*arguments), "interrupted; the same command goes on from here"
    assert (ended.code, ended.err) == (130, f"{says}\n")
    told = {"error": {"what": says}, "exit_code": 130}
    assert json.loads(ended.out) == told if "--json" in arguments else ended.out == ""


JSON_COMMANDS = sorted(name for name, c in COMMANDS.items() if any("--json" in p.opts for p in c.params))


@pytest.mark.parametrize(
    "raised", [ConfigError("no", got="x", expected="y", do="z"), NoVerdict("no"), OSError(28, "full", "f")]
)
@pytest.mark.parametrize("name", JSON_COMMANDS)
def test_json_is_an_object_whatever_goes_wrong(bigstep, monkeypatch, tmp_path, name, raised):
    def broken(*_arguments, **_options):
        raise raised

    places = ["pipeline.cli._place", "pipeline.bench.run", "pipeline.follow.follow.find"]
    for place in [*places, "pipeline.doctor.examine.examine", "pipeline.gc.check"]:
        monkeypatch.setattr(place, broken)
    ended = bigstep(name, *([] if name == "doctor" else [tmp_path]), "--json")
    code = getattr(raised, "exit_code", 2)
    told = json.loads(ended.out)
    assert ended.code == told["exit_code"] == code
    what, *_ = ended.err.removeprefix("error: ").splitlines()
    assert told["error"].pop("what") == what
    found = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in ended.err.splitlines()[1:]}
    assert told["error"] == found


@pytest.mark.parametrize("arguments", [["nonsuch"], ["run", "--nonsense"], ["bench"], ["bench", "x", "--threads", "x"]])
def test_a_wrong_command_line_is_an_object_too(bigstep, arguments):
    ended = bigstep(*arguments, "--json")
    told = json.loads(ended.out)
    assert ended.code == told["exit_code"] == 2 and told["error"]["what"] in words(ended.err)


def test_a_bug_and_an_interrupt_of_any_command_are_objects_too(bigstep, monkeypatch):
    for raised, code in ((ZeroDivisionError("a bug"), 4), (KeyboardInterrupt(), 130)):

        def broken(*_arguments, raised=raised):
            raise raised

        monkeypatch.setattr("pipeline.doctor.examine.examine", broken)
        ended = bigstep("doctor", "--json")
        assert ended.code == json.loads(ended.out)["exit_code"] == code


def test_what_goes_wrong_after_the_object_adds_no_second_one(bigstep, small_run, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device", "raw.json")

    monkeypatch.setattr("pipeline.bench.write_json", full)
    arguments = ["--seconds", "0.2", "--raw", small_run.folder.parent / "raw.json", "--json"]
    ended = bigstep("bench", small_run.folder / "bundle", *arguments)
    assert ended.code == 2 and "raw.json" in ended.err and "models" in json.loads(ended.out)


# ---- what a finished run says ----------------------------------------------------------------------------------------


def test_json_of_a_run_that_passed(bigstep, small_toml, small_run, run_copy):
    ended = bigstep("run", small_toml, "--run-dir", run_copy, "--json")
    found = json.loads(ended.out)
    verdict = small_run.records["verify"].info
    assert (ended.code, found["verdict"]) == (0, "passed")
    assert [check["outcome"] for check in found["checks"]] == [check.outcome for check in verdict.checks]
    assert found["bundle"] == str(run_copy / "bundle") and Path(found["report"]).is_file()
    served = {score.group: score.accuracy for score in verdict.scores if score.form == found["models"][0]["model"]}
    assert found["models"][0]["conflicting"] == served["conflicting"]
    assert "data: unchanged" in ended.err


def test_text_of_a_run_that_passed(bigstep, small_toml, run_copy):
    ended = bigstep("run", small_toml, "--run-dir", run_copy)
    lines = ended.out.splitlines()
    assert ended.code == 0 and lines[0].split() == ["model", "bytes", "unbiased", "aligned", "conflicting", "ms"]
    assert lines[1].startswith("compact-") and lines[2].startswith("dense-fp32")
    verdict = next(line for line in lines if line.startswith("Verdict:"))
    assert re.fullmatch(r"Verdict: PASSED, (\d+) of \1 checks passed", verdict)
    serve = next(line for line in lines if line.startswith("Serve:"))
    assert serve.endswith(f"serve {run_copy / 'bundle'}")
    assert not ANSI.search(ended.out + ended.err)


@pytest.fixture(scope="module")
def judged_otherwise(small_config, small_run, tmp_path_factory):
    """Return run folders and settings whose gate fails, and whose gate cannot decide."""
    found = {}
    for outcome, setting in {"failed": "verify.floor=0.95", "undecided": BEIGE}.items():
        folder = tmp_path_factory.mktemp("judged") / outcome
        found[outcome] = (shutil.copytree(small_run.folder, folder, symlinks=True), setting)
    return found


@pytest.mark.parametrize(("outcome", "code"), [("failed", 1), ("undecided", 3)])
def test_runs_that_do_not_pass(bigstep, small_toml, judged_otherwise, outcome, code):
    folder, setting = judged_otherwise[outcome]
    arguments = ["run", small_toml, "--run-dir", folder, "--set", setting]
    as_json = bigstep(*arguments, "--json")
    found = json.loads(as_json.out)
    assert (as_json.code, found["verdict"]) == (code, outcome)
    assert outcome in {check["outcome"] for check in found["checks"]}
    as_text = bigstep(*arguments)
    assert as_text.code == code and "Serve:" not in as_text.out
    sign = {"failed": "FAILED", "undecided": "CANNOT TELL"}[outcome]
    lines = [line for line in as_text.out.splitlines() if line.startswith(sign)]
    missed = [check for check in found["checks"] if check["outcome"] != "passed"]
    assert lines == [f"{sign} {check['name']}: {check['says']}" for check in missed]
    report = (folder / "report.html").read_text()
    assert missed[0]["name"].split(" (")[0] in report
    if outcome == "undecided":
        assert "colour=beige" in lines[0] and "beige" in report
    assert f"Bundle:  {found['bundle']}, not to be served; {folder / 'bundle'} is still the last" in as_text.out
    refused = bigstep("serve", found["bundle"], "--port", 0)
    check_failure(refused, 1, "did not pass the gate", f"got:      {outcome}")


@pytest.mark.parametrize("stage", ["data", "train", "compress", "export"])
def test_stage_commands_name_their_record(bigstep, small_toml, small_run, stage):
    record = small_run.records[stage]
    ended = bigstep(stage, small_toml, "--run-dir", small_run.folder, "--json")
    expected = {"kind": record.kind, "digest": record.digest, "folder": str(record.folder)}
    assert ended.code == 0 and json.loads(ended.out).items() >= expected.items()
    assert bigstep(stage, small_toml, "--run-dir", small_run.folder).out.splitlines()[-2:] == [
        f"{record.kind} {record.digest}",
        str(record.folder),
    ]


def test_check_reads_every_byte_of_large_files_again(bigstep, small_toml, run_copy, monkeypatch):
    monkeypatch.setattr("bigstep.records.sealed.LARGE_BYTES", 1)
    dry = ("run", small_toml, "--run-dir", run_copy, "--dry-run")
    assert bigstep(*dry).out.count("reuse") == 5
    victim = next((run_copy / "records").glob("images-*/test.images.npy"))
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    noted = json.loads((victim.parent / CHECKED).read_bytes())
    noted[victim.name][1:] = stamp(victim.stat())  # as if the disk had done it, of which the system knows nothing
    (victim.parent / CHECKED).write_text(json.dumps(noted))
    assert bigstep(*dry).out.count("reuse") == 5
    assert bigstep(*dry, "--check").out.split()[:3] == ["data", "run", "train"]


def test_a_dry_run_lists_every_stage(bigstep, small_toml, small_run, tmp_path):
    ended = bigstep("run", small_toml, "--run-dir", small_run.folder, "--dry-run", "--json")
    steps = json.loads(ended.out)
    assert ended.code == 0 and ended.err == ""
    names = [small_run.records[stage].folder.name for stage in NAMES]
    assert [(s["stage"], s["action"], s["record"]) for s in steps] == [
        (stage, "reuse", name) for stage, name in zip(NAMES, names, strict=True)
    ]
    text = bigstep("run", small_toml, "--run-dir", tmp_path / "none", "--dry-run").out.splitlines()
    assert [line.split() for line in text] == [[stage, "run"] for stage in NAMES]


# ---- serve -----------------------------------------------------------------------------------------------------------


def test_serve_refuses_what_is_no_bundle(bigstep, small_run):
    ended = bigstep("serve", small_run.records["export"].folder, "--port", 0)
    check_failure(ended, 2, "is not a bundle", "a record of kind exported", "the folder `bundle`")


def test_serve_on_a_port_in_use(bigstep, small_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = bigstep("serve", small_run.folder / "bundle", "--port", port)
    check_failure(ended, 2, f"127.0.0.1:{port}", "--port")


# ---- as a process of its own -----------------------------------------------------------------------------------------


def test_the_console_script_and_the_module_are_the_same(tmp_path):
    (tmp_path / "wrong.toml").write_text("[train]\nnum_rate = 3\n")
    (tmp_path / "typer.py").write_text("raise SystemExit('the wrong module was imported')")
    ended = []
    for command in ([SCRIPT], [sys.executable, "-m", "bigstep"]):
        done = subprocess.run([*command, "data", "wrong.toml"], cwd=tmp_path, capture_output=True, text=True)
        ended.append((done.returncode, done.stdout, done.stderr))
    assert ended[0] == ended[1]
    assert ended[0][0] == 2 and ended[0][2].startswith("error: wrong.toml: unknown key")


@pytest.mark.parametrize(
    "asks", ["", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PY_COLORS"]
)
def test_output_to_a_pipe_is_lines(small_toml, run_copy, asks):
    """What asks for colours gets colours: a log still has a line for each thing that is said, and no line twice."""
    command = [SCRIPT, "run", small_toml, "--run-dir", run_copy]
    environment = {**os.environ, "TERM": "xterm"} | ({asks: "1"} if asks else {})
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and (asks or not ANSI.search(done.stdout + done.stderr))
    assert "\r" not in done.stderr and not re.search(r"\x1b\[[0-9;?]*[A-Zhl]", done.stderr), "nothing moves the cursor"
    assert done.stderr.splitlines() == [f"{stage}: unchanged" for stage in NAMES]
    notes = [line for line in done.stdout.splitlines() if line.startswith("Note: ")]
    assert notes and all(line.endswith(".") for line in notes), "in a pipe a note is one line"


def on_a_terminal(*arguments, columns=80):
    """Run a command under a pseudo-terminal and return its exit code and what it wrote."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        os.environ |= {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm-256color"}
        os.execv(SCRIPT, [str(SCRIPT), *map(str, arguments)])
    written = b""
    try:
        while chunk := os.read(terminal, 65536):
            written += chunk
    except OSError:  # Linux ends a pseudo-terminal with EIO
        pass
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written.decode()


def test_eighty_columns_are_enough(small_toml, run_copy):
    """Tables and sentences fit; only commands and paths that one copies are left on one line."""
    code, written = on_a_terminal("run", small_toml, "--run-dir", run_copy, "--set", "verify.margin=0.5")
    assert code == 0 and "\x1b[" in written, "a terminal gets bars and colours"
    lines = [line.rpartition("\r")[2] for line in ANSI.sub("", written).replace("\r\n", "\n").split("\n")]
    copied = ("Report: ", "Serve: ", "Query: ")
    long = [line for line in lines if len(line) > 80 and not line.startswith(copied)]
    assert not long, long
    text = "\n".join(lines)
    assert "verify: running" in text and "Verdict: PASSED" in text
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("model ")) :]
    assert table[0].split() == ["model", "bytes", "unbiased", "aligned", "conflicting", "ms"]
    assert len(table[1].split()) == 6, "a row stays on its line"
    assert re.search(r"verify +[━╸╺ ]+ \d+/\d+ \d:\d\d:\d\d", text)


def test_nothing_reports_to_anybody(small_run, tmp_path):
    """The official onnxruntime writes a device id and a queue of events where it would report its use."""
    unset = ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS", "XDG_CACHE_HOME", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")
    environment = {key: value for key, value in os.environ.items() if key not in unset} | {"HOME": str(tmp_path)}
    command = [SCRIPT, "bench", small_run.folder / "bundle", "--seconds", "0.2"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0 and "compact-int8" in ended.stdout, ended.stderr
    assert not (tmp_path / ".cache" / "Microsoft").exists()


@pytest.fixture
def nobody_reads():
    """Return the end of a pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def test_a_reader_that_leaves_early_does_not_change_the_exit_code(small_toml, run_copy, nobody_reads):
    """`bigstep run | head -1`: with pipefail, the verdict is still what counts."""
    run = ("run", small_toml, "--run-dir", run_copy)
    for arguments in (run, (*run, "--json"), ("--help",)):
        ended = subprocess.run([SCRIPT, *arguments], stdout=nobody_reads, stderr=subprocess.PIPE, text=True)
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr and "Broken" not in ended.stderr


@pytest.mark.parametrize("arguments", [("run", "nonsuch"), ("nonsuch",)])
def test_nor_does_it_when_it_read_the_errors(nobody_reads, arguments):
    assert subprocess.run([SCRIPT, *arguments], stdout=nobody_reads, stderr=nobody_reads).returncode == 2


def test_a_path_that_the_encoding_cannot_hold_is_spelled_out(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [SCRIPT, "init", "--output", tmp_path / "Ω.toml"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0 and r"\u03a9.toml" in ended.stdout


@pytest.mark.parametrize("columns", ["0", "none"])
def test_a_width_of_nothing_is_none(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    terminal.Terminal().print("words")
    assert capsys.readouterr().out == "words\n"


def test_a_stage_of_its_own_leaves_the_report_of_a_whole_run(bigstep, small_toml, run_copy):
    assert bigstep("train", small_toml, "--run-dir", run_copy).code == 0
    assert (run_copy / "report.html").is_file()


@pytest.mark.parametrize(("name", "code"), [("onnxruntime", 2), (None, 2), ("serve.bench", 4), ("bigstep", 4)])
def test_a_broken_package_is_no_bug_of_ours_and_a_broken_module_is(bigstep, monkeypatch, name, code):
    def broken(**_options):
        raise ImportError("libcudart.so.13: cannot open shared object file", name=name)

    monkeypatch.setattr(cli, "app", broken)
    ended = bigstep("bench", "bundle")
    assert ended.code == code and "libcudart.so.13" in ended.err
    assert ("to do:    bigstep doctor" in ended.err) == (code == 2)


def test_doctor_is_told_what_the_report_needs(bigstep, monkeypatch):
    told = []

    def look(missing):
        told.append(missing)
        raise ConfigError("enough seen")

    monkeypatch.setattr("pipeline.doctor.examine.examine", look)
    has = closure.installed_version
    monkeypatch.setattr(closure, "installed_version", lambda name: None if name.lower() == "jinja2" else has(name))
    assert bigstep("doctor").code == 2
    assert [name for name, missing in told[0].items() if missing] == ["verify"]
