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
from bigstep.records.verdict import worst
from verify import stage
from verify.report import page, wording

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
    page.write(out, bundle_name=name, **records)
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
        assert f"{row} {wording.ICONS[check.outcome]} {check.outcome} |" in pages["report.md"]
        assert f'<td class="n">{bound}</td>' in pages["report.html"]


def test_every_check_is_told_with_its_outcome_in_words(records, pages):
    for check in records["verdict"].info.checks:
        assert f"| {wording.ICONS[check.outcome]} {check.outcome} | {check.name} | {check.says} |" in pages["report.md"]
        assert check.says in pages["report.html"]


def test_tables_of_markdown_have_as_many_cells_as_heads(pages):
    for text in pages.values():
        for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
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
    headline = f"# {wording.ICONS[outcome]} {wording.HEADLINES[outcome]}"
    assert pages["report.md"].startswith(headline)
    assert f'<div class="verdict {outcome}">' in pages["report.html"]
    assert wording.HEADLINES[outcome] in pages["card.md"]
    assert ("The first says: It says so." in pages["report.md"]) == (outcome != "passed")


@pytest.fixture
def no_plots(monkeypatch):
    """Leave out the plots, which take most of the time and show no clock reading."""
    for name in ("learning_rates", "stages", "sizes"):
        monkeypatch.setattr(page.plots, name, lambda *_: "")


def remeasured(records, out, **changes):
    """Return the records with a verdict whose clock readings are others; None leaves a place empty."""
    folder = shutil.copytree(records["verdict"].folder, out / "verdict")
    path = folder / "measured.json"
    measured = json.loads(path.read_text())
    for name, value in changes.items():
        measured[name] = measured[name] | value if isinstance(value, dict) else value or type(measured[name])()
    path.write_text(json.dumps(measured))
    return records | {"verdict": replace(records["verdict"], folder=folder)}


def test_clock_readings_reach_the_report_but_not_the_card(records, pages, tmp_path, no_plots):
    reading = {"n": 1234, "batch": 1}
    after = written(
        remeasured(
            records,
            tmp_path,
            latency={"compact.int8": {"p50_ms": 2.0, **reading}, "dense.fp32": {"p50_ms": 8.0, **reading}},
            throughput={
                "compact.int8": {"images_per_s": 6000.0, "batch": 32, "n": 567},
                "dense.fp32": {"images_per_s": 1500.0, "batch": 4, "n": 567},
            },
            fingerprint={"cpu": "Abacus 3000", "load_before": "7.5 1 1", "load": "8.5 1 1"},
        ),
        tmp_path / "out",
    )
    assert "| 2.000 ms | 0.25x | 6,000 | 4.00x | 32 |" in after["report.md"]
    assert "| 8.000 ms | 1.00x | 1,500 | 1.00x | 4 |" in after["report.md"]
    assert '6,000<br><span class="soft">(4.00x, batch 32)</span>' in after["report.html"]
    for name in ("report.md", "report.html"):
        assert "700 queries of each file at batch 1 and 567 at its best batch" in after[name]
        assert "Measured on Abacus 3000, CPUs: " in after[name] and "load 7.5 to 8.5; MLPerf-style, not" in after[name]
    assert after["card.md"] == pages["card.md"]


def test_a_form_without_readings_has_empty_cells(records, tmp_path, no_plots):
    after = written(remeasured(records, tmp_path, latency=None, throughput=None), tmp_path / "out")["report.md"]
    table = after[after.index("## What it weighs") : after.index("## Checks")]
    assert table.count("| n/a | n/a | n/a | n/a | n/a |") == 4 and "not measured" in table


def budget(outcome, **changes):
    values = {"name": "latency budget", "measured": 6.0, "bound": 7.0, "relation": "<=", "limit": 5.0, "n": 700}
    return {**values, "outcome": outcome, "says": f"It took a|while <b>{outcome}</b>.", **changes}


@pytest.mark.parametrize(
    ("verdict", "budgets", "all_in_all", "headline"),
    [
        ("passed", ["passed"], "passed", wording.HEADLINES["passed"]),
        ("passed", ["passed", "failed"], "failed", "Failed: the gate passed this file, but a budget was not kept."),
        ("passed", ["undecided"], "undecided", wording.BUDGET_HEADLINES["passed", "undecided"]),
        ("undecided", ["failed"], "failed", wording.BUDGET_HEADLINES["undecided", "failed"]),
        ("undecided", ["undecided", "passed"], "undecided", wording.HEADLINES["undecided"]),
        ("failed", ["failed", "undecided"], "failed", wording.HEADLINES["failed"]),
    ],
)
def test_the_headline_is_the_worse_of_verdict_and_budgets(
    records, tmp_path, no_plots, verdict, budgets, all_in_all, headline
):
    first = records["verdict"].info.checks[0].model_copy(update={"outcome": verdict})
    checks = [first, *records["verdict"].info.checks[1:]]
    info = records["verdict"].info.model_copy(update={"outcome": verdict, "checks": checks})
    judged = records | {"verdict": changed(records["verdict"], info)}
    after = written(remeasured(judged, tmp_path, budgets=[budget(each) for each in budgets]), tmp_path / "out")
    assert after["report.md"].startswith(f"# {wording.ICONS[all_in_all]} {headline}\n")
    assert (
        f'<div class="verdict {all_in_all}">' in after["report.html"] and f"<h1>{headline}</h1>" in after["report.html"]
    )
    assert ("Passed" in after["report.md"].splitlines()[0]) == (all_in_all == "passed")
    assert f"# digits\n\n{wording.ICONS[verdict]} {wording.HEADLINES[verdict]}" in after["card.md"], (
        "the card has no clock"
    )
    found = worst(budgets)
    told = f"1 of {len(budgets)} budgets: {found}. The first says: It took"
    assert (told in after["report.md"]) == (told in after["report.html"]) == (found != "passed")


def test_budgets_have_a_place_of_their_own_with_the_worst_first(records, pages, tmp_path, no_plots):
    assert "Speed budgets" not in pages["report.md"] + pages["report.html"]
    given = remeasured(records, tmp_path, budgets=[budget("passed"), budget("failed")])
    after = written(given, tmp_path / "out")
    rows = after["report.md"][after["report.md"].index("### Speed budgets") :].splitlines()[4:6]
    assert rows == [
        f"| {wording.ICONS[o]} {o} | latency budget | It took a\\|while &lt;b&gt;{o}&lt;/b&gt;. |"
        for o in ("failed", "passed")
    ]
    page = after["report.html"]
    assert page.index("<h2>Checks") < page.index("<h2>Speed budgets</h2>") < page.index("<h2>Plots")
    assert "It took a|while &lt;b&gt;failed&lt;/b&gt;." in page
    checker = Checker()
    checker.feed(page)
    assert checker.open == []


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
    first = trained.info.points[0]
    first = first.model_copy(update={"numbers": first.numbers | {"prunability": 0.4321}})
    info = trained.info.model_copy(update={"points": [first, *trained.info.points[1:]]})
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
