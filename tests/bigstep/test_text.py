"""Text that comes from anywhere, made safe for XML and Markdown and kept readable."""

import pytest

from bigstep.text import fenced, format_bytes, format_rate, markdown, printable


def test_text_is_made_safe_and_kept_readable():
    assert printable("a\r\nb\rc\x85\x1b", 99) == "a\nb\nc\\x85\\x1b"
    assert printable("é 漢 😀", 99) == "é 漢 😀"
    assert printable("0123456789", 4) == "01 [... 6 characters left out ...] 89"
    assert markdown("    + a|b\n<i>") == "\\+ a\\|b &lt;i&gt;"
    assert fenced("a ```` b", 99, "sh") == "`````sh\na ```` b\n`````"


@pytest.mark.parametrize("text", ["- a", "+ a", "1. a", "23) a", "# a", "## a", "---"])
def test_what_would_start_a_block_is_escaped(text):
    assert markdown(text).replace("\\", "", 1) == text != markdown(text)


@pytest.mark.parametrize("number", ["0.5", "-0.5", "+1", "-30.0", "1e-05", "24.8 kB", "2.00x"])
def test_numbers_are_left_alone(number):
    assert markdown(number) == number


def test_sizes_and_rates_are_written_for_people():
    assert [format_bytes(size) for size in (999, 43_123, 1_326_324)] == ["999 B", "43.1 kB", "1.33 MB"]
    assert [format_rate(rate) for rate in (6000.4, 0.02781)] == ["6,000", "0.0278"]
