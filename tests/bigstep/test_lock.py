"""Locks where the file system has none: who works in a run folder is still seen on the same machine."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time

import pytest

from bigstep.errors import ConfigError
from bigstep.lock import held
from pipeline.store import Store

ERRORS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EACCES, errno.EIO, errno.EBADF]
NOW_S = time.time()


@pytest.fixture(params=ERRORS, ids=errno.errorcode.get)
def no_flock(request, monkeypatch):
    """Let every lock fail as the kernel says it where a file system has none."""

    def refuse(file, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


def test_a_run_goes_on_and_says_so(no_flock, tmp_path, caplog):
    with Store(tmp_path).locked():
        assert held(tmp_path)
    assert "no lock on this file system" in caplog.text and os.strerror(no_flock) in caplog.text
    assert not held(tmp_path)


def test_a_second_process_of_this_machine_is_refused(no_flock, tmp_path):
    with Store(tmp_path).locked():
        before = (tmp_path / "lock").read_text()
        with pytest.raises(ConfigError, match="is in use") as caught, Store(tmp_path).locked():
            pass
        assert f"process {os.getpid()} on {socket.gethostname()}" in caught.value.details["got"]
        assert (tmp_path / "lock").read_text() == before


def ended_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.mark.parametrize(
    "left",
    [
        lambda: {"pid": ended_pid(), "host": socket.gethostname(), "since_s": NOW_S},
        lambda: {"pid": os.getpid(), "host": socket.gethostname(), "since_s": NOW_S - 1e6},  # before this process began
        lambda: {"pid": os.getpid(), "host": "another", "since_s": NOW_S},
        lambda: {"pid": "x"},
        list,
    ],
)
def test_what_a_killed_run_left_holds_nothing(no_flock, tmp_path, left):
    (tmp_path / "lock").write_text(json.dumps(left()))
    assert not held(tmp_path)
    with Store(tmp_path).locked():
        assert held(tmp_path)
