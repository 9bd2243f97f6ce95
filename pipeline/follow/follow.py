"""Follow the training of a run folder while another process works in it: `bigstep follow`."""

import time

from bigstep.lock import held
from bigstep.terminal import Terminal
from pipeline.follow.place import Place, find
from pipeline.follow.view import JsonLines, Lines, Screen, View

POLL_SECONDS = 0.5


def follow(source: str, *, once: bool, as_json: bool) -> None:
    """Show the measurements of a run until it ends, or its present state.

    Args:
        source: a run folder, the folder of one training or trial in it, or the log of one trial.
        once: show what there is, and return.
        as_json: print one line of JSON for each measurement.

    Raises:
        ConfigError: there is nothing of that kind.
    """
    place, terminal = find(source), Terminal()
    if as_json:
        _follow(place, JsonLines(), once=once)
    elif once or not terminal.is_live:
        _follow(place, Lines(terminal), once=once)
    else:
        with Screen(terminal) as screen:
            _follow(place, screen, once=once)


def _follow(place: Place, view: View, *, once: bool) -> None:
    while not once and place.run and held(place.run):
        view.show(place.look())
        time.sleep(POLL_SECONDS)
    view.end(place.look())
