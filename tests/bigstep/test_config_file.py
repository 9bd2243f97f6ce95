"""The configuration: presets, files, overrides, and messages that help."""

import math
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigstep.config import Config, Section, num_fields
from bigstep.config_file import PRESETS, load, name_of, to_toml
from bigstep.errors import ConfigError
from bigstep.records.architecture import Family

# Surrogates alone are no text; "=" and "," divide the terms of a group's name.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="=,"), min_size=1, max_size=8)
TERM = st.tuples(TEXT, TEXT).map("=".join)
GROUP = st.sampled_from(["all", "aligned", "conflicting"]) | st.lists(TERM, min_size=1, max_size=2).map(",".join)
SHARE = st.floats(0.0, 1.0)
COUNT = st.integers(1, 10**9)
POSITIVE = st.floats(0.0, exclude_min=True, allow_infinity=False)
SHARES_TO_KEEP = st.sets(st.floats(1e-9, 0.999), min_size=1, max_size=4).map(lambda s: sorted(s, reverse=True))
OVERRIDES = {
    "data": {"seed": st.integers(0, 2**40), "conflicting": st.floats(0.0, 0.8)},
    "train": {
        "network": st.sampled_from(["mlp", "cnn"]),
        "widths": st.none() | st.lists(COUNT, min_size=1, max_size=4),
        "weights": st.none() | TEXT,
        "max_rate": st.floats(2.0, 1e300),
        "num_seeds": COUNT,
        "stop_loss": POSITIVE,
        "priority": st.sampled_from(["robust", "small", "balanced"]),
        "momentum": st.floats(0.0, 0.999),
        "l1": st.floats(0.0, 1.0),
    },
    "compress": {
        "keep_fractions": SHARES_TO_KEEP,
        "margin": SHARE,
        "fine_tune_steps": st.integers(0, 10**6),
        "target_cpu": st.sampled_from(["generic", "vnni"]),
    },
    "export": {"fp32_tolerance": POSITIVE, "int8_agreement": SHARE},
    "verify": {
        "groups": st.lists(GROUP, min_size=1, max_size=3),
        "confidence": st.floats(0.5, 1.0, exclude_min=True, exclude_max=True),
        "floor": st.none() | SHARE,
        "max_p99_ms": st.none() | POSITIVE,
        "min_images_per_s": st.none() | POSITIVE,
    },
}
CONFIGS = st.fixed_dictionaries(
    {"name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)},
    optional={name: st.fixed_dictionaries({}, optional=leaves) for name, leaves in OVERRIDES.items()},
)


def leaves(section=Config, path=""):
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from leaves(kind, f"{path}{name}.")
        else:
            yield f"{path}{name}", field


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_valid_and_survives_toml(tmp_path, preset):
    config = PRESETS[preset]()
    assert config.name == preset
    assert Config.model_validate(config.model_dump()) == config  # model_copy checks nothing
    path = tmp_path / "other-name.toml"
    path.write_text(to_toml(config))
    assert load(str(path)) == config == load(preset)


@settings(max_examples=60, deadline=None)
@given(values=CONFIGS)
def test_any_configuration_survives_toml(values):
    config = Config.model_validate(values)
    text = to_toml(config)
    assert Config.model_validate(tomllib.loads(text)) == config


def test_the_written_file_explains_every_key():
    lines = to_toml(PRESETS["digits"]()).splitlines()
    for path, field in leaves():
        assert field.description and len(field.description) > 8, f"{path} has no description"
        at = lines.index(f"# {field.description}")
        assert lines[at + 1].removeprefix("# ").startswith(f"{path.rpartition('.')[2]} =")
    assert len(list(leaves())) == num_fields() - 1, "data.plant is one key and holds two fields"
    assert max(map(len, lines)) <= 120


def test_a_file_is_named_after_itself_unless_it_says_otherwise(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[train]\nnum_rates = 4\n")
    assert load(str(path)) == Config(name="mine").model_copy(
        update={"train": Config().train.model_copy(update={"num_rates": 4})}
    )
    path.write_text('name = "other"\n')
    assert load(str(path)).name == "other"


@pytest.mark.parametrize(
    "stem", ["my run", "größe", "日本", "e\u0301t\u00e9", " tiny ", "tiny!", "---", "\udce9", "a\nb", "\U0001d4cd"]
)
def test_any_file_name_gives_a_name_of_its_own(tmp_path, stem):
    path = tmp_path / f"{stem}.toml"
    path.write_text("[train]\nnum_rates = 4\n")
    name = load(str(path)).name
    assert name == name_of(path) and name not in PRESETS
    others = [
        name_of(Path(f"{other}.toml")) for other in ("e", "x", "gro-e", "grosse", "ete", "本日", "été!", "a", "run")
    ]
    assert name not in others and name_of(Path(f"{name}.toml")) == name


def test_one_file_name_has_one_name_however_it_is_encoded():
    """macOS takes the accents of a file name apart."""
    assert name_of(Path("e\u0301t\u00e9.toml")) == name_of(Path("\u00e9t\u00e9.toml"))


def test_a_mark_of_the_encoding_is_read(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf[train]\r\nnum_rates = 4\r\n")
    assert load(str(path)).train.num_rates == 4
    path.write_bytes("[train]\r\n".encode("utf-16"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load(str(path))


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("train.num_seeds=3", "train", "num_seeds", 3),
        ("train.widths=[4,5]", "train", "widths", (4, 5)),
        ("train.network=cnn", "train", "network", "cnn"),
        ("train.network='cnn'", "train", "network", "cnn"),
        ("train.network=my/net.py:make", "train", "network", "my/net.py:make"),
        (" train.stop_loss = 0.25", "train", "stop_loss", 0.25),
        ('verify.groups=["label=3,colour=lime"]', "verify", "groups", ("label=3,colour=lime",)),
        ("verify.floor=0.5", "verify", "floor", 0.5),
        ("verify.max_p99_ms=2.5", "verify", "max_p99_ms", 2.5),
        ("verify.min_images_per_s=1000", "verify", "min_images_per_s", 1000.0),
    ],
)
def test_overrides_are_read_as_toml_or_text(override, section, key, value):
    assert getattr(getattr(load("tiny", [override]), section), key) == value


def test_later_overrides_win_and_reach_the_top_level():
    config = load("tiny", ["name=first", "name=second", "device=cpu"])
    assert (config.name, config.device) == ("second", "cpu")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.watch_steps=3", ["'train.watch_steps' has another name now", "call it 'train.observe_steps'"]),
        ('data.plant={kind="tint",rho=0.05}', ["'data.plant.rho'", "call it 'data.plant.conflicting'"]),
        ('data.plant={kind="tint",conflictin=0.05}', ["'data.plant.conflictin'", "did you mean 'conflicting'?"]),
        ("train.num_rate=3", ["'train.num_rate'", "did you mean 'num_rates'?"]),
        ("trian.num_rates=3", ["'trian'", "did you mean 'train'?"]),
        ("train.zzz=3", ["'train.zzz'", "known keys:", "widths"]),
        ("colour=red", ["'colour'", "known keys:", "device"]),
        ("=3", ["unknown key ''"]),
        ("train.num_rates", ["section.key=value", "got:      train.num_rates", "--set train.num_seeds=1"]),
        ("train=3", ["train is not valid", "got:      3", "a section, like [train]"]),
        ("train.widths.x=3", ["widths is not a section"]),
        ("verify.floor.x=3", ["floor is not a section"]),
        ("train.num_rates=three", ["train.num_rates", "got:      'three'", "valid integer"]),
        ("train.num_rates=1.5", ["train.num_rates", "got:      1.5", "integer"]),
        ("train.num_rates=0", ["train.num_rates", "got:      0", "greater than or equal to 1"]),
        ("train.widths=[]", ["train.widths", "at least 1 item"]),
        ("train.widths=[8,0]", ["train.widths.1", "greater than or equal to 1"]),
        ("train.network=vit", ["train.network", "got:      'vit'", "path/to/net.py:function"]),
        ("train.network=swin_t,train.widths=[8]", ["train.network", "got:      'swin_t,train.widths=[8]'"]),
        ("train.max_rate=inf", ["train.max_rate", "finite"]),
        ("train.stop_loss=nan", ["train.stop_loss", "finite"]),
        ("train.stop_loss=0.0", ["train.stop_loss", "greater than 0"]),
        ("train.min_rate=2.0", ["min_rate must be below max_rate, got 2.0 and 0.5"]),
        ("train.finish_rate=0.001", ["finish_rate is for finish = fine-tune, got finish = none"]),
        ('train={finish="fine-tune",finish_rate=9.0}', ["finish_rate must be at most"]),
        ("verify.confidence=0.5", ["verify.confidence", "greater than 0.5"]),
        ("verify.max_p99_ms=0", ["verify.max_p99_ms", "got:      0", "greater than 0"]),
        ("verify.min_images_per_s=nan", ["verify.min_images_per_s", "finite"]),
        ("verify.margin=nan", ["verify.margin", "got:      nan"]),
        ("verify.groups=[]", ["verify.groups", "at least 1 item"]),
        ('verify.groups=["labels"]', ["verify.groups.0", "got:      'labels'", "label=3,colour=blue"]),
        ("compress.keep_fractions=[0.25,0.5]", ["from large to small, got [0.25, 0.5]"]),
        ("compress.keep_fractions=[0.5,0.0]", ["compress.keep_fractions.1", "greater than 0"]),
        ("name=a/b", ["name is not valid", "got:      'a/b'", "letters, digits"]),
        ("name=..", ["name is not valid", "letters, digits"]),
        ("device=gpu", ["device", "'auto', 'cpu' or 'cuda'"]),
    ],
)
def test_a_wrong_override_is_explained(override, says):
    with pytest.raises(ConfigError) as caught:
        load("tiny", [override])
    message = str(caught.value)
    assert all(part in message for part in says), message
    assert "pydantic" not in message and "Input should" not in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[train\n", "is not valid TOML"),
        (b"name = 1\nname = 2\n", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
        (b"train = 3\n", "a section, like [train]"),
        (b"[[train]]\nnum_rates = 3\n", "a section, like [train]"),
        (b"[train]\nnum_rate = 3\n", "did you mean 'num_rates'?"),
    ],
)
def test_a_wrong_file_is_explained_by_name(tmp_path, content, says):
    path = tmp_path / "wrong.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert says in str(caught.value) and "wrong.toml" in caught.value.what


@pytest.mark.parametrize("network", ["cnn", "resnet18"])
def test_convolutions_on_boolean_images_are_refused(network):
    with pytest.raises(ConfigError) as caught:
        load("digits", ["data.kind=parity", f"train.network={network}"])
    assert str(caught.value).startswith("digits: data.kind = parity") and "train.network = mlp" in str(caught.value)
    assert load("digits", ["data.kind=parity"]).train.network == "mlp"


@pytest.mark.parametrize("source", ["nowhere.toml", "tinny", "."])
def test_a_missing_file_names_the_presets(source):
    with pytest.raises(ConfigError, match="digits, tiny") as caught:
        load(source)
    assert caught.value.do == "bigstep init"


def test_values_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        load("tiny").train.num_rates = 3
    assert math.isclose(load("tiny").verify.margin, 0.03)


def test_every_family_can_be_configured():
    for family in set(get_args(Family)) - {"own"}:
        assert load("tiny", [f"train.network={family}"]).train.network == family


def test_widths_of_a_network_that_has_its_own_are_refused():
    with pytest.raises(ConfigError, match="widths are for mlp and cnn; resnet18 has its own: leave them out"):
        load("tiny", ["train.network=resnet18", "train.widths=[8]"])
