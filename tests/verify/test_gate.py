"""Every check of the gate, each with an artefact that is broken in exactly the way that check must catch."""

import re
from dataclasses import replace

import numpy as np
import pytest

from bigstep import rules
from bigstep.config import VerifyConfig
from bigstep.errors import RecordError
from bigstep.records.exported import Rung
from bigstep.records.verdict import Check
from bigstep.scores import Evidence, Outputs
from serve.predictor import Predictor
from verify import gate

CONFIG = VerifyConfig()


def gathered(world):
    images, compact, exported = world.records()
    logits = {
        form.name: Predictor.open(exported.folder / form.file, exported.info.contract).predict_all(
            images.split("test").images
        )
        for form in exported.info.forms
    }
    return Evidence.of(images, logits), compact, exported


def judged(world, config=CONFIG):
    evidence, compact, exported = gathered(world)
    checks = gate.checks(config, evidence, compact, exported)
    return {check.name: check for check in checks}, gate.outcome(checks)


def not_passed(checks):
    return {name: check.outcome for name, check in checks.items() if check.outcome != "passed"}


def test_sound_model_passes_every_check(world):
    checks, outcome = judged(world)
    assert not_passed(checks) == {}
    assert outcome == "passed"
    assert list(checks) == [
        "finite outputs (compact-int8)",
        "finite outputs (dense-fp32)",
        "not constant (compact-int8)",
        "bytes",
        "parity (compact: torch to fp32)",
        "parity (compact: fp32 to int8)",
        "group present (aligned)",
        "non-inferiority (aligned)",
        "group present (conflicting)",
        "non-inferiority (conflicting)",
        "floor (conflicting)",
    ]


def test_every_sentence_ends_and_carries_its_numbers(world):
    checks, _ = judged(world)
    assert all(check.says.endswith(".") for check in checks.values())
    says = checks["non-inferiority (conflicting)"].says
    assert "240 images (120 independent sources)" in says
    assert "3.00 points" in says
    assert "2.20 points" in says  # z^2 / (120 + z^2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_logit_fails_finite_outputs(world, value):
    world.served_bias = (value, 0.0, 0.0)
    checks, outcome = judged(world)
    assert checks["finite outputs (compact-int8)"].outcome == "failed"
    assert outcome == "failed"
    # Nothing is computed from such outputs: an all-NaN model would be right on every image of class 0.
    assert checks["non-inferiority (conflicting)"].measured is None
    assert {n for n, o in not_passed(checks).items() if o == "failed"} == {"finite outputs (compact-int8)"}


def test_one_non_finite_logit_is_enough(world):
    evidence, compact, exported = gathered(world)
    logits = evidence.forms["compact-int8"].logits.copy()
    logits[17, 2] = np.nan
    forms = {**evidence.forms, "compact-int8": Outputs.of(logits, evidence.split.labels)}
    checks = gate.checks(CONFIG, Evidence(evidence.split, evidence.values, forms), compact, exported)
    assert gate.outcome(checks) == "failed"
    assert next(c for c in checks if c.name == "finite outputs (compact-int8)").measured == 1


def test_non_finite_baseline_decides_nothing_and_passes_nothing(world):
    world.baseline = np.full((48, 3), np.nan, np.float32)
    evidence, compact, exported = gathered(world)
    assert gate.outcome(gate.checks(CONFIG, evidence, compact, exported)) == "passed"
    found = [c for c in gate.comparisons(CONFIG, evidence, exported) if c.form == "adam-fp32"]
    assert {c.outcome for c in found} == {"undecided"}
    assert all("not finite" in c.says for c in found)


def test_baseline_whose_file_disagrees_with_its_network_is_named(world):
    rung = Rung(network="adam", name="r", measure="argmax_agreement", measured=0.5, limit=0.97, n=64)
    world.ladder = (*world.ladder, rung)
    evidence, compact, exported = gathered(world)
    checks = gate.checks(CONFIG, evidence, compact, exported)
    assert gate.outcome(checks) == "passed"
    notes = gate.notes(CONFIG, evidence, compact, exported, gate.comparisons(CONFIG, evidence, exported))
    assert any(note.startswith("Do not trust this baseline. adam:") for note in notes)


def test_constant_model_fails_not_constant(world):
    world.served_bias = (0.0, 100.0, 0.0)
    checks, outcome = judged(world)
    assert checks["not constant (compact-int8)"].outcome == "failed"
    assert "predicts 1 different labels" in checks["not constant (compact-int8)"].says
    assert outcome == "failed"


def test_constant_dense_file_is_not_the_served_one(world):
    world.dense = np.zeros((48, 3), np.float32)
    checks, _ = judged(world)
    assert "not constant (dense-fp32)" not in checks
    assert checks["not constant (compact-int8)"].outcome == "passed"


def test_other_bytes_than_compression_judged_fail_bytes(world):
    world.compact_sha256 = "0" * 64
    checks, outcome = judged(world)
    assert not_passed(checks) == {"bytes": "failed"}
    assert outcome == "failed"


@pytest.mark.parametrize(
    ("measure", "measured", "limit", "expected"),
    [
        ("max_abs_difference", 1e-4, 1e-4, "passed"),
        ("max_abs_difference", 1.1e-4, 1e-4, "failed"),
        ("max_abs_difference", None, 1e-4, "failed"),
        ("argmax_agreement", 0.97, 0.97, "passed"),
        ("argmax_agreement", 0.96, 0.97, "failed"),
        ("argmax_agreement", None, 0.97, "failed"),
    ],
)
def test_rung_of_the_ladder(measure, measured, limit, expected):
    check = rules.parity(Rung(network="compact", name="r", measure=measure, measured=measured, limit=limit, n=8))
    assert check.outcome == expected
    assert check.measured is None or np.isfinite(check.measured)


def test_rung_beyond_its_limit_fails_the_gate(world):
    rung = Rung(network="compact", name="fp32 to int8", measure="argmax_agreement", measured=0.5, limit=0.97, n=64)
    world.ladder = (rung,)
    checks, outcome = judged(world)
    assert not_passed(checks) == {"parity (compact: fp32 to int8)": "failed"}
    assert outcome == "failed"


@pytest.mark.parametrize("group", ["colour=mauve", "shape=round", "label=", "label=cat,colour=teal"])
def test_declared_group_without_images_is_undecided(world, group):
    checks, outcome = judged(world, CONFIG.model_copy(update={"groups": ("conflicting", group)}))
    assert not_passed(checks) == {
        f"group present ({group})": "undecided",
        f"non-inferiority ({group})": "undecided",
    }
    assert "the data has: label: cat, dog, emu; colour: red, green, blue." in checks[f"group present ({group})"].says
    assert outcome == "undecided"


def test_too_few_independent_sources_are_undecided(world):
    checks, outcome = judged(world, CONFIG.model_copy(update={"groups": ("label=cat",), "min_group": 41}))
    assert not_passed(checks)["group present (label=cat)"] == "undecided"
    assert checks["group present (label=cat)"].measured == 40  # 120 images of 40 sources
    assert checks["group present (label=cat)"].n == 120
    assert outcome == "undecided"


def test_worse_model_fails_non_inferiority(world, model_weights):
    world.served = model_weights(1)  # wrong on 12 of 120 sources
    checks, outcome = judged(world)
    assert not_passed(checks) == {"non-inferiority (conflicting)": "failed"}
    assert checks["non-inferiority (conflicting)"].measured == pytest.approx(0.10)
    assert outcome == "failed"


def test_borderline_model_is_undecided_and_says_what_would_decide(world, model_weights):
    world.served = model_weights(0)  # wrong on 2 of 120 sources: 1.67 points, but up to 4.8
    checks, outcome = judged(world)
    assert not_passed(checks) == {"non-inferiority (conflicting)": "undecided"}
    check = checks["non-inferiority (conflicting)"]
    assert check.measured == pytest.approx(2 / 120)
    assert check.bound > CONFIG.margin
    assert "smallest drop it could have shown" in check.says
    assert "about 480 independent sources would decide" in check.says
    assert outcome == "undecided"


def test_number_of_sources_that_would_decide_is_right_where_it_is_known():
    nothing_lost, sources = np.ones(40, bool), np.arange(40)
    # Without a discordant pair the bound is z^2 / (n + z^2), so 3 points need 87.5 sources: 3 times 40 do, 2 do not.
    assert rules.sources_to_decide(nothing_lost, nothing_lost, sources, CONFIG) == 120


def test_no_number_of_sources_decides_at_the_margin():
    before, after = np.ones(100, bool), np.arange(100) >= 3
    assert rules.sources_to_decide(before, after, np.arange(100), CONFIG) is None


def test_better_model_passes(world, model_weights):
    world.dense = model_weights(1)
    checks, outcome = judged(world)
    assert outcome == "passed"
    assert checks["non-inferiority (conflicting)"].measured == pytest.approx(-0.10)


def test_non_finite_dense_file_never_lets_the_served_one_pass(world):
    world.dense = np.full((48, 3), np.nan, np.float32)
    checks, outcome = judged(world)
    assert checks["finite outputs (dense-fp32)"].outcome == "failed"
    assert checks["non-inferiority (conflicting)"].outcome == "undecided"
    assert outcome == "failed"


def test_model_that_looks_at_the_colour_alone_fails_the_floor(world, model_weights):
    world.dense = world.served = model_weights(by_colour=True)  # as bad as the dense file: only the floor sees it
    checks, outcome = judged(world)
    assert not_passed(checks) == {"floor (conflicting)": "failed"}
    assert checks["floor (conflicting)"].limit == pytest.approx(1 / 3)
    assert outcome == "failed"


@pytest.mark.parametrize(
    ("floor", "expected"), [(0.80, "passed"), (0.88, "undecided"), (0.9, "failed"), (0.95, "failed")]
)
def test_floor_compares_the_lower_bound(world, model_weights, floor, expected):
    world.dense = world.served = model_weights(1)  # 108 of 120 sources right: 90 %
    checks, outcome = judged(world, CONFIG.model_copy(update={"floor": floor}))
    assert checks["floor (conflicting)"].outcome == expected
    assert outcome == expected


def test_floor_without_a_bias_attribute_takes_all_images(world):
    world.attributes = False
    checks, _ = judged(world, CONFIG.model_copy(update={"groups": ("label=cat",)}))
    assert checks["floor (all)"].outcome == "passed"
    assert checks["floor (all)"].n == 360


def test_outcome_is_the_worst_and_nothing_at_all_is_undecided():
    def check(outcome):
        return Check(rule="bytes", outcome=outcome, relation="<=", limit=None, n=0, says="It says.")

    assert gate.outcome([]) == "undecided"
    assert gate.outcome([check("passed"), check("undecided")]) == "undecided"
    assert gate.outcome([check("undecided"), check("failed"), check("passed")]) == "failed"
    assert gate.outcome([check("passed")]) == "passed"


def test_two_dense_files_are_refused(world):
    _, _, exported = world.records()
    dense = exported.info.form("dense-fp32")
    twice = exported.info.model_copy(update={"forms": [dense, dense]})
    with pytest.raises(RecordError, match="one uncompressed float32 file"):
        assert twice.dense


def comparison(world):
    evidence, compact, exported = gathered(world)
    checks = gate.checks(CONFIG, evidence, compact, exported)
    compared = gate.comparisons(CONFIG, evidence, exported)
    notes = gate.notes(CONFIG, evidence, compact, exported, compared)
    return {(c.form, c.group): c for c in compared}, gate.outcome(checks), notes


def test_cells_without_test_images_are_told(world):
    """Their accuracy is unknown, and the mean leaves them out."""
    evidence, compact, exported = gathered(world)
    compared = gate.comparisons(CONFIG, evidence, exported)
    more = replace(evidence, values={**evidence.values, "colour": [*evidence.values["colour"], "mauve"]})
    told = [
        [
            note
            for note in gate.notes(CONFIG, one, compact, exported, compared)
            if note.startswith("Unbiased accuracy is")
        ]
        for one in (evidence, more)
    ]
    assert told[0] == [] and "the mean over 9 of 12 cells of label and bias" in told[1][0]


def test_failing_baseline_is_reported_but_does_not_decide(world):
    compared, outcome, notes = comparison(world)
    assert compared["adam-compact-int8", "conflicting"].outcome == "failed"
    assert compared["adam-fp32", "conflicting"].outcome == "failed"
    assert {check.rule for check in compared.values()} == {"non-inferiority"}
    assert outcome == "passed"
    [told] = [note for note in notes if note.startswith("adam-compact-int8 (conventional, compressed alike)")]
    assert (
        "would fail the same rule in: conflicting; on conflicting images it is less accurate than the served file"
        in told
    )
    assert not any("no advantage" in note for note in notes)


def test_no_failing_baseline_is_said_plainly(world, model_weights):
    world.compact_baseline = model_weights()
    _, _, notes = comparison(world)
    [told] = [note for note in notes if note.startswith("adam-compact-int8 (conventional, compressed alike)")]
    assert "would pass the same rule; on conflicting images it is not surely different from the served file" in told
    assert notes[-1].startswith("No compressed conventional network would fail")
    assert notes[-1].endswith("no advantage of the large learning rate.")


def test_rival_that_never_fitted_again_is_no_fair_rival(world):
    evidence, compact, exported = gathered(world)
    hurried = [m.model_copy(update={"fitted": False}) for m in compact.info.baselines]
    spoilt = replace(compact, info=compact.info.model_copy(update={"baselines": hurried}))
    notes = gate.notes(CONFIG, evidence, spoilt, exported, gate.comparisons(CONFIG, evidence, exported))
    assert "adam-compact-int8 (conventional, compressed) never fitted again after pruning: no fair rival." in notes
    assert not any("would fail the same rule" in note for note in notes)


def test_baseline_better_than_the_dense_network_is_said_plainly(world, model_weights):
    world.dense = world.served = model_weights(1)
    world.baseline = model_weights()
    _, _, notes = comparison(world)
    told = "adam-fp32 (conventional) is more accurate than dense-fp32, with 95% confidence, in: conflicting."
    assert told in notes


def test_gain_is_called_a_gain(world, model_weights):
    world.dense = model_weights(1)
    checks, _ = judged(world)
    says = checks["non-inferiority (conflicting)"].says
    assert "a gain of 10.00 points (with 95% confidence, a gain of at least" in says
    assert not re.search(r"-\d", says)


def test_notes_state_the_smallest_detectable_drop_of_every_gated_group(world):
    _, _, notes = comparison(world)
    for group in CONFIG.groups:
        assert any(note.startswith(f"{group}: the smallest true drop") for note in notes)
