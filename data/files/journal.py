"""A list of what is done already, which a killed process leaves readable: one JSON value a line, appended."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """A file of JSON values, one a line, that is appended to; a line that was cut short is passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> Iterator[Any]:
        """Yield every value that was written whole, in order; none if there is no file."""
        if not self.path.exists():
            return
        with self.path.open(encoding="ascii", errors="replace") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:  # the last line of a killed process, or the empty first one of the next
                    continue

    def append(self, *values: Any) -> None:
        """Write values behind the others, and hand them to the operating system."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="ascii") as file:  # the file may end within a line: begin a new one
            file.write("\n" + "\n".join(map(json.dumps, values)))
            file.write("\n")
