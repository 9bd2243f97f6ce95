"""Where a training lies while it goes on, and what can be read of it now.

Files appear, move and vanish meanwhile: what cannot be read now is read the next time. An attempt at a trial works in
`work/<name>~<random>/` and ends in `trials/<name>/`, both in `partial/train-<key>/` of the run folder, and then in
`records/trained-<digest>/`.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from pydantic import ValidationError

from bigstep.errors import ConfigError
from bigstep.records.sealed import WORK
from bigstep.records.trained import LOG, UNFINISHED, Moment, Trial, read_log

TRIALS = "trials"


@dataclass(frozen=True)
class Course:
    """One trial so far; `trial` is None until it has ended."""

    name: str
    moments: list[Moment]
    trial: Trial | None

    @property
    def alarms(self) -> list[str]:
        """Return the sentences of all alarms so far."""
        return [says for moment in self.moments for says in moment.alarms.values()]

    @property
    def reach(self) -> tuple[bool, int]:
        """Return how far it is: of several attempts at one trial, those that were left behind are not shown."""
        over = self.trial is not None and self.trial.status not in UNFINISHED
        return over, self.moments[-1].step if self.moments else -1


@final
@dataclass
class Place:
    """Where to look: the newest training of `run`, or one `training`, or one trial in it."""

    run: Path | None
    training: Path | None = None
    only: str | None = None
    _kept: dict[Path, tuple[tuple[int, int], Course]] = field(default_factory=dict)

    def look(self) -> list[Course]:
        """Return every trial of the training, by name; one that goes on after it had stopped is at work again."""
        folder = self.folder()
        if folder is None:
            return []
        found: dict[str, Course] = {}
        for place in [*_inside(folder / TRIALS), *_inside(folder / WORK)]:
            course = self._read(place, ended=place.parent.name != WORK)
            if self.only in (None, course.name) and course.reach >= found.get(course.name, course).reach:
                found[course.name] = course
        return [found[name] for name in sorted(found)]

    def folder(self) -> Path | None:
        """Return the folder of the training, None if there is none yet."""
        if self.training and self.training.is_dir():
            return self.training
        if self.run is None:
            return None
        found = [*self.run.glob("partial/train-*"), *self.run.glob("records/trained-*")]
        return max(found, key=_touched_ns, default=None)

    def _read(self, folder: Path, *, ended: bool) -> Course:
        """Read one trial again if its log has grown or it has ended since."""
        log, report = folder / LOG, folder / "trial.json"
        stamp = (_stat(log, "st_size"), _stat(report, "st_size"))
        if folder not in self._kept or self._kept[folder][0] != stamp:
            trial = None
            with suppress(OSError, ValidationError):
                trial = Trial.model_validate_json(report.read_bytes()) if ended else None
            self._kept[folder] = stamp, Course(_trial(folder), read_log(log), trial)
        return self._kept[folder][1]


def find(source: str) -> Place:
    """Return what a user names: a run folder, the folder of one training, or of one trial, or its log.

    Raises:
        ConfigError: there is nothing of that kind.
    """
    if "://" in source:
        do = f"curl {source.rstrip('/')}/metrics shows what a server counts"
        raise ConfigError("bigstep follow follows a training, not a server", got=source, do=do)
    path = Path(source)
    folder = (path.parent if path.name == LOG else path).absolute()
    do = "name a run folder, like runs/digits, or the log.jsonl of one trial"
    if not path.exists():
        raise ConfigError(f"{path} cannot be followed", got="no such file or folder", do=do)
    run = next((p for p in [folder, *folder.parents] if (p / "lock").is_file()), None)
    if run == folder:
        return Place(run)
    if (folder / LOG).is_file() or (folder / "trial.json").is_file():
        return Place(run, training=folder.parent.parent, only=_trial(folder))
    if (folder / WORK).is_dir() or (folder / TRIALS).is_dir():
        return Place(run, training=folder)
    raise ConfigError(f"{path} cannot be followed", got="no training in it", do=do)


def _trial(folder: Path) -> str:
    return folder.name.partition("~")[0]


def _inside(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return []


def _touched_ns(training: Path) -> int:
    """Return when a training was last at work: folders change when trials begin and end, logs with every epoch."""
    folders = [training, training / TRIALS, *_inside(training / WORK)]
    return max(_stat(path, "st_mtime_ns") for path in [*folders, *(f / LOG for f in folders)])


def _stat(path: Path, what: str) -> int:
    try:
        return int(getattr(path.stat(), what))
    except OSError:
        return -1
