"""CSV files as spreadsheets and people write them, and what is said about those that cannot be read."""

import time

import pytest

from bigstep.errors import DataError
from data.files.csv_listing import read_listing, read_table
from data.files.findings import report

PLAIN = "path,label,hue\na.png,cat,red\nb.png,dog,blue\n"


@pytest.fixture
def listed(tmp_path):
    """Return a function that writes a CSV file beside images a.png and b.png, and lists it."""
    for name in ("a.png", "b.png", "a, b.png"):
        (tmp_path / name).write_bytes(b"")

    def write(content, attributes=("hue",)):
        (tmp_path / "list.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_listing(tmp_path / "list.csv", attributes)

    return write


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace("\n", "\n\n,,\n"),
        "\n\n" + PLAIN.rstrip(),
        "hue,path,label\nred,a.png,cat\nblue,b.png,dog",
        '"path","label","hue"\n"a.png","cat","red"\n"b.png",dog,blue',
        ' \npath, "label",hue\na.png,"cat",red\n  \nb.png, dog,blue',
        "path , label,hue \na.png, cat ,red\nb.png,dog,  blue",
        "path,label,hue,other\na.png,cat,red,\nb.png,dog,blue,x",
    ],
)
def test_every_dialect_gives_the_same_rows(listed, content):
    listing = listed(content)
    assert [(row.path, row.label, row.bias) for row in listing.rows] == [
        ("a.png", "cat", ("red",)),
        ("b.png", "dog", ("blue",)),
    ]
    assert listing.findings == [] and listing.attributes == ("hue",)


def test_quoted_cells_may_hold_the_separator(listed):
    assert [row.path for row in listed('path,label\n"a, b.png","x, ""y"""\n', ()).rows] == ["a, b.png"]
    assert listed('path,label\n"a, b.png","x, ""y"""\n', ()).rows[0].label == 'x, "y"'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"path,label\na.png,caf\xe9", "byte 0xe9 in line 2"),
        (PLAIN.encode("utf-16"), "UTF-16"),
        ("", "an empty file"),
        ("\n\n", "an empty file"),
        ("file,class\na.png,cat", "file, class"),
        ("x" * 200_000, "xxx"),
        ("path;class\na.png;cat", "path, class"),
        ('path,label\n"a.png,cat\nb.png,dog\n', "at line 3"),
        ('path,label\n"a".png,cat\n', "at line 2"),
        ("path,label\n" + "x" * 200_000 + ",cat\n", "field larger than field limit"),
    ],
)
def test_what_is_no_csv_file_is_refused_with_the_reason(listed, content, says):
    with pytest.raises(DataError, match="list") as caught:
        listed(content)
    assert says in str(caught.value) and caught.value.do


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("TRAIN", "train"),
        ("0", "train"),
        ("val", "validation"),
        ("dev", "validation"),
        ("1", "validation"),
        ("Validation", "validation"),
        ("2", "test"),
        (" test ", "test"),
    ],
)
def test_splits_have_several_names(listed, word, split):
    assert listed(f"path,label,split\na.png,cat,{word}", ()).rows[0].split == split


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("path,label,split\na.png,cat,later\nb.png,dog,", "values of the column split that are unknown (2): '', later"),
        ("path,label,split\n", ""),
        ("path,label,label\na.png,cat,dog", "columns that occur twice (1): label"),
        ("path,label,other,other\na.png,cat,x,y", ""),
        ("path,label\n,cat", "lines without a path (1): line 2"),
        ("path,label\nC:\\a.png,cat", "absolute or lead out of the data folder (1)"),
        ("path,label\nx/../../a.png,cat", "absolute or lead out of the data folder (1)"),
        ("path,label\na.png\0,cat", "absolute or lead out of the data folder (1)"),
        ("path,label\na:b.png,cat", "missing, or are not files (1): a:b.png"),
        ("path,label\n" + "x" * 5000 + ",cat", "missing, or are not files (1): xxx"),
        ("path,label\n.,cat", "missing, or are not files (1): ."),
    ],
)
def test_rows_that_cannot_be_used_are_found(listed, content, says):
    found = report(listed(content, ()).findings)
    assert len(found) == bool(says) and all(says in line and line.startswith("error") for line in found)


def test_a_bias_column_named_twice_is_found(listed):
    assert "columns named twice in data.bias (1): hue" in str(report(listed(PLAIN, ("hue", "hue")).findings))


def test_a_link_to_a_folder_outside_is_no_way_out(listed, tmp_path):
    (tmp_path.parent / "secret").mkdir(exist_ok=True)
    (tmp_path.parent / "secret" / "s.png").write_bytes(b"")
    (tmp_path / "way").symlink_to(tmp_path.parent / "secret")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "up").symlink_to(tmp_path)
    listing = listed("path,label\nway/s.png,cat\ndeep/up/a.png,cat\ndeep/up/../a.png,dog", ())
    assert [row.path for row in listing.rows] == ["deep/up/a.png"]
    assert [list(finding.concerns) for finding in listing.findings] == [["way/s.png"], ["deep/up/../a.png"]]


def test_dots_in_a_path_are_resolved_by_its_text(listed, tmp_path):
    (tmp_path / "deep").mkdir()
    assert [row.path for row in listed("path,label\n./deep/../a.png,cat", ()).rows] == ["a.png"]


def test_a_hundred_thousand_lines_are_parsed_in_seconds(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("path,label,hue\n" + "".join(f"im/{k}.png,{k % 10},{k % 3}\n" for k in range(100_000)))
    start_s = time.process_time()
    table, found = read_table(path)
    assert time.process_time() - start_s < 3
    assert len(table.rows) == 100_000 and table.lines[-1] == 100_001 and found == []
