"""A real server process around the small run's bundle."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("bigstep")


class Server:
    """Run `bigstep serve` on a port of the system's choice, and wait until it says that it is ready."""

    def __init__(self, bundle):
        self.child = subprocess.Popen(
            [SCRIPT, "serve", str(bundle), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.line = self.child.stdout.readline()
        self.url = next((word for word in self.line.split() if word.startswith("http://")), "")

    def stop(self, signal_number=signal.SIGTERM):
        """Send a signal, and return the exit code and what was written since the first line."""
        self.child.send_signal(signal_number)
        out, err = self.child.communicate(timeout=20)
        return self.child.returncode, out, err


@pytest.fixture
def server(small_run):
    running = Server(small_run.folder / "bundle")
    yield running
    if running.child.poll() is None:
        running.child.kill()
        running.child.communicate()
