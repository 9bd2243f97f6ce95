"""The report's structure, that every number in it comes from the records, and that no name can break its markup."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from bigstep.config import VerifyConfig
from verify import report, stage

VOID = {"meta", "br"}


class Checker(HTMLParser):
    """Collect the tags and references of a page, and insist that every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.references, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open = self.open[:-1] if tag not in VOID else self.open

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def records(make_world, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    images, compact, exported = make_world(folder).records()
    verdict = stage.run(VerifyConfig(), images, compact, exported, out=folder / "verdict")
    return {"images": images, "trained": trained, "compact": compact, "exported": exported, "verdict": verdict}


def written(records, out, name="digits"):
    report.write(out, bundle_name=name, **records)
    return {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()}


@pytest.fixture(scope="module")
def pages(records, tmp_path_factory):
    return written(records, tmp_path_factory.mktemp("pages"))


def changed(record, info):
    return type(record)(record.folder, record.digest, info)


def test_writes_exactly_three_files(records, pages):
    assert sorted(pages) == ["card.md", "report.html", "report.md"]
    assert len(pages["report.md"].encode()) < 60_000


def test_headings_come_in_the_order_a_reader_needs(records, pages):
    expected = [
        "What it weighs, does and costs",
        "Checks",
        "What compression changed",
        "Labels (described, not gated)",
        "Learning rates",
        "Steps of compression",
        "Digests",
        "Machine and versions",
    ]
    assert re.findall(r"^## (.*)", pages["report.md"], re.M) == expected
    html = [heading.split(" (")[0] for heading in re.findall(r"<h2>(.*?)</h2>", pages["report.html"])]
    assert html == [
        *expected[:2],
        "Plots",
        "Conventional networks against the same dense file",
        expected[2],
        "Labels",
        *expected[4:],
    ]


def test_page_stands_alone_and_is_well_formed(pages):
    page = pages["report.html"]
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.tags.isdisjoint({"script", "link", "img", "iframe"})
    assert all(reference.startswith("#") for reference in checker.references)
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    svgs = re.findall(r"<svg .*?</svg>", page, re.S)
    assert len(svgs) == 3
    assert all(ET.fromstring(svg).attrib["aria-label"] for svg in svgs)


def test_every_comparison_is_told_with_its_bound_and_outcome(records, pages):
    assert records["verdict"].info.comparisons
    for check in records["verdict"].info.comparisons:
        network, _, rule = check.name.partition(": ")
        group = rule.split("(")[1].rstrip(")")
        bound = f"{100 * check.bound:+.1f}"
        row = f"| {network} | {group} | {100 * check.measured:+.1f} | {bound} | 3.0 |"
        assert f"{row} {report.ICONS[check.outcome]} {check.outcome} |" in pages["report.md"]
        assert f'<td class="n">{bound}</td>' in pages["report.html"]


def test_every_check_is_told_with_its_outcome_in_words(records, pages):
    for check in records["verdict"].info.checks:
        assert f"| {report.ICONS[check.outcome]} {check.outcome} | {check.name} | {check.says} |" in pages["report.md"]
        assert check.says in pages["report.html"]


def test_tables_of_markdown_have_as_many_cells_as_heads(pages):
    for page in pages.values():
        for table in re.findall(r"(?:^\|.*\n)+", page, re.M):
            counts = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
            assert len(counts) == 1, table


def test_baseline_that_never_fitted_is_named(records, pages):
    assert "momentum: this conventional recipe never fitted" in pages["report.md"]
    assert "momentum: this conventional recipe never fitted" in pages["report.html"]


def test_baseline_that_could_not_be_compressed_is_named(records, pages, tmp_path):
    assert "could not be compressed" not in pages["report.md"]
    compact = records["compact"]
    alone = changed(compact, compact.info.model_copy(update={"baselines": []}))
    assert (
        "adam: this conventional network could not be compressed."
        in written(records | {"compact": alone}, tmp_path)["report.md"]
    )


def test_baseline_that_is_the_chosen_network_is_named(records, tmp_path):
    trained = records["trained"]
    same = [b.model_copy(update={"name": "twin", "trial": trained.info.chosen}) for b in trained.info.baselines[:1]]
    twin = changed(trained, trained.info.model_copy(update={"baselines": same}))
    page = written(records | {"trained": twin}, tmp_path)["report.md"]
    assert "twin: this conventional recipe chose the same network, sgd-0.2-0." in page
    assert "could not be compressed" not in page


def test_checks_that_did_not_pass_come_first(records, tmp_path):
    verdict = records["verdict"]
    last = verdict.info.checks[-1].model_copy(update={"outcome": "failed", "name": "the last check"})
    info = verdict.info.model_copy(update={"outcome": "failed", "checks": [*verdict.info.checks[:-1], last]})
    page = written(records | {"verdict": changed(verdict, info)}, tmp_path)["report.md"]
    first = page[page.index("## Checks") :].splitlines()[4]
    assert "the last check" in first


def test_label_that_lost_most_is_named_at_the_top(records, pages, tmp_path):
    assert "lost most" not in pages["report.md"]
    verdict = records["verdict"]
    fallen = {("compact.int8", "label=emu"): 0.70, ("compact.int8", "label=cat"): 0.90}
    scores = [s.model_copy(update={"accuracy": fallen.get((s.form, s.group), s.accuracy)}) for s in verdict.info.scores]
    worse = changed(verdict, verdict.info.model_copy(update={"scores": scores}))
    page = written(records | {"verdict": worse}, tmp_path)["report.md"]
    assert "The label that lost most is emu, from 100.0% to 70.0% (labels are not gated)." in page
    assert "| -30.0 |" in page


@pytest.mark.parametrize("outcome", ["passed", "failed", "undecided"])
def test_first_line_is_the_verdict(records, tmp_path, outcome):
    verdict = records["verdict"]
    first = verdict.info.checks[0].model_copy(update={"outcome": outcome, "says": "It says so."})
    info = verdict.info.model_copy(update={"outcome": outcome, "checks": [first, *verdict.info.checks[1:]]})
    pages = written({**records, "verdict": changed(verdict, info)}, tmp_path / "out")
    headline = f"# {report.ICONS[outcome]} {report.HEADLINES[outcome]}"
    assert pages["report.md"].startswith(headline)
    assert f'<div class="verdict {outcome}">' in pages["report.html"]
    assert report.HEADLINES[outcome] in pages["card.md"]
    assert ("The first says: It says so." in pages["report.md"]) == (outcome != "passed")


def test_clock_readings_reach_the_report_but_not_the_card(records, pages, tmp_path):
    folder = shutil.copytree(records["verdict"].folder, tmp_path / "verdict")
    path = folder / "measured.json"
    measured = json.loads(path.read_text())
    measured["latency"]["compact.int8"]["p50_ms"] = 2.0
    measured["latency"]["dense.fp32"]["p50_ms"] = 8.0
    measured["fingerprint"]["cpu"] = "Abacus 3000"
    path.write_text(json.dumps(measured))
    after = written(records | {"verdict": replace(records["verdict"], folder=folder)}, tmp_path / "out")
    assert "| 2.000 ms | 0.25x |" in after["report.md"]
    assert "Abacus 3000" in after["report.html"]
    assert after["card.md"] == pages["card.md"]


def test_same_records_draw_the_same_pages(records, pages, tmp_path):
    assert written(records, tmp_path) == pages


def change_score(records):
    verdict = records["verdict"]
    scores = [
        s.model_copy(update={"accuracy": 0.4321}) if (s.form, s.group) == ("compact.int8", "conflicting") else s
        for s in verdict.info.scores
    ]
    return {"verdict": changed(verdict, verdict.info.model_copy(update={"scores": scores}))}


def change_rate(records):
    trained = records["trained"]
    first = trained.info.map[0].model_copy(update={"prunability": 0.4321})
    info = trained.info.model_copy(update={"map": [first, *trained.info.map[1:]]})
    return {"trained": changed(trained, info)}


def change_step(records):
    compact = records["compact"]
    step = compact.info.frontier[0]
    drops = [d.model_copy(update={"after": 0.4321}) for d in step.drops]
    info = compact.info.model_copy(
        update={"frontier": [step.model_copy(update={"drops": drops}), *compact.info.frontier[1:]]}
    )
    return {"compact": changed(compact, info)}


@pytest.mark.parametrize(
    ("change", "shown", "plots"),
    [
        (change_score, "43.2%", {"Accuracy of each group through the stages", "Size against conflicting accuracy"}),
        (change_rate, "0.432", {"Accuracy and prunability against the learning rate"}),
        (change_step, "43.2%", {"Accuracy of each group through the stages", "Size against conflicting accuracy"}),
    ],
)
def test_number_changed_in_a_record_changes_text_and_exactly_its_plots(records, pages, tmp_path, change, shown, plots):
    def drawn(page):
        return {re.search('aria-label="(.*?)"', svg)[1]: svg for svg in re.findall(r"<svg .*?</svg>", page, re.S)}

    after = written(records | change(records), tmp_path)
    assert shown not in pages["report.md"]
    assert shown in after["report.md"]
    assert shown in after["report.html"]
    old, new = drawn(pages["report.html"]), drawn(after["report.html"])
    assert {name for name in old if old[name] != new[name]} == plots


def test_names_cannot_break_the_markup(records, tmp_path):
    images = records["images"]
    evil = "<script>a|b</script>\n# x"
    info = images.info.model_copy(update={"name": evil})
    compact = records["compact"]
    steps = [step.model_copy(update={"step": "a|b <i>", "why": evil}) for step in compact.info.frontier]
    hostile = records | {
        "images": changed(images, info),
        "compact": changed(compact, compact.info.model_copy(update={"frontier": steps})),
    }
    pages = written(hostile, tmp_path / "out", name="<b>|</b>")
    checker = Checker()
    checker.feed(pages["report.html"])
    assert checker.open == []
    assert "script" not in checker.tags
    assert "<script" not in pages["report.md"] + pages["card.md"]
    assert "\n# x" not in pages["report.md"] + pages["card.md"]
    assert "a\\|b &lt;i&gt;" in pages["report.md"]


def test_data_without_bias_attribute_is_reported_too(world, trained, tmp_path):
    world.attributes = False
    images, compact, exported = world.records()
    config = VerifyConfig(groups=("label=cat",))
    verdict = stage.run(config, images, compact, exported, out=tmp_path / "verdict")
    records = {"images": images, "trained": trained, "compact": compact, "exported": exported, "verdict": verdict}
    pages = written(records, tmp_path / "out")
    assert "Size against unbiased accuracy" in pages["report.html"]
    assert "On the test images it is right on 100.0%" in pages["report.md"]
    assert "no bias attribute" in pages["card.md"]


def test_non_finite_served_file_is_reported(world, trained, tmp_path):
    world.served_bias = (float("nan"),) * 3
    images, compact, exported = world.records()
    verdict = stage.run(VerifyConfig(), images, compact, exported, out=tmp_path / "verdict")
    records = {"images": images, "trained": trained, "compact": compact, "exported": exported, "verdict": verdict}
    pages = written(records, tmp_path / "out")
    assert "it is right on n/a" in pages["report.md"]
    assert pages["report.md"].startswith("# ✘ Failed")


def test_nothing_kept_nothing_tried(records, tmp_path):
    compact = records["compact"]
    nothing = changed(compact, compact.info.model_copy(update={"frontier": []}))
    pages = written(records | {"compact": nothing}, tmp_path / "out")
    assert "No step was tried." in pages["report.md"]
    assert "no step was kept" in pages["report.html"]


def test_card_names_contract_and_bytes(records, pages):
    card = pages["card.md"]
    served = records["exported"].info.form("compact.int8")
    assert served.sha256 in card
    assert "N x 4 x 4 x 3 (NHWC, RGB)" in card
    assert "cat, dog, emu" in card
