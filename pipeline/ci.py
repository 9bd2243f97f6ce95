"""What a CI job reads in the run folder: `junit.xml`, and `summary.md` for the page of the job."""

import logging
from contextlib import suppress
from pathlib import Path

from bigstep.records.sealed import replace_file
from verify.report import job_summary, junit
from verify.report.run_outcome import RunOutcome

log = logging.getLogger("bigstep")
JUNIT, SUMMARY = "junit.xml", "summary.md"
REPORTS = ("report.html", "report.md")  # copies: the bundle keeps its own


def remove(folder: Path, *, reports: bool) -> None:
    """Remove what an earlier run wrote, so that a run that is killed leaves no green result behind.

    Args:
        reports: also the copies of the report, because this run draws it again if it ends well.
    """
    for name in (JUNIT, SUMMARY, *(REPORTS if reports else ())):
        (folder / name).unlink(missing_ok=True)


def write(folder: Path, outcome: RunOutcome) -> None:
    """Write both files, each at once: whoever reads finds a whole file or none.

    Raises:
        OSError: a file cannot be written, and the run had no error of its own, which would matter more.
    """
    for name, content in {
        JUNIT: junit.document(outcome),
        SUMMARY: job_summary.document(outcome, folder).encode("utf-8"),
    }.items():
        try:
            replace_file(folder / name, content)
        except OSError as error:
            with suppress(OSError):  # the result of an earlier run must not stand for this one
                (folder / name).unlink()
            if outcome.error is None:
                raise
            log.warning("%s cannot be written: %s", folder / name, error.strerror or error)
