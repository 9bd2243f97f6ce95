"""Text for people: made safe for XML and Markdown, since names and messages come from anywhere; sizes and rates."""

import re

# What XML 1.0 cannot hold (section 2.2), and control characters that it can but that no reader shows.
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPECIAL = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\t": " "} | {c: f"\\{c}" for c in "\\|*_`[]~$"}
)
_BLOCK_START = re.compile(r"^(\d*)([-+#.)])(?!\d)")  # but -0.5 starts no block


def printable(text: str, most: int) -> str:
    r"""Return text with control characters and lone surrogates spelled out, like `\x1b`, for XML 1.0 and UTF-8.

    Lines end with a line feed. Text longer than `most` characters loses its middle, with a mark that says how much.
    """
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]} [... {len(text) - 2 * half:,} characters left out ...] {text[len(text) - half :]}"
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), lines)


def markdown(text: str, most: int = 1000) -> str:
    """Return text that GitHub-flavoured Markdown shows as it is, in a sentence, a list item or a cell of a table."""
    return _BLOCK_START.sub(r"\1\\\2", printable(text, most).translate(_SPECIAL).strip())


def fenced(text: str, most: int, language: str = "text") -> str:
    """Return a block of code, in a fence longer than any run of backticks in the text."""
    inside = printable(text, most)
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", inside))])
    return f"{fence}{language}\n{inside}\n{fence}"


def format_bytes(size: float) -> str:
    """Write a size in units of 1000 bytes, like `43.1 kB`."""
    if size < 1000:
        return f"{size:.0f} B"
    return f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.2f} MB"


def format_rate(images_per_s: float) -> str:
    """Write images per second in whole numbers, and with three digits where there are few."""
    return f"{images_per_s:,.0f}" if images_per_s >= 100 else f"{images_per_s:.3g}"
