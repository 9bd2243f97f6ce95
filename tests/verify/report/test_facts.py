"""The facts that every report shares, against the records that they come from."""

import json
from dataclasses import replace

import pytest

from verify.report import console, facts, job_summary, page


def test_every_file_has_its_scores_sizes_and_readings(judged):
    exported, measured = judged.exported.info, judged.measured
    found = {file.form.name: file for file in facts.forms(judged)}
    assert list(found) == [form.name for form in exported.forms]
    dense = found["dense-fp32"]
    for name, file in found.items():
        assert file.smaller == exported.dense.bytes / file.form.bytes
        assert {(score.form, group) for group, score in file.scores.items()} == {(name, g) for g in dense.scores}
        assert (file.latency, file.throughput) == (measured.latency[name], measured.throughput[name])
        assert file.latency_ratio == file.latency.p50_ms / dense.latency.p50_ms
        assert file.throughput_ratio == file.throughput.images_per_s / dense.throughput.images_per_s
        assert file.served == (name == "compact-int8")
    assert {name: file.role for name, file in found.items()} == {
        "compact-int8": "compressed, served",
        "dense-fp32": "uncompressed",
        "adam-fp32": "conventional",
        "adam-compact-int8": "conventional, compressed",
    }
    assert facts.served_and_dense(judged) == (found["compact-int8"], dense)


def test_what_is_not_known_is_none(judged, changed):
    served, _ = facts.served_and_dense(changed(judged, measured={"latency": {}, "throughput": {}}))
    assert (served.latency, served.latency_ratio, served.throughput, served.throughput_ratio) == (None,) * 4
    assert served.accuracy("label=gnu") is None and served.accuracy("label=cat") == 1.0
    reading = judged.measured.latency["compact-int8"]
    alone, _ = facts.served_and_dense(changed(judged, measured={"latency": {"compact-int8": reading}}))
    assert (alone.latency, alone.latency_ratio) == (reading, None)


@pytest.mark.parametrize(("group", "expected"), [("conflicting", "conflicting"), ("label=cat", "unbiased")])
def test_the_headline_is_conflicting_where_a_bias_is_known(judged, changed, group, expected):
    scores = [score for score in judged.verdict.info.scores if score.group == group]
    assert facts.headline_group(changed(judged, verdict={"scores": scores})) == expected


def test_the_worst_check_comes_first_and_equals_keep_their_order(check):
    given = [check(outcome, group=str(i)) for i, outcome in enumerate(["passed", "undecided", "failed", "undecided"])]
    assert [one.group for one in facts.worst_first(given)] == ["2", "1", "3", "0"]


def test_missing_baselines_are_named_with_the_reason(judged, changed):
    unfitted = (
        "momentum: this conventional recipe never fitted, so it is missing above "
        "(SGD with momentum 0.9: no seed fitted in 20000 steps)."
    )
    assert facts.missing_baselines(judged) == [unfitted]
    alone = changed(judged, compact={"baselines": []})
    assert facts.missing_baselines(alone) == [unfitted, "adam: this conventional network could not be compressed."]
    adam = judged.trained.info.baselines[0]
    twin = changed(judged, trained={"baselines": [adam.model_copy(update={"name": "twin", "trial": "sgd-0.2-0"})]})
    assert facts.missing_baselines(twin) == ["twin: this conventional recipe chose the same network, sgd-0.2-0."]


@pytest.fixture
def by_processors(judged, changed, tmp_path):
    """Return a function that says by which instructions the trials, the compression and the verdict were computed."""

    def make(trials, compression, verdict):
        for trial, names in zip(judged.trained.info.trials, trials, strict=False):
            (tmp_path / "trials" / trial.name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "trials" / trial.name / "measured.json").write_text(json.dumps({"instructions": names}))
        (tmp_path / "measured.json").write_text(json.dumps({"instructions": compression}))
        run = changed(judged, measured={"fingerprint": {**judged.measured.fingerprint, "instructions": verdict}})
        return replace(
            run, trained=replace(run.trained, folder=tmp_path), compact=replace(run.compact, folder=tmp_path)
        )

    return make


def test_processors_that_round_differently_are_told_everywhere(by_processors, judged, ended, tmp_path):
    run = by_processors([["A AVX2"], ["A AVX2", "B AVX-512"]], ["B AVX-512"], "B AVX-512")
    *before, said = facts.notes(run)
    assert before == judged.verdict.info.notes
    assert "A AVX2 (2 trials); B AVX-512 (1 trial, compression, verdict)" in said
    assert said in console.Summary(run, tmp_path).as_json()["notes"]
    page.write(tmp_path, "small", run)
    assert "round differently" in (tmp_path / "report.html").read_text()
    assert "round differently" in job_summary.document(ended(run), tmp_path)


def test_one_kind_of_processor_is_no_news(by_processors, judged):
    assert facts.notes(by_processors([["A AVX2"], ["A AVX2"]], ["A AVX2"], "A AVX2")) == judged.verdict.info.notes
