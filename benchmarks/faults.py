"""Break runs on purpose, at chosen moments, and see that the next run ends in the same digests.

    .venv/bin/python benchmarks/faults.py --results benchmarks/results/faults

Three kinds of fault, each in a run folder of its own:
- `kill -9` of a real `bigstep run` at random moments inside every stage, worker processes and all;
- `kill -9` before and after each operation that publishes a record (renames, keys, the bundle's change of place);
- a disk that is full from the n-th write on, for every n.
After each, every record that is in place must be whole; then the same command is run again, must exit with 0, and must
end in the digests of an undisturbed run. `tests/end_to_end/test_faults.py` does a part of this on every change.

Operations are counted below Python, by `faults.c`, which is compiled here and preloaded into a process that forks one
victim after the other, so that none of them imports torch again.
"""

import argparse
import contextlib
import ctypes
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODES = {"none": 0, "full disk": 1, "kill before": 2, "kill after": 3, "clock goes backwards": 4}
ENDS = {  # the exit code that each fault must lead to
    "full disk": 2,
    "kill before": -signal.SIGKILL,
    "kill after": -signal.SIGKILL,
    "kill -9": -signal.SIGKILL,
    "Ctrl-C": 130,
    "clock goes backwards": 0,
}
KINDS = {
    "data": "images",
    "train": "trained",
    "compress": "compact",
    "export": "exported",
    "verify": "verdict",
    "bundle": "bundle",
}
STAGES = tuple(KINDS)
FREEING = ("unlink", "rmdir")  # operations that a full disk does not stop
ENTRY = "import sys; sys.argv[0] = 'bigstep'; from pipeline.cli import main; main()"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", "COLUMNS": "200"}


@dataclass(frozen=True)
class Fault:
    r"""Name what is done to a run: a mode of `faults.c`, and which operation it strikes, counted from 1.

    `only` is part of the line that names an operation, like `rename\trecords/`; empty counts all of them.
    """

    mode: str = "none"
    at: int = 0
    only: str = ""


@dataclass(frozen=True)
class Ended:
    """Hold how a victim ended: its exit code (or minus a signal), what it wrote, and its operations on files."""

    code: int
    err: str
    operations: list[tuple[str, str]]


class Victims:
    """Fork victims from a process that has everything imported. Needs a C compiler (`cc`)."""

    def __init__(self, work: Path) -> None:
        self.work = work
        library = work / "faults.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, HERE / "faults.c", "-ldl"], check=True)
        self.server = subprocess.Popen(
            [sys.executable, "-P", __file__, "--fork-victims"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**ONE_THREAD, "LD_PRELOAD": str(library)},
        )

    def run(self, arguments: list[str], folder: Path, fault: Fault = Fault()) -> Ended:
        """Run `bigstep ARGUMENTS` in a fork; operations below `folder` are counted."""
        log, err = self.work / "operations.log", self.work / "stderr.txt"
        log.write_text("")
        order = [arguments, str(folder.resolve()), str(log), str(err), MODES[fault.mode], fault.only, fault.at]
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        answer = self.server.stdout.readline()
        if not answer:
            raise RuntimeError("the process that forks victims has died")
        operations = [tuple(line.split("\t", 1)) for line in log.read_text().splitlines()]
        return Ended(int(answer), err.read_text(errors="replace"), operations)

    def close(self) -> None:
        """End the forking process."""
        self.server.communicate()


def fork_victims() -> None:
    """Be the process that forks: one line of JSON in, one exit code out."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # with one core training starts no processes
    import compress.stage
    import data.stage
    import export.stage
    import train.stage
    import verify.report.page
    import verify.stage

    assert all((data.stage, train.stage, compress.stage, export.stage, verify.stage, verify.report.page))
    arm = ctypes.CDLL(None).faults_arm
    arm.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_long]
    for line in sys.stdin:
        arguments, folder, log, err, mode, only, at = json.loads(line)
        child = os.fork()
        if not child:
            _be_victim(arguments, Path(err), lambda: arm(folder.encode(), log.encode(), mode, only.encode(), at))  # noqa: B023
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _be_victim(arguments: list[str], err: Path, arm: Callable[[], None]) -> None:
    from pipeline.cli import main

    with err.open("wb") as file:
        os.dup2(file.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    sys.argv = ["bigstep", *arguments]
    code = 4
    try:
        arm()
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(code)


# ---- What must hold --------------------------------------------------------------------------------------------------


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every record of a run folder by its kind, and of the bundle."""
    from bigstep.records.sealed import read_manifest

    found = {path.name.rpartition("-")[0]: path for path in (folder / "records").iterdir()}
    return {kind: read_manifest(path).digest for kind, path in {**found, "bundle": folder / "bundle"}.items()}


def check_whole(folder: Path) -> None:
    """Read every record, key and bundle that is in its place; whatever is wrong raises."""
    from bigstep.records.sealed import check_file, read_manifest

    places = [path for path in folder.glob("records/*") if not path.name.startswith(".")]
    places += [path for path in folder.glob("bundles/*") if not path.name.startswith(".")]
    assert (folder / "bundle").exists() or not os.path.lexists(folder / "bundle"), "a link to nothing"
    for place in places:
        for name, entry in read_manifest(place).files.items():
            check_file(place / name, entry)
    for key in folder.glob("keys/*.json"):
        json.loads(key.read_bytes())


def without(base: Path, stage: str, place: Path) -> Path:
    """Copy a finished run folder without what one stage made, so that only this stage has to be run again."""
    shutil.copytree(base, place, symlinks=True)
    kind = KINDS[stage]
    for record in (place / "records").glob(f"{kind}-*"):
        shutil.rmtree(record)
    for key in (place / "keys").iterdir():
        if json.loads(key.read_bytes())["record"].startswith(f"{kind}-"):
            key.unlink()
    if stage == "bundle":
        (place / "bundle").unlink()
        shutil.rmtree(place / "bundles")
    shutil.rmtree(place / "partial")
    return place


def stage_of(operations: list[tuple[str, str]]) -> str:
    """Return the stage that the last operation belongs to: what a stage publishes belongs to it."""
    begun = [path.split("/")[1].split("-")[0] for _, path in operations if path.startswith("partial/")]
    return begun[-1] if begun else "start"


def plain(path: str) -> str:
    """Shorten the hashes in a path, and the random part of temporary names."""
    words = [w[:8] if len(w) > 40 and "-" not in w else w for w in path.split("/")]
    return "/".join(
        ".tmp*" if w.startswith(".tmp") else w.rpartition("-")[0] if len(w) > 18 and "-" in w else w for w in words
    )


@dataclass(frozen=True)
class Row:
    """Report one fault: where it struck, how the run ended, and how the same command ended afterwards."""

    fault: str
    stage: str
    moment: str
    ended: int
    says: str
    again: int
    same_digests: bool

    @property
    def held(self) -> bool:
        """Say whether everything was as it must be."""
        told = self.fault != "full disk" or "disk is full" in self.says or "No space left" in self.says
        return self.ended == ENDS[self.fault] and told and self.again == 0 and self.same_digests


def strike(victims: Victims, toml: Path, base: Path, stage: str, fault: Fault) -> Row | None:
    """Let one fault strike one stage of a run, and run the same command again.

    Args:
        base: a finished run folder of the same configuration; it is copied.

    Returns:
        None if the stage ended before the fault could strike.
    """
    folder = victims.work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    without(base, stage, folder)
    command = ["run", str(toml), "--run-dir", str(folder)]
    first = victims.run(command, folder, fault)
    hits = [n for n, line in enumerate(first.operations) if fault.only in "\t".join(line)]
    if len(hits) < fault.at:
        return None
    reached = first.operations[: hits[fault.at - 1] + 1]
    if stage_of(reached) not in (stage, "start"):
        return None
    check_whole(folder)
    again = victims.run(command, folder)
    same = again.code == 0 and digests(folder) == digests(base)
    operation, path = reached[-1]
    moment = f"operation {len(reached)}, {operation} {plain(path)}"
    return Row(fault.mode, stage, moment, first.code, _error(first.err), again.code, same)


def operations_of(victims: Victims, toml: Path, base: Path, stage: str) -> list[tuple[str, str]]:
    """Return what a stage does to its run folder, in order, up to its last operation."""
    folder = victims.work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    without(base, stage, folder)
    found = victims.run(["run", str(toml), "--run-dir", str(folder)], folder).operations
    last = max(k for k in range(len(found)) if stage_of(found[: k + 1]) in (stage, "start"))
    return found[: last + 1]


def publishes(operation: tuple[str, str]) -> bool:
    """Say whether an operation puts something into its final place, or seals it."""
    kind, path = operation
    return not path.startswith("partial/") or path.endswith("manifest.json") or kind == "rename"


def _error(err: str) -> str:
    """Return the message at the end of what a command wrote, on one line; empty if it wrote none."""
    _, found, message = err.rpartition("error: ")
    return re.sub(r"\S*/run(?=[/:\s])", "RUN", " ".join(message.split())) if found else ""


def at_random(toml: Path, base: Path, work: Path, seed: int) -> Iterator[Row]:
    """Kill or interrupt real runs, whole processes with their workers, at random moments inside every stage."""
    rng = random.Random(seed)
    lasts = _durations(toml, work / "timed")
    moments = [(fault, stage) for fault, number in RANDOM.items() for stage, n in number.items() for _ in range(n)]
    for fault, stage in moments:
        folder, struck = work / "struck", None
        while struck is None:  # a run that was faster than the timed one has ended before it could be struck
            struck = _strike_at(fault, stage, rng.uniform(0.0, lasts[stage]), toml, folder)
        moment_s, code = struck
        check_whole(folder)
        again = subprocess.run(_command(toml, folder), env=ONE_THREAD, capture_output=True, check=False)
        same = again.returncode == 0 and digests(folder) == digests(base)
        moment = f"{moment_s:.2f} s after its start, of {lasts[stage]:.2f} s"
        yield Row(fault, stage, moment, code, "", again.returncode, same)


def _strike_at(fault: str, stage: str, wait_s: float, toml: Path, folder: Path) -> tuple[float, int] | None:
    """Start a run, wait for a stage and a moment in it, and strike; None if the run has ended before."""
    shutil.rmtree(folder, ignore_errors=True)
    child = _start(toml, folder)
    assert child.stderr
    for line in child.stderr:
        if line.startswith(f"{stage}: running"):
            break
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=wait_s)
    if child.poll() is not None:
        child.communicate()
        return None
    if fault == "Ctrl-C":
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does, workers included
    else:
        child.kill()
    child.communicate()
    return wait_s, child.returncode


def clock(victims: Victims, toml: Path, base: Path) -> Row:
    """Run everything while the clock of the day goes back by a second whenever it is read."""
    folder = victims.work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    ended = victims.run(["run", str(toml), "--run-dir", str(folder)], folder, Fault("clock goes backwards"))
    again = victims.run(["run", str(toml), "--run-dir", str(folder)], folder)
    same = again.code == 0 and digests(folder) == digests(base)
    return Row("clock goes backwards", "all", "from the first line on", ended.code, _error(ended.err), again.code, same)


def _command(toml: Path, folder: Path) -> list[str]:
    return [sys.executable, "-P", "-c", ENTRY, "run", str(toml), "--run-dir", str(folder)]


def _start(toml: Path, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command(toml, folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ONE_THREAD,
        start_new_session=True,
    )


def _durations(toml: Path, folder: Path) -> dict[str, float]:
    """Time the stages of an undisturbed run; the last one lasts until the process ends."""
    begin, starts = time.monotonic(), {}
    child = _start(toml, folder)
    assert child.stderr
    for line in child.stderr:
        for stage in STAGES:
            if line.startswith(f"{stage}: running"):
                starts[stage] = time.monotonic() - begin
    child.wait()
    ends = [*list(starts.values())[1:], time.monotonic() - begin]
    return {stage: end - start for (stage, start), end in zip(starts.items(), ends, strict=True)}


# ---- The long form ---------------------------------------------------------------------------------------------------

FIRST = ("lock", "config.toml")  # what every run begins with: struck with the first stage alone
COARSE = 15  # every so many operations of all stages are struck before the others
RANDOM = {  # how often in which stage
    "kill -9": {"data": 2, "train": 6, "compress": 5, "export": 3, "verify": 2, "bundle": 2},
    "Ctrl-C": {"train": 2, "compress": 1, "export": 1, "verify": 1},
}
SMALL = """name = "small"
device = "cpu"
[train]
widths = [24, 24]
min_rate = 0.05
max_rate = 0.2
num_rates = 2
num_seeds = 1
stop_loss = 0.3
max_steps = 250
baseline_max_steps = 250
[compress]
keep_fractions = [0.5]
fine_tune_steps = 100
calibration_images = 64
"""


def main() -> None:
    """Let every fault strike, and write `<results>.json` and `<results>.md`; exit with 1 if anything was not held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=HERE / "results" / "faults")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--fork-victims", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fork_victims:
        fork_victims()
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start this in the background, deaf to it
    rows = []
    with tempfile.TemporaryDirectory(prefix="bigstep-faults-") as name:
        work = Path(name)
        toml, base = work / "small.toml", work / "base"
        toml.write_text(SMALL)
        victims = Victims(work)
        try:
            undisturbed = victims.run(["run", str(toml), "--run-dir", str(base)], base)
            assert undisturbed.code == 0, undisturbed.err
            for row in itertools.chain(
                at_random(toml, base, work, given.seed),
                [clock(victims, toml, base)],
                at_operations(victims, toml, base),
            ):
                rows.append(row)
                write_results(given.results, rows, given)  # after each: what is known stays, whatever ends this
                sys.stderr.write(f"{'held  ' if row.held else 'BROKEN'} {row.stage}: {row.fault}, {row.moment}\n")
        finally:
            victims.close()
    sys.exit(0 if all(row.held for row in rows) else 1)


def at_operations(victims: Victims, toml: Path, base: Path) -> Iterator[Row]:
    """Fill the disk at every write, and kill runs before and after all that publishes; a sample of all stages first."""
    faults = {stage: faults_of(operations_of(victims, toml, base, stage), stage) for stage in STAGES}
    sample = [(stage, fault) for stage in STAGES for fault in faults[stage][::COARSE]]
    rest = [(stage, fault) for stage in STAGES for k, fault in enumerate(faults[stage]) if k % COARSE]
    for stage, fault in [*sample, *rest]:
        row = strike(victims, toml, base, stage, fault)
        if row:
            yield row


def faults_of(operations: list[tuple[str, str]], stage: str) -> list[Fault]:
    """Return every fault that can strike at the operations of one stage."""
    struck = [op for op in operations if stage == STAGES[0] or op[1] not in FIRST]
    skipped = len(operations) - len(struck)
    before = sum(kind not in FREEING for kind, _ in operations[:skipped])
    writes = sum(kind not in FREEING for kind, _ in struck)
    publishing = [n for n, op in enumerate(struck, start=skipped + 1) if publishes(op)]
    found = [Fault("full disk", before + n) for n in range(1, writes + 1)]
    return found + [Fault(mode, n) for n in publishing for mode in ("kill before", "kill after")]


def write_results(results: Path, rows: list[Row], given: argparse.Namespace) -> None:
    """Write every row as JSON, and as Markdown a table of the random moments and counts of the others."""
    from machine import machine  # here: victims, and the tests, load this file without the folder of the scripts

    command = f".venv/bin/python benchmarks/faults.py --seed {given.seed}"
    found = {"command": command, "machine": machine(), "held": sum(row.held for row in rows), "of": len(rows)}
    content = {**found, "rows": [asdict(row) for row in rows]}
    results.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    results.with_suffix(".md").write_text(as_markdown(found, rows))


def as_markdown(found: dict[str, Any], rows: list[Row]) -> str:
    """Return the table that people read: moment, stage, result."""
    lines = ["# Faults", "", f"`{found['command']}`", ""]
    lines += [", ".join(f"{name} {value}" for name, value in found["machine"].items()) + ".", ""]
    lines += [f"**{found['held']} of {found['of']} faults ended as they must.** Each was followed by the same command,"]
    lines += ["which has to exit with 0 and to end in the digests of an undisturbed run.", ""]
    lines += [
        "| fault | stage | moment | exit | exit of the next run | same digests |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    chosen = [row for row in rows if "operation" not in row.moment or not row.held]
    lines += [
        f"| {r.fault} | {r.stage} | {r.moment} | {r.ended} | {r.again} | {'yes' if r.same_digests else 'NO'} |"
        for r in chosen
    ]
    lines += ["", "At counted operations on files (every one of them is in the JSON file):", ""]
    lines += ["| fault | stage | operations struck | held |", "| --- | --- | ---: | ---: |"]
    counted = [row for row in rows if "operation" in row.moment]
    for fault, stage in dict.fromkeys((row.fault, row.stage) for row in counted):
        some = [row.held for row in counted if (row.fault, row.stage) == (fault, stage)]
        lines.append(f"| {fault} | {stage} | {len(some)} | {sum(some)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
