"""Processes that crash, hang, babble or say nothing: each becomes a finding, in time."""

import sys
import time

import pytest

from pipeline.doctor import attempt
from pipeline.doctor.attempt import Ended, Running

KILLS_ITSELF = "import os, signal, sys; print('last words', file=sys.stderr, flush=True); os.kill(os.getpid(), {})"
HANGS_WITH_A_CHILD = "import subprocess, time; print('begun', flush=True); subprocess.run(['sleep', '60'])"


def python(code, limit_s=20.0):
    return Running([sys.executable, "-P", "-S", "-c", code], limit_s)


def test_an_answer_is_a_finding():
    finding = attempt.read(python("""print('{"works": true, "version": "1.2"}')""").end())
    assert finding.works and finding.version == "1.2" and finding.why is None


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (40, "signal 40")])
def test_a_crash_is_a_finding(number, name):
    finding = attempt.read(python(KILLS_ITSELF.format(number)).end())
    assert not finding.works and finding.why == f"was ended by {name}: last words"


def test_a_hang_is_a_finding_and_ends_with_all_that_it_started():
    start_s = time.monotonic()
    running = python(HANGS_WITH_A_CHILD, limit_s=0.3)
    finding = attempt.read(running.end())
    assert not finding.works and finding.why == "did not end within 0.3 s"
    assert time.monotonic() - start_s < 5
    assert running.process.returncode == -9


def test_a_process_that_was_asked_to_end_is_gone():
    running = python("import time; time.sleep(60)")
    running.kill()
    running.kill()
    assert running.process.returncode == -9


def test_a_program_that_does_not_start_is_a_finding(tmp_path):
    (tmp_path / "no-program").write_text("rubbish")
    for path in (tmp_path / "missing", tmp_path / "no-program", "with\0zero"):
        running = Running([str(path)], 1.0)
        finding = attempt.read(running.end())
        running.kill()
        assert not finding.works and finding.why.startswith("cannot be started: ")


@pytest.mark.parametrize("said", ["", "{}", "[]", "null", '{"works": 3.5}', '{"works": true, "more": 1}', "\0"])
def test_anything_else_is_no_answer(said):
    finding = attempt.read(Ended(0, said, "hint\x1b[31m\n\n"))
    assert not finding.works and finding.why == r"ended with code 0 and no answer: hint\x1b[31m"


def test_the_library_that_onnxruntime_misses_is_named():
    said = '{"works": false, "why": "the session runs on CPUExecutionProvider"}'
    log = "[E:onnxruntime] Failed to load library x.so with error: libcudnn.so.9: cannot open\n2025 again\n"
    finding = attempt.read(Ended(0, said, log))
    assert finding.why == "libcudnn.so.9: cannot open"
    assert attempt.read(Ended(0, '{"works": true}', log)).why is None


def test_bytes_of_no_encoding_can_be_read():
    ended = python("import os; os.write(1, bytes([255, 254])); os.write(2, bytes([128]))").end()
    assert ended.code == 0 and ended.out and attempt.read(ended).works is False
