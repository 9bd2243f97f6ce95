"""The page and the tables of a learning-rate map: drawn from the record, nothing left out, nothing from elsewhere."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bigstep.records.rate_map import FlowResult, MapTrial, RateMapInfo, SecondPhase, Threshold
from bigstep.records.trained import Moment, Recipe
from verify.report import map_facts, map_page, map_plots
from verify.report.map_metrics import METRICS, PANELS

RATES = [0.01, 0.03, 0.1, 0.3, 1.0]


def trial(rate, seed):
    if rate == 1.0:
        about = {"status": "diverged", "steps": 7, "train_loss": None, "numbers": {}, "moments": [], "missing": {}}
        return MapTrial(name=f"{rate}-s{seed}", rate=rate, seed=seed, **about)
    numbers = {m.name: 0.5 + rate / 2 + seed / 1000 for m in METRICS if m.name not in ("core_share", "spurious_share")}
    numbers |= {"steps_to_fit": 1000 / rate**0.5, "bias_separation": 0.5 - rate / 2, "core_share": None}
    looked = {"conflicting_error_confidence": 0.5, "logit_norm": 2.0}
    moments = [
        Moment(step=9 * e, epoch=e, numbers=looked | {"conflicting_loss_share": 0.1 * e + rate}) for e in (1, 2, 4, 5)
    ]
    return MapTrial(
        name=f"{rate}-s{seed}",
        rate=rate,
        seed=seed,
        status="fitted",
        steps=45,
        train_loss=0.01,
        numbers=numbers,
        moments=moments,
        missing={"sharpness": "no second derivative"} if (rate, seed) == (0.3, 1) else {},
    )


@pytest.fixture(scope="module")
def info(mlp):
    second = dict.fromkeys(("small_conflicting", "large_conflicting", "averaged_conflicting"), 0.61)
    thresholds = [
        Threshold(name="critical", low=None, high=0.2, steps=10, says="At most 0.2."),
        Threshold(name="sharpness break", low=None, high=None, steps=9, says="There is none."),
        Threshold(name="convergence", low=0.3, high=1.0, steps=9, says="Between 0.3 and 1."),
        Threshold(name="2A | 2B", low=0.3, high=None, steps=9, says="All of it <is> 2A."),
        Threshold(name="divergence", low=0.3, high=1.0, steps=9, says="Between 0.3 and 1, too."),
    ]
    return RateMapInfo(
        data="rows",
        attributes=["shade"],
        architecture=mlp,
        start="initial weights",
        recipe=Recipe(optimizer="sgd", rate=0.01),
        batch_size=16,
        stop_loss=0.005,
        max_steps=6000,
        rates=RATES,
        seeds=2,
        report_split="test",
        trials=[trial(rate, seed) for rate in RATES for seed in (0, 1)],
        flows=[FlowResult(seed=0, rate=0.2, max_sharpness=10, reached=False, steps=10, loss=1)],
        second_phase=[
            SecondPhase(
                rate=0.3,
                seed=0,
                regime=2,
                small=0.7,
                large=0.8,
                averaged=None,
                barrier=0.001,
                agreement=0.9,
                angle=0.1,
                fault=None,
                **second,
            )
        ],
        second_rates=(0.01, 0.1),
        thresholds=thresholds,
        band=[0.3],
        answer="The most robust rate lies in band 2A.",
        notes=["A note & more."],
    )


@pytest.fixture(scope="module")
def drawn(info):
    return map_page.documents(info, "rows")


def changed(info, name, value):
    """Return the map with another number of its first trial."""
    first = info.trials[0].model_copy(update={"numbers": {**info.trials[0].numbers, name: value}})
    return info.model_copy(update={"trials": [first, *info.trials[1:]]})


def test_the_page_says_what_the_record_says(info, drawn):
    page = drawn["lr-map.html"]
    for says in (
        info.answer,
        "A note &amp; more.",
        "All of it &lt;is&gt; 2A.",
        "no second derivative",
        "2 runs diverged",
    ):
        assert says in page
    assert "5 learning rates from 0.01 to 1, 2 seeds each, on rows" in page and "0.700" in page and "0.610" in page
    assert "Nowhere on this map: core-feature share, spurious-feature share." in page
    for text in (page, drawn["lr-map.md"]):
        assert all(map_facts.sentence(info, which).split(":")[0] in text for which in PANELS[:2])
        assert "conflicting accuracy" in text and "Thresholds" in text


def test_the_page_stands_alone_and_is_well_formed(drawn):
    page = drawn["lr-map.html"]
    assert not re.search(r"(src|href)=\"(?!#)(?!http://www\.w3\.org)", page) and "<script" not in page
    assert page.count("<svg") == page.count("</svg>") == 1 + len(PANELS) + page.count("<figcaption><b>")
    open_ = []
    parser = HTMLParser()
    void = {"meta", "br", "path", "use", "image", "rect", "circle"}
    parser.handle_starttag = lambda tag, _: open_.append(tag) if tag not in void else None
    parser.handle_endtag = lambda tag: open_.remove(tag) if tag not in void else None
    parser.handle_startendtag = lambda *_: None
    parser.feed(page)
    assert not [tag for tag in open_ if tag in ("table", "tr", "details", "figure", "main", "svg")]


def test_at_most_six_panels_open_the_page_with_a_sentence_each(info, drawn):
    opening = drawn["lr-map.html"].split("<h2>")[0]
    assert opening.count("<svg") == 1 + len(PANELS) <= 7
    for which in PANELS:
        says = map_facts.sentence(info, which)
        assert says.endswith(".") and len(re.findall(r"\.(\s|$)", says)) == 1


def test_sentences_are_made_of_numbers(info):
    groups, *_, losses = PANELS
    assert "conflicting accuracy 0.506 to 0.651 ± 0.001" in map_facts.sentence(info, groups)
    assert "11% of the training loss at rate 0.01 and 40% at 0.3" in map_facts.sentence(info, losses)


def test_another_number_draws_another_panel_sentence_and_table(info):
    for which in PANELS[:-1]:
        again = changed(info, which.metrics[0], 0.987)
        assert map_plots.panel(again, which) != map_plots.panel(info, which)
        assert map_facts.sentence(again, which) != map_facts.sentence(info, which)
        assert ",0.987" in map_page.numbers_csv(again) and ",0.987" not in map_page.numbers_csv(info)
        assert map_plots.panel(again, PANELS[-1]) == map_plots.panel(info, PANELS[-1])


def test_a_small_panel_shows_its_own_numbers(info):
    metric = next(m for m in METRICS if m.name == "logit_norm")
    assert map_plots.small(info, metric) != map_plots.small(changed(info, "logit_norm", 0.9), metric)
    assert map_plots.small(info, metric) == map_plots.small(changed(info, "pq_index", 0.9), metric)


def test_thresholds_move_the_axis(info):
    moved = info.thresholds[2].model_copy(update={"low": 0.2})
    other = info.model_copy(update={"thresholds": [*info.thresholds[:2], moved, *info.thresholds[3:]]})
    assert map_plots.axis(info) != map_plots.axis(other) and "0.2 to 1" in map_plots.axis(other)
    assert "below 0.2" in map_plots.axis(info) and "not found" in map_plots.axis(info)


def test_the_table_has_every_trial_and_metric(info, drawn):
    rows = list(csv.DictReader(io.StringIO(drawn["lr-map.csv"])))
    found = {(float(r["rate"]), int(r["seed"]), r["metric"]): r["value"] for r in rows}
    assert len(found) == len(rows)
    for t in info.trials:
        for m in METRICS:
            value = t.numbers.get(m.name)
            if m.name != "spurious_share":
                assert found[t.rate, t.seed, m.name] == ("" if value is None else repr(value))
    assert float(found[0.1, 1, "loss_share@4"]) == pytest.approx(0.5)
    assert found[0.3, 0, "second.small"] == "0.7" and found[0.3, 0, "second.averaged"] == ""
    thresholds = list(csv.DictReader(io.StringIO(drawn["lr-map-thresholds.csv"])))
    assert [t["threshold"] for t in thresholds] == [t.name for t in info.thresholds]
    assert (thresholds[0]["low"], thresholds[0]["high"], thresholds[0]["steps"]) == ("", "0.2", "10")


def test_correlations_are_spearmans_over_rates_that_fit(info):
    found = {c.metric.name: c for c in map_facts.correlations(info)}
    assert found["conflicting"].rho == pytest.approx(1)
    assert found["bias_separation"].rho == found["steps_to_fit"].rho == pytest.approx(-1)
    assert found["conflicting"].n == 8 and found["conflicting"].p < 0.02 and "core_share" not in found
    flat = info
    for i, t in enumerate(info.trials):
        numbers = {**t.numbers, "l2": 1.0} if t.numbers else {}
        trials = [*flat.trials[:i], t.model_copy(update={"numbers": numbers}), *flat.trials[i + 1 :]]
        flat = flat.model_copy(update={"trials": trials})
    level = next(c for c in map_facts.correlations(flat) if c.metric.name == "l2")
    assert (level.rho, level.p) == (0.0, 1.0)
    few = info.model_copy(update={"rates": RATES[:3], "trials": [t for t in info.trials if t.rate <= 0.1]})
    assert map_facts.correlations(few) == []


def test_a_map_without_any_network_can_be_drawn(info):
    bare = info.model_copy(
        update={
            "trials": [t for t in info.trials if t.rate == 1.0],
            "rates": [1.0],
            "second_phase": [],
            "second_rates": None,
        }
    )
    page = map_page.documents(bare, "rows")["lr-map.html"]
    assert "Nothing can be said" in page and "not measured" in page and "Second phase" not in page


def test_the_docs_define_every_metric_as_the_page_does():
    page = (Path(__file__).parents[3] / "docs" / "lr-map.md").read_text()
    for m in METRICS:
        assert f"| {m.title} | `{m.name}` | {m.means.replace('|', '&#124;')} |" in page, m.name


@pytest.mark.parametrize(
    ("start", "says"), [("pretrained weights", "a map of fine-tuning"), ("given checkpoints", "trained elsewhere")]
)
def test_the_page_says_where_the_networks_come_from(info, start, says):
    assert says in map_facts.headline(info.model_copy(update={"start": start}))
    assert says not in map_facts.headline(info)
