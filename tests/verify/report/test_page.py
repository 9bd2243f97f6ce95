"""The report's structure, that every number in it comes from the records, and that no name can break its markup."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bigstep.config import VerifyConfig
from bigstep.records.provenance import Provenance
from bigstep.records.verdict import HEADLINES, SEVERITY, worst
from verify.report import page, wording

VOID = {"meta", "br"}
PASSED = (
    "Passed: no worse than before compression (margin 3 points); level of robustness not required: "
    "conflicting 100.0%, aligned 100.0%."
)


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


def written(run, out, name="digits"):
    page.write(out, name, run)
    return {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()}


@pytest.fixture(scope="module")
def pages(judged, tmp_path_factory):
    return written(judged, tmp_path_factory.mktemp("pages"))


def test_writes_exactly_three_files(pages):
    assert sorted(pages) == ["card.md", "report.html", "report.md"]
    assert len(pages["report.md"].encode()) < 60_000


def test_headings_come_in_the_order_a_reader_needs(pages):
    expected = [
        "What it weighs, does and costs",
        "Checks",
        "What compression changed",
        "Labels (described, not gated)",
        "Learning rates",
        "Steps of compression",
        "Digests",
        "The machine that measured",
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


def test_every_comparison_is_told_with_its_bound_and_outcome(judged, pages):
    assert {check.form for check in judged.verdict.info.comparisons} == {"adam-fp32", "adam-compact-int8"}
    for check in judged.verdict.info.comparisons:
        bound = f"{100 * check.bound:+.1f}"
        row = f"| {check.form} | {check.group} | {100 * check.measured:+.1f} | {bound} | 3.0 |"
        assert f"{row} {wording.ICONS[check.outcome]} {check.outcome} |" in pages["report.md"]
        assert f'<td class="n">{bound}</td>' in pages["report.html"]


def test_every_check_is_told_with_its_outcome_in_words(judged, pages):
    for check in judged.verdict.info.checks:
        assert f"| {wording.ICONS[check.outcome]} {check.outcome} | {check.name} | {check.says} |" in pages["report.md"]
        assert check.says in pages["report.html"]


def test_tables_of_markdown_have_as_many_cells_as_heads(pages):
    for text in pages.values():
        for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
            counts = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
            assert len(counts) == 1, table


def test_missing_baselines_are_named(pages):
    assert "momentum: this conventional recipe never fitted" in pages["report.md"]
    assert "momentum: this conventional recipe never fitted" in pages["report.html"]


def test_what_decides_comes_first_and_what_did_not_pass_before_that(judged, changed, tmp_path, pages, no_plots):
    def order(page):
        rows = page[page.index("## Checks") :].splitlines()[4:]
        return [row.split(" | ")[1] for row in rows[: len(judged.verdict.info.checks)]]

    names = [check.name for check in judged.verdict.info.checks]
    deciding = [name for name in names if name.startswith(("non-inferiority", "floor"))]
    assert order(pages["report.md"]) == deciding + [name for name in names if name not in deciding]
    assert f"<summary>{len(names) - len(deciding)} more checks passed" in pages["report.html"]
    *rest, last = judged.verdict.info.checks
    first, second, *rest = [last.model_copy(update={"outcome": "failed"}), *rest]
    worse = second.model_copy(update={"outcome": "undecided"})
    found = changed(judged, verdict={"outcome": "failed", "checks": [*rest, worse, first]})
    assert order(written(found, tmp_path)["report.md"])[:2] == [first.name, worse.name]


def test_label_that_lost_most_is_named_at_the_top(judged, changed, pages, tmp_path, no_plots):
    assert "lost most" not in pages["report.md"]
    fallen = {("compact-int8", "label=emu"): 0.70, ("compact-int8", "label=cat"): 0.90}
    scores = [
        s.model_copy(update={"accuracy": fallen.get((s.form, s.group), s.accuracy)}) for s in judged.verdict.info.scores
    ]
    page = written(changed(judged, verdict={"scores": scores}), tmp_path)["report.md"]
    assert "The label that lost most is emu, from 100.0% to 70.0% (labels are not gated)." in page
    assert "| -30.0 |" in page


@pytest.mark.parametrize("outcome", ["passed", "failed", "undecided"])
def test_first_line_is_the_verdict(judged, changed, tmp_path, no_plots, outcome):
    first, *rest = judged.verdict.info.checks
    first = first.model_copy(update={"outcome": outcome, "says": "It says so."})
    run = changed(judged, verdict={"outcome": outcome, "checks": [first, *rest]})
    pages = written(run, tmp_path)
    headline = PASSED if outcome == "passed" else HEADLINES[outcome, outcome]
    assert pages["report.md"].startswith(f"# {wording.ICONS[outcome]} {headline}")
    assert f'<div class="verdict {outcome}">' in pages["report.html"]
    assert headline in pages["card.md"]
    assert ("The first says: It says so." in pages["report.md"]) == (outcome != "passed")


@pytest.fixture
def no_plots(monkeypatch):
    """Leave out the plots, which take most of the time and show no clock reading."""
    for name in ("learning_rates", "stages", "sizes"):
        monkeypatch.setattr(page.plots, name, lambda *_: "")


def test_clock_readings_reach_the_report_but_not_the_card(judged, changed, pages, tmp_path, no_plots):
    measured = judged.measured

    def read(found, form, **values):
        return {form: found[form].model_copy(update=values)}

    single, best = measured.latency, measured.throughput
    single = single | read(single, "compact-int8", p50_ms=2.0, n=1234) | read(single, "dense-fp32", p50_ms=8.0, n=1234)
    best = best | read(best, "compact-int8", images_per_s=6000.0, batch=32, n=7)
    best = best | read(best, "dense-fp32", images_per_s=1500.0, batch=4)
    fingerprint = measured.fingerprint | {"cpu": "Abacus 3000", "load_before": "7.5 1 1", "load": "8.5 1 1"}
    after = written(
        changed(judged, measured={"latency": single, "throughput": best, "fingerprint": fingerprint}), tmp_path
    )
    assert "| 2.000 ms | 0.25x | 6,000 | 4.00x | 32 |" in after["report.md"]
    assert "| 8.000 ms | 1.00x | 1,500 | 1.00x | 4 |" in after["report.md"]
    assert '6,000<br><span class="soft">(4.00x, batch 32)</span>' in after["report.html"]
    for name in ("report.md", "report.html"):
        assert "700 queries of each file at batch 1 and 7 at its best batch" in after[name]
        assert "Measured on Abacus 3000, CPUs: " in after[name] and "load 7.5 to 8.5; MLPerf-style, not" in after[name]
    assert after["card.md"] == pages["card.md"]


def test_a_form_without_readings_has_empty_cells(judged, changed, tmp_path, no_plots):
    after = written(changed(judged, measured={"latency": {}, "throughput": {}}), tmp_path)["report.md"]
    table = after[after.index("## What it weighs") : after.index("## Checks")]
    assert table.count("| n/a | n/a | n/a | n/a | n/a |") == 4 and "not measured" in table


@pytest.fixture
def budget(check):
    """Return a function that makes a budget whose sentence is hostile."""
    return lambda outcome: check(outcome, f"It took a|while <b>{outcome}</b>.", rule="latency budget")


@pytest.mark.parametrize(
    ("verdict", "budgets", "all_in_all", "headline"),
    [
        ("passed", ["passed"], "passed", PASSED),
        ("passed", ["passed", "failed"], "failed", "Failed: the gate passed this file, but a budget was not kept."),
        ("passed", ["undecided"], "undecided", HEADLINES["passed", "undecided"]),
        ("undecided", ["failed"], "failed", HEADLINES["undecided", "failed"]),
        ("undecided", ["undecided", "passed"], "undecided", HEADLINES["undecided", "undecided"]),
        ("failed", ["failed", "undecided"], "failed", HEADLINES["failed", "failed"]),
    ],
)
def test_the_headline_is_the_worse_of_verdict_and_budgets(
    judged, changed, budget, tmp_path, no_plots, verdict, budgets, all_in_all, headline
):
    first, *rest = judged.verdict.info.checks
    checks = [first.model_copy(update={"outcome": verdict}), *rest]
    run = changed(judged, verdict={"outcome": verdict, "checks": checks}, budgets=[budget(o) for o in budgets])
    after = written(run, tmp_path)
    assert after["report.md"].startswith(f"# {wording.ICONS[all_in_all]} {headline}\n")
    assert (
        f'<div class="verdict {all_in_all}">' in after["report.html"] and f"<h1>{headline}</h1>" in after["report.html"]
    )
    assert ("Passed" in after["report.md"].splitlines()[0]) == (all_in_all == "passed")
    assert after["card.md"].startswith(f"# digits\n\n{wording.ICONS[all_in_all]} {headline}\n")
    assert [line for line in after["card.md"].splitlines() if "machine that verified" in line] == [
        f"- latency budget, on the machine that verified: {o}." for o in sorted(budgets, key=SEVERITY.index)
    ]
    assert "It took" not in after["card.md"], "clock readings are in no digest, and the card is in one"
    told = f"1 of {len(budgets)} budgets: {worst(budgets)}. The first says: It took"
    assert (told in after["report.md"]) == (told in after["report.html"]) == (worst(budgets) != "passed")


def test_budgets_have_a_place_of_their_own_with_the_worst_first(judged, changed, budget, pages, tmp_path, no_plots):
    assert "Speed budgets" not in pages["report.md"] + pages["report.html"]
    after = written(changed(judged, budgets=[budget("passed"), budget("failed")]), tmp_path)
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


def test_same_records_draw_the_same_pages(judged, pages, tmp_path):
    assert written(judged, tmp_path) == pages


def other_score(run):
    changed = ("compact-int8", "conflicting")
    scores = [
        s.model_copy(update={"accuracy": 0.4321}) if (s.form, s.group) == changed else s
        for s in run.verdict.info.scores
    ]
    return {"verdict": {"scores": scores}}


def other_rate(run):
    first, *rest = run.trained.info.points
    other = first.model_copy(update={"numbers": first.numbers | {"prunability": 0.4321}})
    return {"trained": {"points": [other, *rest]}}


def other_step(run):
    step, *rest = run.compact.info.frontier
    drops = [d.model_copy(update={"after": 0.4321}) for d in step.drops]
    return {"compact": {"frontier": [step.model_copy(update={"drops": drops}), *rest]}}


@pytest.mark.parametrize(
    ("other", "shown", "plots"),
    [
        (other_score, "43.2%", {"Accuracy of each group through the stages", "Size against conflicting accuracy"}),
        (other_rate, "0.432", {"Accuracy and prunability against the learning rate"}),
        (other_step, "43.2%", {"Accuracy of each group through the stages", "Size against conflicting accuracy"}),
    ],
)
def test_number_changed_in_a_record_changes_text_and_exactly_its_plots(
    judged, changed, pages, tmp_path, other, shown, plots
):
    def drawn(page):
        return {re.search('aria-label="(.*?)"', svg)[1]: svg for svg in re.findall(r"<svg .*?</svg>", page, re.S)}

    after = written(changed(judged, **other(judged)), tmp_path)
    assert shown not in pages["report.md"]
    assert shown in after["report.md"]
    assert shown in after["report.html"]
    old, new = drawn(pages["report.html"]), drawn(after["report.html"])
    assert {name for name in old if old[name] != new[name]} == plots


def test_names_cannot_break_the_markup(judged, changed, tmp_path):
    evil = "<script>a|b</script>\n# x"
    steps = [step.model_copy(update={"step": "a|b <i>", "why": evil}) for step in judged.compact.info.frontier]
    page.write(tmp_path, "<b>|</b>", changed(judged, images={"name": evil}, compact={"frontier": steps}))
    pages = {path.name: path.read_text() for path in tmp_path.iterdir()}
    checker = Checker()
    checker.feed(pages["report.html"])
    assert checker.open == []
    assert "script" not in checker.tags
    assert "<script" not in pages["report.md"] + pages["card.md"]
    assert "\n# x" not in pages["report.md"] + pages["card.md"]
    assert "a\\|b &lt;i&gt;" in pages["report.md"]


def test_data_without_bias_attribute_is_reported_too(world, judge, tmp_path):
    world.attributes = False
    pages = written(judge(world, VerifyConfig(groups=("label=cat",))), tmp_path / "out")
    assert "Size against unbiased accuracy" in pages["report.html"]
    assert "On the test images it is right on 100.0%" in pages["report.md"]
    assert "no bias attribute" in pages["card.md"]


def test_a_drop_of_nothing_has_no_sign_of_a_gain(judged, changed, tmp_path, no_plots):
    first, *rest = judged.verdict.info.comparisons
    tiny = first.model_copy(update={"measured": -1e-5, "bound": -4e-4})
    page = written(changed(judged, verdict={"comparisons": [tiny, *rest]}), tmp_path)["report.md"]
    assert f"| {first.form} | {first.group} | +0.0 | +0.0 |" in page


def test_what_is_folded_is_printed(pages):
    """A closed `details` is left out of paper and PDF, and with it ten of thirteen checks."""
    templates = [path.read_text() for path in Path(page.__file__).parent.glob("*.html")]
    for content in [pages["report.html"], *templates]:
        for_print = re.search(r"@media print \{(.*)\}\n", content)[1]
        opened = re.search(r"details::details-content \{(.*?)\}", for_print)
        assert "<details" not in content or (opened and "content-visibility: visible" in opened[1])
    assert "<details" in pages["report.html"]


def test_the_report_says_when_by_what_and_with_what_it_was_judged(world, judge, tmp_path, no_plots):
    (world.folder / "verdict").mkdir()
    packages = {"numpy": "2.4.6", "onnxruntime": "1.31.1"}
    made = {"bigstep": "0.1.0", "commit": "c" * 40 + "-dirty", "code": "d" * 64, "python": "3.12.1", "device": None}
    rest = {"packages": packages, "settings": {}, "inputs": {}, "sources": None}
    Provenance(stage="verify", begun="2026-11-28T11:20:59Z", **made, **rest).write(world.folder / "verdict")
    pages = written(judge(world), tmp_path / "out")
    for name in ("report.html", "report.md"):
        assert "judged 2026-11-28 11:20 UTC by bigstep 0.1.0, commit cccccccccccc-dirty" in pages[name]
        assert "numpy 2.4.6, onnxruntime 1.31.1" in pages[name] and "3.12.1" in pages[name]
    assert "2026" not in pages["card.md"], "the card is in a digest"


def test_non_finite_served_file_is_reported(world, judge, tmp_path):
    world.served_bias = (float("nan"),) * 3
    pages = written(judge(world), tmp_path / "out")
    assert "it is right on n/a" in pages["report.md"]
    assert pages["report.md"].startswith("# ✘ Failed")


def test_nothing_kept_nothing_tried(judged, changed, tmp_path):
    pages = written(changed(judged, compact={"frontier": []}), tmp_path)
    assert "No step was tried." in pages["report.md"]
    assert "no step was kept" in pages["report.html"]


def test_card_names_contract_and_bytes(judged, pages):
    card = pages["card.md"]
    assert judged.exported.info.form("compact-int8").sha256 in card
    assert "N x 4 x 4 x 3 (NHWC, RGB)" in card
    assert "cat, dog, emu" in card
