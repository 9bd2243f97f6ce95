"""The errors a user can cause. Everything else that is raised is a bug in bigstep (exit code 4).

BigstepError          exit 2   the user can mend it; the message says how
+-- ConfigError                configuration or command line
+-- DataError                  images or labels
+-- TrainError                 training cannot go on (every rate diverges, weights are not finite)
+-- CompressError              pruning or quantisation cannot go on
+-- ExportError                an ONNX file cannot be written, or differs from the one that was judged
+-- RecordError                a published file is missing, truncated, altered or of an unknown format
+-- NoVerdict         exit 1   bytes without a passing verdict were offered to the server
"""


class BigstepError(Exception):
    """A mistake that the user can mend: what failed, what was found, what was expected, what to do.

    Args:
        what: what failed, as a sentence without a full stop.
        got: what was found.
        expected: what would have been right.
        do: the command or the edit that mends it.
    """

    exit_code = 2

    def __init__(self, what: str, *, got: object = None, expected: object = None, do: str | None = None) -> None:
        self.what, self.got, self.expected, self.do = what, got, expected, do
        said = {"got": got, "expected": expected, "to do": do}
        self.details = {name: f"{text}" for name, text in said.items() if text is not None}
        super().__init__("\n".join([what, *(f"  {name + ':':<9} {text}" for name, text in self.details.items())]))


class ConfigError(BigstepError):
    """A wrong configuration or command line."""


class DataError(BigstepError):
    """Images or labels that cannot be used."""


class TrainError(BigstepError):
    """A training that cannot go on."""


class CompressError(BigstepError):
    """A pruning or quantisation that cannot go on."""


class ExportError(BigstepError):
    """An ONNX file that cannot be written or is not the one that was judged."""


class RecordError(BigstepError):
    """A published file that is missing, truncated, altered or of an unknown format."""


class NoVerdict(BigstepError):
    """Bytes that carry no passing verdict."""

    exit_code = 1
