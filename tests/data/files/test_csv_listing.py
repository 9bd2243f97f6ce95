"""CSV files as spreadsheets and people write them, and what is said about those that cannot be read."""

import time

import pytest

from bigstep.errors import DataError
from data.files.csv_listing import read_csv, read_listing
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
        ("photo,kind\na.png,cat", "photo, kind"),
        ("x" * 200_000, "xxx"),
        ("path;kind\na.png;cat", "path, kind"),
        ("file,image,label\na.png,b.png,cat", "file, image, label"),
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
        ("path,label\nC:\\a.png,cat", "paths that lead out of the data folder (1)"),
        ("path,label\nx/../../a.png,cat", "paths that lead out of the data folder (1)"),
        ("path,label\na.png\0,cat", "paths that lead out of the data folder (1)"),
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
    table, found = read_csv(path)
    assert time.process_time() - start_s < 3
    assert len(table.rows) == 100_000 and table.lines[-1] == 100_001 and found == []


# ---- As pandas and other tools write them ----------------------------------------------------------------------------


def of_text(tmp_path, text, attributes=()):
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.png").touch()
    (tmp_path / "list.csv").write_text(text)
    listing = read_listing(tmp_path / "list.csv", attributes)
    return listing.rows, "\n".join(map(str, listing.findings))


@pytest.mark.parametrize("column", ["label", "hue"])
def test_whole_numbers_that_pandas_made_floats_are_the_same_values(tmp_path, column):
    """A column of whole numbers becomes one of floats as soon as one cell of it was empty."""
    other = "hue" if column == "label" else "label"
    text = f"path,{column},{other}\na.png,0,x\nb.png,0.0,x\nc.png,1.,x\nd.png,1.00,x"
    rows, findings = of_text(tmp_path, text, ("hue",))
    assert [row.label if column == "label" else row.bias[0] for row in rows] == ["0", "0", "1", "1"]
    assert f"note: values of {column} read as whole numbers (3): 0.0 as 0, 1. as 1, 1.00 as 1" in findings


@pytest.mark.parametrize("other", ["1.5", "v2.0", "two"])
def test_a_column_with_another_value_keeps_its_spellings(tmp_path, other):
    rows, findings = of_text(tmp_path, f"path,label\na.png,1.0\nb.png,2.0\nc.png,{other}")
    assert [row.label for row in rows] == ["1.0", "2.0", other] and not findings


@pytest.mark.parametrize("absent", ["nan", "NaN", "<NA>", "NaT", ""])
def test_a_missing_value_is_no_class_and_no_group(tmp_path, absent):
    rows, findings = of_text(tmp_path, f"path,label,hue\na.png,{absent},x\nb.png,1.0,{absent}\nc.png,0.0,y", ("hue",))
    assert [(row.label, row.bias) for row in rows] == [("0", ("y",))]
    assert "error: lines without a label (1): line 2" in findings
    assert "error: lines without a hue (1): line 3" in findings


@pytest.mark.parametrize("value", ["None", "NA", "n/a", "NULL", "?"])
def test_what_may_be_a_missing_value_or_a_class_is_a_warning(tmp_path, value):
    rows, findings = of_text(tmp_path, f"path,label\na.png,{value}\nb.png,cat")
    assert [row.label for row in rows] == [value, "cat"]
    assert f"warning: values of label that often stand for a missing one (1): {value}" in findings


def test_splits_that_are_floats_or_other_words_are_read(tmp_path):
    rows, findings = of_text(tmp_path, "path,label,split\na.png,x,0.0\nb.png,x,1.0\nc.png,x,2.0")
    assert [row.split for row in rows] == ["train", "validation", "test"] and not findings
    rows, findings = of_text(tmp_path, "path,label,split\na.png,x,Train_set\nb.png,x,eval\nc.png,x,test")
    assert [row.split for row in rows] == ["train", "validation", "test"]
    assert "note: values taken for a split by their names (2): Train_set for train, eval for validation" in findings


@pytest.mark.parametrize("header", ["filename,class", "Image Path,Target", "file_name;label", "Path,Label"])
def test_columns_may_have_other_usual_names(tmp_path, header):
    separator = ";" if ";" in header else ","
    rows, findings = of_text(tmp_path, f"{header}\na.png{separator}cat")
    assert [(row.path, row.label) for row in rows] == [("a.png", "cat")]
    assert "note: columns taken for path or label by their names" in findings


def test_the_right_name_comes_before_another_usual_one(tmp_path):
    rows, findings = of_text(tmp_path, "path,file,class,label\na.png,x,y,cat")
    assert [(row.path, row.label) for row in rows] == [("a.png", "cat")] and not findings


def test_paths_as_other_systems_and_folders_have_them_are_read(tmp_path):
    """With Windows' separators, absolute below the folder, or from the folder above, as `ls photos/*` gives them."""
    (tmp_path / "ïm").mkdir()
    (tmp_path / "ïm" / "x.png").touch()
    (tmp_path / "im\\y.png").touch()
    own = tmp_path.name
    lines = [
        "ïm\\x.png,cat",
        f"{tmp_path}/a.png,dog",
        "im\\y.png,eel",
        "..\\b.png,fox",
        f"{own}/c.png,gnu",
        f"{own}/no.png,hen",
    ]
    rows, findings = of_text(tmp_path, "\n".join(["path,label", *lines]))
    assert [(row.path, row.label) for row in rows] == [
        ("a.png", "dog"),
        ("c.png", "gnu"),
        ("im\\y.png", "eel"),
        ("ïm/x.png", "cat"),
    ]
    assert "error: paths that lead out of the data folder (1): ..\\b.png" in findings
    assert f"error: images that are missing, or are not files (1): {own}/no.png" in findings
    read_as = f"ïm\\x.png as ïm/x.png, {own}/c.png as c.png"
    assert f"note: paths read otherwise than they are written (2): {read_as}" in findings
